"""System calls as strace saw them: its lines to values, and the order of a receipt.

Pure: text in, values out. The lines are those of ``strace -f -tt -y -o FILE`` (strace
6.1, strace(1)). A call during which another thread made one stands on two lines,
``<unfinished ...>`` and ``<... resumed>``: it began on the first and ended on the second.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

WRITES = frozenset({"write", "writev", "pwrite64", "pwritev", "pwritev2"})
SENDS = frozenset({"sendto", "sendmsg", "sendmmsg"}) | WRITES
SYNCS = frozenset({"fsync", "fdatasync"})
RENAMES = frozenset({"rename", "renameat", "renameat2"})
FOLDERS = frozenset({"mkdir", "mkdirat"})
TRACED = (*sorted(SENDS | SYNCS | RENAMES | FOLDERS),)
"""The calls that `disorder` has to see."""
DATA = b"\x04"
"""The type of a P-DATA-TF PDU (PS3.8 9.3.5); the PDUs of an association have others."""

_LINE = re.compile(r"(\d+)\s+(\d\d:\d\d:\d\d\.\d+)\s(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(.*)", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"\d+<(.*?)>(?=[(,<\s]|$)")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call.

    Parameters
    ----------
    at
        The time of day at which it began, local time.
    on
        What its first argument is open on: a path, or ``socket:[…]``; else empty.
    texts
        The character strings among its arguments, as far as strace shows them.
    succeeded
        Whether the kernel did it. A call that strace answered itself it did not do.
    began, ended
        The numbers of its lines: what ended on a line before that on which another
        call began happened before it.
    """

    thread: int
    at: str
    name: str
    on: str
    texts: tuple[bytes, ...]
    succeeded: bool
    began: int
    ended: int

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the strings as paths."""
        return tuple(text.decode(errors="surrogateescape") for text in self.texts)


@dataclass(frozen=True, slots=True)
class _Begun:
    at: str
    text: str
    line: int


def calls(lines: Iterable[str]) -> list[Call]:
    """Return the calls of a trace that came to their end, by where they began."""
    begun: dict[int, _Begun] = {}
    found = []
    for number, line in enumerate(lines):
        if (match := _LINE.fullmatch(line.rstrip("\n"))) is None:
            continue
        thread, at, text = int(match[1]), match[2], match[3]
        if text.endswith(_UNFINISHED):
            begun[thread] = _Begun(at, text.removesuffix(_UNFINISHED), number)
            continue
        start = _Begun(at, "", number)
        if resumed := _RESUMED.fullmatch(text):
            start = begun.pop(thread, start)
            text = start.text + resumed[2]
        if call := _CALL.fullmatch(text):
            found.append(_call(thread, start, call, ended=number))
    return sorted(found, key=lambda call: call.began)


def _call(thread: int, start: _Begun, match: re.Match[str], *, ended: int) -> Call:
    name, arguments, result, rest = match.groups()
    on = _DESCRIPTOR.match(arguments)
    return Call(
        thread=thread,
        at=start.at,
        name=name,
        on=on[1] if on and name not in RENAMES | FOLDERS else "",
        texts=tuple(_unescaped(text) for text in _TEXT.findall(arguments)),
        succeeded=result.isdecimal() and "(INJECTED)" not in rest,
        began=start.line,
        ended=ended,
    )


def _unescaped(text: str) -> bytes:
    """Return what strace shows escaped as in C; Python's escapes are the same."""
    value = ast.literal_eval(f'b"{text}"')
    assert isinstance(value, bytes)
    return value


def disorder(trace: Sequence[Call], *, kept: str, uid: str) -> list[str]:
    """Return what was done too late, or never, before an instance was acknowledged.

    Parameters
    ----------
    trace
        The node's calls, from its start on.
    kept
        Where the instance lies in the spool.
    uid
        Its SOP Instance UID: the acknowledgement names it.
    """
    done = [call for call in trace if call.succeeded]
    renames = [c for c in done if c.name in RENAMES and c.paths[-1] == kept]
    if len(renames) != 1:
        return [f"it was renamed into place {len(renames)} times"]
    (renamed,) = renames
    answered = _answer(done, uid)
    if answered is None:
        return ["no answer names it"]
    return [
        *_file_faults(done, renamed, kept),
        *_folder_faults(done, renamed, answered),
        *_new_folder_faults(done, kept, answered),
    ]


def _answer(done: Sequence[Call], uid: str) -> Call | None:
    """Return the first bytes of the answer that names the instance.

    It is the only one that came on its connection. An association has said other
    things before, but no P-DATA: of these the node sends none but answers. Over HTTP
    everything is the answer.
    """
    sent = [c for c in done if c.name in SENDS and c.on.startswith("socket:")]
    naming = next((c for c in sent if uid.encode() in b"".join(c.texts)), None)
    if naming is None:
        return None
    same = [c for c in sent if c.on == naming.on]
    return (_data(same) or same)[0]


def _data(sent: Sequence[Call]) -> list[Call]:
    return [call for call in sent if call.texts and call.texts[0].startswith(DATA)]


def _file_faults(done: Sequence[Call], renamed: Call, kept: str) -> list[str]:
    places = {renamed.paths[0], kept}
    written = [c for c in done if c.name in WRITES and c.on in places]
    if not written:
        return ["nothing was written"]
    last = max(call.ended for call in written)
    if not _synced(done, renamed.paths[0], after=last, before=renamed):
        return ["no fsync of the file between its last byte and the rename"]
    return []


def _folder_faults(done: Sequence[Call], renamed: Call, answered: Call) -> list[str]:
    folder = str(PurePosixPath(renamed.paths[-1]).parent)
    if not _synced(done, folder, after=renamed.ended, before=answered):
        return ["no fsync of the folder between the rename and the answer"]
    return []


def _new_folder_faults(done: Sequence[Call], kept: str, answered: Call) -> list[str]:
    """Return which folders above the file were made and may be lost again."""
    above = {str(folder) for folder in PurePosixPath(kept).parents}
    made = {c.paths[0]: c for c in done if c.name in FOLDERS and c.paths[0] in above}
    return [
        f"no fsync of the folder in which {PurePosixPath(folder).name} was made"
        for folder, call in made.items()
        if not _synced(
            done,
            str(PurePosixPath(folder).parent),
            after=call.ended,
            before=answered,
        )
    ]


def _synced(done: Sequence[Call], path: str, *, after: int, before: Call) -> bool:
    """Return whether an fsync began after a line and had ended before a call."""
    return any(
        call.on == path and call.began > after and call.ended < before.began
        for call in done
        if call.name in SYNCS
    )
