"""A DICOM file, read as far as its header and checked to its last byte.

PS3.10 7 (file format), PS3.5 7 (data elements), A.4 (encapsulated pixel data) and
A.5 (deflated). Element lengths are followed from the first element to the end of
the file, so that a truncated file is found without reading a pixel. Values are
given as bytes; what they mean is not known here.

pydicom reads headers too, but takes a value that ends early as it is, and builds
every item of a sequence that nobody asked for.
"""

import zlib
from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BufferedReader, BytesIO, RawIOBase
from struct import Struct
from typing import Any, NoReturn

from dicom_node.errors import CANNOT_UNDERSTAND, Rejected

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    }
)

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float Pixel Data, Double Float Pixel Data, Pixel Data."""

TRANSFER_SYNTAX = 0x00020010
MAGIC_AT = 128
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONGEST_VALUE = 1 << 20
"""Longer values are not given to the caller."""
DEEPEST = 64
"""Sequences may be nested so deep."""
MOST_INFLATED = 16 << 30
CHUNK = 1 << 16
BUFFER = 1 << 16
"""So much is read ahead: the headers of most images."""
TRUNCATED = "truncated: it ends within an element"
DAMAGED = "a sequence is damaged"
EVERYTHING = range(1 << 32)

_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"}
    | {b"UT", b"UV"}
)
"""VRs with 32 bits for the length (PS3.5 Table 7.1-1)."""
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"}
    | {b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
"""VRs with 16 bits for the length."""
_BYTES = frozenset({b"OB", b"OW"})
"""VRs whose value of undefined length is made of fragments, not of items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """The value of a data element, as encoded.

    Parameters
    ----------
    vr
        As stated; empty where the encoding is implicit.
    """

    vr: str
    value: bytes

    @property
    def text(self) -> str:
        """Return the value without padding, if it is of the default repertoire."""
        return self.value.decode("ascii", "replace").strip("\0 ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a DICOM file says, as far as it was asked.

    Parameters
    ----------
    transfer_syntax_uid
        From the File Meta Information.
    data_set_at
        Where the data set begins, bytes from the start of the file.
    implicit, little
        How the data set is really encoded.
    elements
        The wanted elements that are there, by tag. A sequence's value is its
        items, without the delimiter that may follow.
    has_pixels
        Whether there is pixel data that is not empty.
    """

    transfer_syntax_uid: str
    data_set_at: int
    implicit: bool
    little: bool
    elements: Mapping[int, Element]
    has_pixels: bool


def read_head(file: "BufferedReader[Any]", size: int, wanted: AbstractSet[int]) -> Head:
    """Return the wanted elements of the file, of which every byte is accounted for.

    Parameters
    ----------
    file
        At its start, seekable; best with `BUFFER` bytes read ahead.
    size
        Its length in bytes.
    wanted
        Tags of top-level elements.

    Raises
    ------
    Rejected
        If it is no DICOM file, is truncated, or cannot be understood.
    """
    if file.read(MAGIC_AT + 4)[MAGIC_AT:] != b"DICM":
        _reject("not a DICOM file: no DICM prefix")
    span = _Span(file, MAGIC_AT + 4, size)
    syntax = _transfer_syntax(span)
    data_set_at = span.at
    if syntax in DEFLATED:
        span = _InflatedSpan(file)
    start = span.peek(6)
    implicit = syntax == IMPLICIT_LITTLE
    if len(start) == 6:  # noqa: PLR2004 - tag and VR; some state another encoding
        implicit = not _is_vr(start[4:])
    little = syntax != EXPLICIT_BIG
    walk = _Walk(span, _Encoding(implicit=implicit, little=little), wanted)
    walk.to_the_end()
    return Head(
        transfer_syntax_uid=syntax,
        data_set_at=data_set_at,
        implicit=implicit,
        little=little,
        elements=walk.found,
        has_pixels=walk.has_pixels,
    )


def items(head: Head, sequence: Element) -> Sequence[Mapping[int, Element]]:
    """Return the elements of each item of a sequence, by tag."""
    value = sequence.value
    span = _Span(BufferedReader(BytesIO(value)), 0, len(value))
    implicit = head.implicit or sequence.vr == "UN"
    encoding = _Encoding(implicit=implicit, little=head.little)
    found = []
    while not span.at_end():
        walk = _Walk(span, encoding, EVERYTHING)
        walk.item()
        found.append(walk.found)
    return found


def _transfer_syntax(span: "_Span") -> str:
    """Return what the File Meta Information says, and stop behind it."""
    meta = _Walk(span, _Encoding(implicit=False, little=True), {TRANSFER_SYNTAX})
    while span.peek(2) == b"\2\0":
        meta.element()
    stated = meta.found.get(TRANSFER_SYNTAX)
    if stated is None or not stated.text:
        _reject("its File Meta Information names no transfer syntax")
    return stated.text


class _Encoding:
    """How element headers are packed."""

    def __init__(self, *, implicit: bool, little: bool) -> None:
        order = "<" if little else ">"
        self.implicit = implicit
        header = Struct(f"{order}HHL" if implicit else f"{order}HH2sH")
        self.header_from = header.unpack_from
        self.length_from = Struct(f"{order}L").unpack_from
        self.explicit_header = Struct(f"{order}HH2sH").unpack
        self.implicit_header = Struct(f"{order}HHL").unpack
        self.length = Struct(f"{order}L").unpack
        self.little = little

    def inside(self, vr: bytes) -> "_Encoding":
        """Return the encoding of an element's items: UN has implicit ones (6.2.2)."""
        return _Encoding(implicit=True, little=self.little) if vr == b"UN" else self


class _Span:
    """A file from where it stands: read forward, never beyond its end."""

    def __init__(self, file: "BufferedReader[Any]", at: int, size: int) -> None:
        self._file = file
        self._size = size
        self._kept: list[bytes] | None = None
        self._room = 0
        self.at = at

    def take(self, count: int) -> bytes:
        """Return the next bytes, all of them."""
        self.at += count
        data = self._file.read(count) if self.at <= self._size else b""
        if len(data) != count:
            _reject(TRUNCATED)
        if self._kept is not None:
            self._keep(data)
        return data

    def skip(self, count: int) -> None:
        """Go on without looking at the next bytes; they have to be there."""
        if self._kept is not None and count <= self._room:
            self.take(count)
            return
        self._kept = None
        self.at += count
        if self.at > self._size:
            _reject(TRUNCATED)
        self._pass(count)

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end, and stay where we are."""
        data = self._file.read(count)
        self._file.seek(self.at)
        return data

    def ahead(self) -> bytes:
        """Return what is read ahead, however much that is."""
        return self._file.peek()

    def at_end(self) -> bool:
        """Return whether nothing follows."""
        return self.at == self._size

    def rest_is_zero(self) -> bool:
        """Return whether only zeros follow; go to the end."""
        while data := self._file.read(CHUNK):
            if data.strip(b"\0"):
                return False
        self.at = self._size
        return True

    def record(self) -> None:
        """Begin to keep what is passed, as long as it is not too long."""
        self._kept, self._room = [], LONGEST_VALUE

    def recorded(self) -> list[bytes] | None:
        """Return what was passed since, piece by piece, or None if too long."""
        kept, self._kept = self._kept, None
        return kept

    def _pass(self, count: int) -> None:  # noqa: ARG002 - where it cannot be sought
        self._file.seek(self.at)

    def _keep(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(data)


class _Inflated(RawIOBase):
    """The inflated bytes of the rest of a file, in bounded memory, read once."""

    def __init__(self, file: "BufferedReader[Any]") -> None:
        self._source = file
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._source.read(CHUNK)
            try:
                inflated = self._inflate.decompress(data, len(buffer))
            except zlib.error:
                _reject("the deflated data set is damaged")
            if inflated:
                buffer[: len(inflated)] = inflated
                return len(inflated)
            if not data:
                _reject("truncated: the deflated data set has no end")
        return 0


class _InflatedSpan(_Span):
    """A deflated data set, inflated while it is walked over (PS3.5 A.5)."""

    def __init__(self, file: "BufferedReader[Any]") -> None:
        super().__init__(BufferedReader(_Inflated(file), BUFFER), 0, MOST_INFLATED)

    def peek(self, count: int) -> bytes:
        return self._file.peek(count)[:count]

    def at_end(self) -> bool:
        return not self.peek(1)

    def _pass(self, count: int) -> None:
        while count > 0:
            passed = len(self._file.read(min(count, CHUNK)))
            if not passed:
                _reject(TRUNCATED)
            count -= passed


class _Walk:
    """The way over the elements of a data set, keeping the wanted ones."""

    def __init__(
        self, span: _Span, encoding: _Encoding, wanted: Container[int]
    ) -> None:
        self.found: dict[int, Element] = {}
        self.has_pixels = False
        self._span = span
        self._encoding = encoding
        self._wanted = wanted

    def to_the_end(self) -> None:
        """Follow every top-level element to the end of the data set."""
        skim = self._skim_implicit if self._encoding.implicit else self._skim_explicit
        while not self._span.at_end():
            data = self._span.ahead()
            passed = skim(data)
            if passed:
                self._span.skip(passed)
            elif self.element() == 0 and self._span.rest_is_zero():
                return  # some archives pad to whole blocks

    def item(self) -> None:
        """Follow the next item of a sequence (PS3.5 7.5)."""
        tag, length = self._item_header(self._encoding)
        if tag != ITEM:
            _reject(DAMAGED)
        end = self._span.at + length
        while length == UNDEFINED or self._span.at < end:
            if self.element() == ITEM_END:
                return

    def element(self) -> int:
        """Follow one element; return its tag."""
        tag, vr, length = self._header(self._encoding)
        if tag >> 16 == 0 and (tag or length):
            _reject("it has an element of group 0")
        if tag in PIXELS:
            self.has_pixels = length > 0
        if tag in self._wanted and tag != ITEM_END:
            self._keep(tag, vr, length)
        elif length != UNDEFINED:
            self._span.skip(length)
        else:
            self._undefined(tag, vr)
        return tag

    def _skim_explicit(self, data: bytes) -> int:
        """Return how many bytes plain elements take, kept where they are wanted.

        What `element` does, without a call for each: this is most of the time
        that a header takes. Stops before whatever is not plain.
        """
        header_from, length_from = (
            self._encoding.header_from,
            self._encoding.length_from,
        )
        wanted, size, at = self._wanted, len(data), 0
        while at + 12 <= size:
            group, element, vr, length = header_from(data, at)
            start = at + 8
            if vr in _LONG_VRS:
                (length,) = length_from(data, start)
                start = at + 12
            elif vr not in _SHORT_VRS:
                break
            tag = group << 16 | element
            end = start + length
            if end > size or tag in PIXELS or not group:
                break
            if tag in wanted:
                self.found[tag] = Element(vr=vr.decode("ascii"), value=data[start:end])
            at = end
        return at

    def _skim_implicit(self, data: bytes) -> int:
        """Return the same where elements state no VR."""
        header_from, wanted = self._encoding.header_from, self._wanted
        size, at = len(data), 0
        while at + 8 <= size:
            group, element, length = header_from(data, at)
            start = at + 8
            tag = group << 16 | element
            end = start + length
            if end > size or tag in PIXELS or not group:
                break
            if tag in wanted:
                self.found[tag] = Element(vr="", value=data[start:end])
            at = end
        return at

    def _header(self, encoding: _Encoding) -> tuple[int, bytes, int]:
        """Return tag, VR (empty where there is none) and length of the next element."""
        raw = self._span.take(8)
        if encoding.implicit:
            group, element, length = encoding.implicit_header(raw)
            return group << 16 | element, b"", length
        group, element, vr, length = encoding.explicit_header(raw)
        if vr in _LONG_VRS:
            (length,) = encoding.length(self._span.take(4))
        elif not _is_vr(vr):  # delimiters have none, and some writers forget it
            (length,) = encoding.length(raw[4:])
            vr = b""
        return group << 16 | element, vr, length

    def _item_header(self, encoding: _Encoding) -> tuple[int, int]:
        group, element, length = encoding.implicit_header(self._span.take(8))
        return group << 16 | element, length

    def _keep(self, tag: int, vr: bytes, length: int) -> None:
        span = self._span
        if length == UNDEFINED:
            span.record()
            self._undefined(tag, vr)
            pieces = span.recorded()
            # the last piece is the sequence's delimiter
            value = None if pieces is None else b"".join(pieces[:-1])
        elif length <= LONGEST_VALUE:
            value = span.take(length)
        else:
            value = None
            span.skip(length)
        if value is not None:
            self.found[tag] = Element(vr=vr.decode("ascii"), value=value)

    def _undefined(self, tag: int, vr: bytes) -> None:
        if tag in PIXELS or vr in _BYTES:
            self._fragments()
        else:
            self._items(self._encoding.inside(vr), DEEPEST)

    def _fragments(self) -> None:
        """Follow encapsulated pixel data to its sequence delimiter (PS3.5 A.4)."""
        while True:
            tag, length = self._item_header(self._encoding)
            if tag == SEQUENCE_END:
                return
            if tag != ITEM or length == UNDEFINED:
                _reject("its encapsulated pixel data are damaged")
            self._span.skip(length)

    def _items(self, encoding: _Encoding, depth: int) -> None:
        """Follow a sequence of undefined length to its delimiter (PS3.5 7.5)."""
        if not depth:
            _reject("its sequences are nested too deep")
        while True:
            tag, length = self._item_header(encoding)
            if tag == SEQUENCE_END:
                return
            if tag != ITEM:
                _reject(DAMAGED)
            if length == UNDEFINED:
                self._undefined_item(encoding, depth - 1)
            else:
                self._span.skip(length)

    def _undefined_item(self, encoding: _Encoding, depth: int) -> None:
        while True:
            tag, vr, length = self._header(encoding)
            if tag == ITEM_END:
                return
            if length != UNDEFINED:
                self._span.skip(length)
            elif vr in _BYTES:
                self._fragments()
            else:
                self._items(encoding.inside(vr), depth)


def _is_vr(raw: bytes) -> bool:
    return raw.isalpha() and raw.isupper()


def _reject(comment: str) -> NoReturn:
    raise Rejected(comment, status=CANNOT_UNDERSTAND)
