"""In which transfer syntaxes a destination takes an object, and the object in one of them.

PS3.5 Annex A. The bytes in the outbox are Explicit VR Little Endian. Another syntax is
the same data set encoded anew, which is deterministic: the same file and the same
syntax give the same bytes, on every attempt. RLE is for images; what has no pixels
goes as it is.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.peers import Syntax

UIDS = {
    Syntax.EXPLICIT: ExplicitVRLittleEndian,
    Syntax.IMPLICIT: ImplicitVRLittleEndian,
    Syntax.RLE: RLELossless,
}


def own_syntax(path: Path) -> UID:
    """Return the transfer syntax that a file is in."""
    return UID(read_file_meta_info(path).TransferSyntaxUID)


def fitting(path: Path, wanted: Sequence[Syntax]) -> tuple[UID, ...]:
    """Return the transfer syntaxes that a file may be sent in, best first."""
    own = own_syntax(path)
    if own != ExplicitVRLittleEndian:
        return (own,)
    header = dcmread(path, stop_before_pixels=True, specific_tags=["Rows"])
    image = "Rows" in header
    fits = [UIDS[one] for one in wanted if image or one is not Syntax.RLE]
    return tuple(fits) or (own,)


def encoded(path: Path, syntax: UID) -> Dataset:
    """Return the object as a data set that was read in this transfer syntax."""
    return dcmread(BytesIO(part10(path, syntax)))


def part10(path: Path, syntax: UID) -> bytes:
    """Return the object as a Part 10 file in this transfer syntax."""
    if syntax == own_syntax(path):
        return path.read_bytes()
    data = dcmread(path)
    if syntax == RLELossless:
        # lossless, so it stays the same instance; one named encoder, the same bytes
        data.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def first_fitting(path: Path, wanted: Sequence[Syntax]) -> bytes:
    """Return the object as a file in the first syntax that fits it."""
    return part10(path, fitting(path, wanted)[0])
