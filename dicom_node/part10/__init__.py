"""A DICOM file, read as far as its header and checked to its last byte.

PS3.10 7 (file format), PS3.5 7 (data elements), A.4 (encapsulated pixel data) and
A.5 (deflated). Element lengths are followed from the first element to the end of
the file, so that a truncated file is found without reading a pixel. Values are
given as bytes; what they mean is not known here.

pydicom reads headers too, but takes a value that ends early as it is, and builds
every item of a sequence that nobody asked for.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import Any

from dicom_node.part10.span import BUFFER, InflatedSpan, Span, reject
from dicom_node.part10.walk import Element, Encoding, Walk, is_vr

__all__ = ["BUFFER", "Element", "Head", "items", "read_head"]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    }
)

TRANSFER_SYNTAX = 0x00020010
MAGIC_AT = 128
EVERYTHING = range(1 << 32)


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
    count
        How many elements and items were followed, those of sequences of undefined
        length among them.
    """

    transfer_syntax_uid: str
    data_set_at: int
    implicit: bool
    little: bool
    elements: Mapping[int, Element]
    has_pixels: bool
    count: int = 0


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
        reject("not a DICOM file: no DICM prefix")
    span = Span(file, MAGIC_AT + 4, size)
    syntax = _transfer_syntax(span)
    data_set_at = span.at
    if syntax in DEFLATED:
        span = InflatedSpan(file)
    start = span.peek(6)
    implicit = syntax == IMPLICIT_LITTLE
    if len(start) == 6:  # noqa: PLR2004 - tag and VR; some state another encoding
        implicit = not is_vr(start[4:])
    little = syntax != EXPLICIT_BIG
    walk = Walk(span, Encoding(implicit=implicit, little=little), wanted)
    walk.to_the_end()
    return Head(
        transfer_syntax_uid=syntax,
        data_set_at=data_set_at,
        implicit=implicit,
        little=little,
        elements=walk.found,
        has_pixels=walk.has_pixels,
        count=walk.count,
    )


def items(head: Head, sequence: Element) -> Sequence[Mapping[int, Element]]:
    """Return the elements of each item of a sequence, by tag."""
    value = sequence.value
    span = Span(BufferedReader(BytesIO(value)), 0, len(value))
    implicit = head.implicit or sequence.vr == "UN"
    encoding = Encoding(implicit=implicit, little=head.little)
    found = []
    while not span.at_end():
        walk = Walk(span, encoding, EVERYTHING)
        walk.item()
        found.append(walk.found)
    return found


def _transfer_syntax(span: "Span") -> str:
    """Return what the File Meta Information says, and stop behind it."""
    meta = Walk(span, Encoding(implicit=False, little=True), {TRANSFER_SYNTAX})
    while span.peek(2) == b"\2\0":
        meta.element()
    stated = meta.found.get(TRANSFER_SYNTAX)
    if stated is None or not stated.text:
        reject("its File Meta Information names no transfer syntax")
    return stated.text
