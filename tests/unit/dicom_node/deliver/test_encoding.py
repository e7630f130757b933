"""Objects in other transfer syntaxes: the same values, the same bytes every time."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.deliver.encoding import first_fitting, fitting, part10
from dicom_node.domain import ObjectKind
from dicom_node.peers import Syntax
from tests.peers import outgoing, pictured

EVERY = (Syntax.RLE, Syntax.IMPLICIT, Syntax.EXPLICIT)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Return a file without pixels."""
    return outgoing(tmp_path, kind=ObjectKind.REPORT).path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Return a file with an RGB image."""
    return pictured(tmp_path, 2).path


def test_the_order_is_the_peers(capture: Path, report: Path) -> None:
    """An image in all that is wanted, in that order; a report never in RLE."""
    assert fitting(capture, EVERY) == (
        RLELossless,
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
    )
    assert fitting(report, EVERY) == (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    assert fitting(report, [Syntax.RLE]) == (ExplicitVRLittleEndian,)


def test_what_is_wanted_as_it_is_stays_as_it_is(capture: Path) -> None:
    """Explicit VR Little Endian are the outbox's own bytes."""
    assert first_fitting(capture, [Syntax.EXPLICIT]) == capture.read_bytes()


def test_another_syntax_of_a_file_is_left_alone(capture: Path) -> None:
    """What was encoded otherwise goes as it is, and nothing else is offered."""
    capture.write_bytes(part10(capture, RLELossless))
    assert fitting(capture, EVERY) == (RLELossless,)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_the_same_values_and_pixels_come_back(capture: Path, syntax: UID) -> None:
    """Element by element, but for what says how the pixels are packed."""
    content = part10(capture, syntax)
    sent, read = dcmread(capture), dcmread(BytesIO(content))
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.SOPInstanceUID == sent.SOPInstanceUID
    packing = {"PixelData", "PlanarConfiguration"}
    values = [
        {e.keyword: e.value for e in data if e.keyword not in packing}
        for data in (sent, read)
    ]
    assert values[0] == values[1]
    assert np.array_equal(sent.pixel_array, read.pixel_array)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_the_same_bytes_come_out_every_time(capture: Path, syntax: UID) -> None:
    """So that a second attempt is the same object."""
    assert part10(capture, syntax) == part10(capture, syntax)
