"""Files that nobody sends in good faith, each with one thing wrong, small to send."""

import zlib
from struct import pack
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from tests.receiving import data_set, data_set_of, part10, written

_LONG = (b"SQ", b"OB", b"OW", b"UN", b"UT")
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_PIXELS = b"\xe0\x7f\x10\x00OW"
_CONTENT, _PRIVATE = (0x0040, 0xA730), (0x0029, 0x1010)
UNDEFINED = 0xFFFFFFFF
MIB = 1 << 20


def element(
    tag: tuple[int, int], vr: bytes, value: bytes, length: int | None = None
) -> bytes:
    """Return an element in Explicit VR Little Endian; its length may lie."""
    stated = len(value) if length is None else length
    head = pack("<HH", *tag) + vr
    long = vr in _LONG
    return head + (b"\0\0" + pack("<L", stated) if long else pack("<H", stated)) + value


def with_element(extra: bytes, **changes: Any) -> bytes:
    """Return a file in which these bytes stand before the pixel data."""
    whole = part10(**changes)
    at = whole.rindex(_PIXELS)
    return whole[:at] + extra + whole[at:]


def nested(levels: int) -> bytes:
    """Return a file with sequences of undefined length within each other."""
    begin = element(_CONTENT, b"SQ", b"", UNDEFINED) + _ITEM + pack("<L", UNDEFINED)
    return with_element(begin * levels + (_ITEM_END + _SEQUENCE_END) * levels)


def nested_by_length(levels: int) -> bytes:
    """Return the same with lengths that are stated."""
    heads, size = [], 0
    for _ in range(levels):
        item = _ITEM + pack("<L", size)
        heads.append(element(_CONTENT, b"SQ", b"", size + 8) + item)
        size += 20
    return with_element(b"".join(reversed(heads)))


def lying(length: int) -> bytes:
    """Return a file with an element that claims to be so long."""
    return with_element(element(_PRIVATE, b"UN", b"1234", length))


def never_closed() -> bytes:
    """Return a file with a sequence that has no end."""
    return with_element(element(_CONTENT, b"SQ", _ITEM + pack("<L", 0), UNDEFINED))


def items(count: int) -> bytes:
    """Return a file with a sequence of so many empty items."""
    empty = _ITEM + pack("<L", 0)
    return with_element(
        element(_CONTENT, b"SQ", empty * count, UNDEFINED) + _SEQUENCE_END
    )


def elements(count: int) -> bytes:
    """Return a file with so many elements."""
    return with_element(element(_PRIVATE, b"LO", b"") * count)


def private(megabytes: int) -> bytes:
    """Return a file with private values of so many MiB."""
    return with_element(element(_PRIVATE, b"UN", bytes(MIB)) * megabytes)


def deflated(size: int) -> bytes:
    """Return a deflated file with a private value of so many bytes, all of them zero."""
    whole = part10(syntax=DeflatedExplicitVRLittleEndian)
    plain = data_set_of(part10())
    at = plain.rindex(_PIXELS)
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = plain[:at] + element(_PRIVATE, b"UN", b"", size)
    packed = [squeeze.compress(head)]
    packed += [squeeze.compress(bytes(16 * MIB)) for _ in range(size // (16 * MIB))]
    packed += [squeeze.compress(plain[at:]), squeeze.flush()]
    return whole[: len(whole) - len(data_set_of(whole))] + b"".join(packed)


def compressed(syntax: str, stream: bytes, **changes: Any) -> bytes:
    """Return a file whose pixel data are this code stream."""
    dataset: Dataset = data_set(
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7} | changes
    )
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return written(dataset, syntax)


def vast_jpeg2000(side: int = 60_000) -> bytes:
    """Return a file of a few hundred bytes that says it is an image of side x side."""
    stream = bytearray(
        imagecodecs.jpeg2k_encode(np.zeros((16, 16), np.uint8), codecformat="j2k")
    )
    for at in (8, 12, 24, 28):  # Xsiz, Ysiz, XTsiz, YTsiz of the SIZ segment
        stream[at : at + 4] = pack(">L", side)
    return compressed(JPEG2000Lossless, bytes(stream), Rows=side, Columns=side)


def vast_jpeg(side: int = 65_500) -> bytes:
    """Return the same as a baseline JPEG."""
    stream = bytearray(imagecodecs.jpeg_encode(np.zeros((16, 16), np.uint8)))
    at = stream.index(b"\xff\xc0") + 5
    stream[at : at + 4] = pack(">HH", side, side)
    return compressed(JPEGBaseline8Bit, bytes(stream), Rows=side, Columns=side)


def charset(term: bytes, name: bytes) -> bytes:
    """Return a file whose character set and patient's name are these."""
    whole = part10(PatientName=None)
    at = len(whole) - len(data_set_of(whole))
    said = element((0x0008, 0x0005), b"CS", term)
    return whole[:at] + said + element((0x0010, 0x0010), b"PN", name) + whole[at:]


def named(uid: str) -> bytes:
    """Return a file with this for a Study Instance UID."""
    said = element((0x0020, 0x000D), b"UI", uid.encode("latin-1"))
    return with_element(said, StudyInstanceUID=None)
