"""What is read from strace's lines, and which orders of a receipt are found wrong."""

import pytest

from tests.syscalls import Call, calls, disorder

TEMPORARY, KEPT = "/data/spool/incoming/tmp1.dcm", "/data/spool/ab/ab12.dcm"
UID = "1.2.3.4"

MADE = f'mkdir("{KEPT[:14]}", 0700) = 0'
SPOOL_SYNCED = "fsync(6</data/spool>) = 0"
WRITTEN = f'write(7<{TEMPORARY}>, "\\0\\0"..., 4096) = 4096'
SIGNED = f'pwrite64(7<{TEMPORARY}>, "pacsight", 8, 0) = 8'
SYNCED = f"fsync(7<{TEMPORARY}>) = 0"
RENAMED = f'rename("{TEMPORARY}", "{KEPT}") = 0'
FOLDER_SYNCED = "fsync(7</data/spool/ab>) = 0"
ACCEPTED = 'sendto(9<socket:[55]>, "\\2\\0\\0\\0\\0\\276", 190, 0, NULL, 0) = 190'
COMMAND = 'sendto(9<socket:[55]>, "\\4\\0\\0\\0\\0\\12", 16, 0, NULL, 0) = 16'
STORED = f'sendto(9<socket:[55]>, "\\4\\0\\0\\000{UID}", 140, 0, NULL, 0) = 140'
OK = 'sendto(9<socket:[55]>, "HTTP/1.1 200 OK", 132, 0, NULL, 0) = 132'
BODY = f'write(9<socket:[55]>, "{{\\"Value\\":[\\"{UID}\\"]}}", 132) = 132'
FOR_ANOTHER = OK.replace("55", "56")

STORE = (
    *(MADE, SPOOL_SYNCED, FOR_ANOTHER, ACCEPTED),
    *(WRITTEN, SIGNED, SYNCED, RENAMED, FOLDER_SYNCED, STORED),
)
STOW = (WRITTEN, SIGNED, SYNCED, RENAMED, FOLDER_SYNCED, OK, BODY)

FILE_LATE = "no fsync of the file between its last byte and the rename"
FOLDER_LATE = "no fsync of the folder between the rename and the answer"
SHARD_LOST = "no fsync of the folder in which ab was made"


def trace(*lines: str) -> list[Call]:
    """Return the calls of these lines, all of one thread."""
    return calls(f"100  18:20:01.123456 {line}\n" for line in lines)


def found(*lines: str) -> list[str]:
    """Return what is wrong with these lines."""
    return disorder(trace(*lines), kept=KEPT, uid=UID)


def without(lines: tuple[str, ...], *left_out: str) -> list[str]:
    """Return the lines, some of them left out."""
    return [line for line in lines if line not in left_out]


def swapped(lines: tuple[str, ...], one: str, other: str) -> list[str]:
    """Return the lines, two of them in each other's place."""
    places = {one: other, other: one}
    return [places.get(line, line) for line in lines]


def test_a_call_that_was_interrupted_spans_its_lines() -> None:
    """Its arguments stand on the first line, its result on the second."""
    lines = [
        "100 18:20:01.000001 fsync(7</data/a> <unfinished ...>",
        '101 18:20:01.000002 write(8</data/b>, "x", 1 <unfinished ...>',
        "100 18:20:01.000003 <... fsync resumed>)         = 0",
        "101 18:20:01.000004 <... write resumed>)         = 1",
    ]

    assert [(c.thread, c.name, c.on, c.began, c.ended) for c in calls(lines)] == [
        (100, "fsync", "/data/a", 0, 2),
        (101, "write", "/data/b", 1, 3),
    ]


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ('write(1</a>, "\\4\\0\\0001\\n\\"", 6) = 6', (b'\x04\x00\x001\n"',)),
        ('write(1</a>, "f(x) = 1, \\"y\\"", 9) = 9', (b'f(x) = 1, "y"',)),
        ('write(1</a>, "abc"..., 4096) = 4096', (b"abc",)),
        ('renameat2(3</a>, "b", 3</a>, "c", 0) = 0', (b"b", b"c")),
        ('writev(3<socket:[5]>, [{iov_base="a", iov_len=1}], 1) = 1', (b"a",)),
        ("fsync(3</a>) = 0", ()),
    ],
)
def test_the_strings_of_a_call_are_unescaped(
    line: str, texts: tuple[bytes, ...]
) -> None:
    """As bytes, whatever stands in them."""
    (call,) = trace(line)

    assert (call.texts, call.succeeded) == (texts, True)


@pytest.mark.parametrize(
    "line",
    [
        "fsync(3</a>) = -1 EIO (Input/output error)",
        "fsync(3</a>) = -1 EIO (Input/output error) (INJECTED)",
        "fsync(3</a>) = 0 (INJECTED)",
        "fsync(3</a>) = ?",
    ],
)
def test_what_the_kernel_did_not_do_did_not_succeed(line: str) -> None:
    """It failed, or strace answered it, or the process was killed meanwhile."""
    (call,) = trace(line)

    assert not call.succeeded


def test_what_is_no_call_is_passed_over() -> None:
    """Signals, ends, and a call that never came to its end."""
    lines = [
        "100 18:20:01.000001 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER} ---",
        "100 18:20:01.000002 fsync(7</data/a> <unfinished ...>",
        "100 18:20:01.000003 +++ exited with 0 +++",
        "strace: Process 101 attached",
    ]

    assert calls(lines) == []


@pytest.mark.parametrize("lines", [STORE, STOW, STORE[3:]], ids=["store", "stow", "-"])
def test_the_right_order_is_found_right(lines: tuple[str, ...]) -> None:
    """Of a first instance, of one over HTTP, and of one whose folder was there."""
    assert found(*lines) == []


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (without(STORE, SYNCED), FILE_LATE),
        (swapped(STORE, SYNCED, SIGNED), FILE_LATE),
        (swapped(STORE, SYNCED, RENAMED), FILE_LATE),
        (without(STORE, FOLDER_SYNCED), FOLDER_LATE),
        (swapped(STORE, RENAMED, FOLDER_SYNCED), FOLDER_LATE),
        (swapped(STORE, STORED, FOLDER_SYNCED), FOLDER_LATE),
        (swapped(STOW, BODY, FOLDER_SYNCED), FOLDER_LATE),
        (swapped(STOW, OK, FOLDER_SYNCED), FOLDER_LATE),
        ([*STORE[:8], COMMAND, *STORE[8:]], FOLDER_LATE),
        ([*STORE, SIGNED.replace(TEMPORARY, KEPT)], FILE_LATE),
        (without(STORE, SPOOL_SYNCED), SHARD_LOST),
        (swapped(STORE, MADE, SPOOL_SYNCED), SHARD_LOST),
        (without(STORE, WRITTEN, SIGNED), "nothing was written"),
        (without(STORE, RENAMED), "it was renamed into place 0 times"),
        (without(STORE, STORED), "no answer names it"),
    ],
)
def test_a_wrong_order_is_found(lines: list[str], wrong: str) -> None:
    """Each step that is missing or comes too late."""
    assert found(*lines) == [wrong]


def test_an_fsync_that_lasts_beyond_the_answer_is_too_late() -> None:
    """It counts from its end, not from its beginning."""
    lines = [f"100 18:20:01.000001 {line}" for line in without(STORE, FOLDER_SYNCED)]
    begins = "101 18:20:01.000002 fsync(7</data/spool/ab> <unfinished ...>"
    ends = "101 18:20:01.000003 <... fsync resumed>) = 0"
    *before, answer = lines

    assert disorder(calls([*before, begins, ends, answer]), kept=KEPT, uid=UID) == []
    late = calls([*before, begins, answer, ends])
    assert disorder(late, kept=KEPT, uid=UID) == [FOLDER_LATE]
