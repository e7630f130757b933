"""The way over the elements of a data set, by their lengths alone.

PS3.5 7 (data elements, sequences) and A.4 (encapsulated pixel data).
"""

from collections.abc import Container
from dataclasses import dataclass
from struct import Struct

from dicom_node.part10.span import LONGEST_VALUE, Span, reject

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float Pixel Data, Double Float Pixel Data, Pixel Data."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DEEPEST = 64
"""Sequences may be nested so deep."""
MOST_ELEMENTS = 10_000_000
"""Elements and items that are followed: to go over more takes too long."""
DAMAGED = "a sequence is damaged"
GROUP_0 = "it has an element of group 0"

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


class Encoding:
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

    def inside(self, vr: bytes) -> "Encoding":
        """Return the encoding of an element's items: UN has implicit ones (6.2.2)."""
        return Encoding(implicit=True, little=self.little) if vr == b"UN" else self


class Walk:
    """The way over the elements of a data set, keeping the wanted ones."""

    def __init__(self, span: Span, encoding: Encoding, wanted: Container[int]) -> None:
        self.found: dict[int, Element] = {}
        self.has_pixels = False
        self.count = 0
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
            elif self.element() == 0:
                if self._span.rest_is_zero():
                    return  # some archives pad to whole blocks
                reject(GROUP_0)

    def item(self) -> None:
        """Follow the next item of a sequence (PS3.5 7.5)."""
        tag, length = self._item_header(self._encoding)
        if tag != ITEM:
            reject(DAMAGED)
        end = self._span.at + length
        while length == UNDEFINED or self._span.at < end:
            if self.element() == ITEM_END:
                return

    def element(self) -> int:
        """Follow one element; return its tag."""
        tag, vr, length = self._header(self._encoding)
        if tag >> 16 == 0 and (tag or length):
            reject(GROUP_0)
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
        wanted, size, at, count = self._wanted, len(data), 0, 0
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
            count += 1
        self._passed(count)
        return at

    def _skim_implicit(self, data: bytes) -> int:
        """Return the same where elements state no VR."""
        header_from, wanted = self._encoding.header_from, self._wanted
        size, at, count = len(data), 0, 0
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
            count += 1
        self._passed(count)
        return at

    def _passed(self, count: int) -> None:
        self.count += count
        if self.count > MOST_ELEMENTS:
            reject("it has more elements than any data set")

    def _header(self, encoding: Encoding) -> tuple[int, bytes, int]:
        """Return tag, VR (empty where there is none) and length of the next element."""
        self._passed(1)
        raw = self._span.take(8)
        if encoding.implicit:
            group, element, length = encoding.implicit_header(raw)
            return group << 16 | element, b"", length
        group, element, vr, length = encoding.explicit_header(raw)
        if vr in _LONG_VRS:
            (length,) = encoding.length(self._span.take(4))
        elif not is_vr(vr):  # delimiters have none, and some writers forget it
            (length,) = encoding.length(raw[4:])
            vr = b""
        return group << 16 | element, vr, length

    def _item_header(self, encoding: Encoding) -> tuple[int, int]:
        self._passed(1)
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
                reject("its encapsulated pixel data are damaged")
            self._span.skip(length)

    def _items(self, encoding: Encoding, depth: int) -> None:
        """Follow a sequence of undefined length to its delimiter (PS3.5 7.5)."""
        if not depth:
            reject("its sequences are nested too deep")
        while True:
            tag, length = self._item_header(encoding)
            if tag == SEQUENCE_END:
                return
            if tag != ITEM:
                reject(DAMAGED)
            if length == UNDEFINED:
                self._undefined_item(encoding, depth - 1)
            else:
                self._span.skip(length)

    def _undefined_item(self, encoding: Encoding, depth: int) -> None:
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


def is_vr(raw: bytes) -> bool:
    return raw.isalpha() and raw.isupper()
