"""multipart/related: the same parts, however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.multipart import (
    Event,
    MultipartError,
    PartBegins,
    PartData,
    PartEnds,
    PartsParser,
    media_type,
)

BOUNDARY = "=_b.1"
DELIMITER = f"--{BOUNDARY}".encode()

# content that looks like delimiters, cut anywhere, is what breaks such parsers
PARTIAL = DELIMITER[:-1]
pieces = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"-",
        b"--",
        b"\r\n--",
        PARTIAL,
        b"\r\n" + PARTIAL,
        b"\0" * 40,
    ]
)
contents = (
    st.lists(pieces | st.binary(max_size=20), max_size=8)
    .map(b"".join)
    .filter(lambda content: b"\r\n" + DELIMITER not in content)
)
parts_lists = st.lists(contents, min_size=1, max_size=4)


def message(
    parts: list[bytes], *, prologue: bytes = b"", epilogue: bytes = b""
) -> bytes:
    """Return the parts as a message."""
    head = b"\r\nContent-Type: application/dicom\r\nContent-ID: <x>\r\n\r\n"
    body = b"\r\n".join(DELIMITER + head + part for part in parts)
    return prologue + body + b"\r\n" + DELIMITER + b"--" + epilogue


def contents_of(events: list[Event]) -> list[bytes]:
    """Return the content of each part that ended, after checking the order of events."""
    found: list[bytes] = []
    current: bytes | None = None
    for event in events:
        match event:
            case PartBegins():
                assert current is None
                assert event.media_type == "application/dicom"
                current = b""
            case PartData(content):
                assert current is not None
                current += content
            case PartEnds():
                assert current is not None
                found.append(current)
                current = None
    assert current is None
    return found


def parse(chunks: list[bytes]) -> list[bytes]:
    """Return the parts of a message that comes in these chunks."""
    parser = PartsParser(BOUNDARY)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    parser.finish()
    return contents_of(events)


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """Return the bytes, cut at these places."""
    marks = sorted({0, len(whole), *(p % (len(whole) + 1) for p in places)})
    return [whole[a:b] for a, b in pairwise(marks)]


@given(parts_lists, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_chunking_gives_the_same_parts(
    parts: list[bytes], places: list[int]
) -> None:
    """However a message is cut, each part comes out byte by byte as it went in."""
    assert parts == parse(cut(message(parts), places))


@given(parts_lists)
def test_byte_by_byte(parts: list[bytes]) -> None:
    """A message that comes a byte at a time gives the same parts."""
    whole = message(parts)
    assert parts == parse([whole[i : i + 1] for i in range(len(whole))])


def test_line_breaks_before_and_an_epilogue() -> None:
    """Some senders begin with a line break, or put one behind the end."""
    assert parse([message([b"a", b"b"], prologue=b"\r\n", epilogue=b"\r\nmore")]) == [
        b"a",
        b"b",
    ]


@given(parts_lists, st.integers(0, 10_000))
def test_a_message_cut_off_is_an_error(parts: list[bytes], place: int) -> None:
    """Without its closing delimiter a message is no message."""
    whole = message(parts)
    with pytest.raises(MultipartError):
        parse([whole[: place % (len(whole) - 1)]])


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_else(garbage: bytes) -> None:
    """Bytes that are no message raise `MultipartError`, never another exception."""
    with pytest.raises(MultipartError):
        parse([b"x" + garbage])


def test_endless_headers_are_an_error() -> None:
    """A header line has an end, else memory had none."""
    parser = PartsParser(BOUNDARY)
    parser.feed(DELIMITER + b"\r\nX: ")
    with pytest.raises(MultipartError):
        parser.feed(b"y" * 100_000)


def test_nothing_is_kept_of_a_long_part() -> None:
    """What was fed comes out at once, but for a partial delimiter."""
    parser = PartsParser(BOUNDARY)
    parser.feed(DELIMITER + b"\r\n\r\n")
    chunk = bytes(1 << 20)
    for _ in range(4):
        events = parser.feed(chunk)
        out = sum(len(e.content) for e in events if isinstance(e, PartData))
        assert out >= len(chunk) - len(DELIMITER) - 4


@pytest.mark.parametrize("boundary", ["", "b" * 71, "grün"])
def test_a_boundary_is_1_to_70_ascii_characters(boundary: str) -> None:
    """RFC 2046 5.1.1."""
    with pytest.raises(MultipartError):
        PartsParser(boundary)


def test_media_type_with_quoted_parameters() -> None:
    """Names come in lower case, values as they are, quotes removed."""
    value = 'Multipart/Related; type="application/dicom"; Boundary=aB'
    expected = ("multipart/related", {"type": "application/dicom", "boundary": "aB"})
    assert expected == media_type(value)
