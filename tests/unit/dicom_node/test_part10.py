"""DICOM files: the same header as pydicom reads, and no truncated file passes."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import pack
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.errors import CANNOT_UNDERSTAND, Rejected
from dicom_node.part10 import Head, items, read_head
from tests.receiving import buffered, bundled, data_set, data_set_of, part10, written

CLASS, INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
NAME, PATIENT_ID, EQUIPMENT = 0x00100010, 0x00100020, 0x0018A001
WANTED = frozenset({CLASS, INSTANCE, STUDY, SERIES, NAME, PATIENT_ID, EQUIPMENT})

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]

# one of each kind: encodings, encapsulated, nested and undefined-length sequences,
# no pixel data, private elements, multi-frame
BUNDLED = [
    "CT_small.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "JPGExtended.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "SC_rgb_rle_2frame.dcm",
    "UN_sequence.dcm",
    "badVR.dcm",
    "image_dfl.dcm",
    "liver_expb_1frame.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "priv_SQ.dcm",
    "reportsi.dcm",
    "rtdose.dcm",
    "rtplan.dcm",
    "waveform_ecg.dcm",
]


def head_of(content: bytes) -> Head:
    """Return what is read of a file with this content."""
    return read_head(buffered(content), len(content), WANTED)


def outcome(content: bytes) -> Head | Rejected:
    """Return what is read of a file, or the error with which it is refused."""
    try:
        return head_of(content)
    except Rejected as error:
        return error


def rejected(content: bytes) -> str:
    """Return the comment with which a file is refused."""
    with pytest.raises(Rejected) as caught:
        head_of(content)
    assert caught.value.status == CANNOT_UNDERSTAND
    assert 0 < len(caught.value.comment) <= 64
    return caught.value.comment


def encapsulated(fragments: Sequence[bytes], **changes: Any) -> bytes:
    """Return a file with encapsulated pixel data (PS3.5 A.4)."""
    dataset = data_set(**changes)
    dataset.PixelData = pydicom.encaps.encapsulate(list(fragments))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return written(dataset, RLELossless)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_same_as_pydicom(name: str) -> None:
    """Encoding, UIDs and whether there are pixels agree with pydicom."""
    path = bundled(name)
    head = head_of(path.read_bytes())
    dataset = pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == head.transfer_syntax_uid
    assert dataset.original_encoding == (head.implicit, head.little)
    for tag in {CLASS, INSTANCE, STUDY, SERIES} & dataset.keys():
        assert dataset[tag].value == head.elements[tag].text
    assert ("PixelData" in dataset) == head.has_pixels


@pytest.mark.corpus
def test_every_file_of_the_corpus_is_understood_or_rejected(shared: Path) -> None:
    """What pydicom reads as a Part 10 file has a head, unless it is truncated."""
    refused = {}
    for path in sorted(
        p for p in (shared / "data" / "dicom").rglob("*") if p.is_file()
    ):
        content = path.read_bytes()
        try:
            head_of(content)
        except Rejected as error:
            if content[128:132] == b"DICM":
                refused[path.name] = error.comment
    truncated = "truncated: it ends within an element"
    assert refused == {
        "MR_truncated.dcm": truncated,
        "rtplan_truncated.dcm": truncated,
        "emri_small_jpeg_2k_lossless_too_short.dcm": truncated,
        "meta_missing_tsyntax.dcm": "its File Meta Information names no transfer syntax",
    }


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_where_the_data_set_begins(syntax: str) -> None:
    """The offset is that of the first byte behind the File Meta Information."""
    content = part10(syntax=syntax)
    assert data_set_of(content) == content[head_of(content).data_set_at :]


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(place=st.integers(0, 100_000))
def test_truncation_is_found_wherever_it_is(syntax: str, place: int) -> None:
    """A file cut within an element is refused; between two it may be a shorter file."""
    whole = part10(syntax=syntax)
    content = whole[: place % len(whole)]
    match outcome(content):
        case Rejected(status=status):
            assert status == CANNOT_UNDERSTAND
        case Head(has_pixels=has_pixels):
            assert syntax != DeflatedExplicitVRLittleEndian
            assert not has_pixels


@given(place=st.integers(1, 100_000))
def test_encapsulated_pixel_data_need_their_delimiter(place: int) -> None:
    """Fragments without the sequence delimiter are a truncated file."""
    whole = encapsulated([b"ab" * 50, b"cd" * 30])
    pixels = whole.index(b"\xe0\x7f\x10\x00OB")
    cut = pixels + 12 + place % (len(whole) - pixels - 12)
    assert "truncated" in rejected(whole[:cut])


def test_a_fragment_whose_length_looks_like_a_vr() -> None:
    """Items have no VR: a length whose bytes are letters stays a length."""
    length = int.from_bytes(b"UN\0\0", "little")
    assert head_of(encapsulated([bytes(length)])).has_pixels


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a DICOM file: no DICM prefix"),
        (b"%PDF-1.4" * 100, "not a DICOM file: no DICM prefix"),
        (
            bytes(128) + b"DICM" + bytes(100),
            "its File Meta Information names no transfer syntax",
        ),
    ],
)
def test_not_dicom(content: bytes, expected: str) -> None:
    """What is no DICOM file is refused with a comment that says so."""
    assert expected == rejected(content)


@given(st.binary(max_size=400), st.sampled_from(SYNTAXES))
def test_garbage_is_rejected_or_read_and_nothing_else(tail: bytes, syntax: str) -> None:
    """Any bytes as data set: `Rejected` or a head, never another exception."""
    whole = part10(syntax=syntax)
    start = whole[: len(whole) - len(data_set_of(whole))]
    match outcome(start + tail):
        case Rejected(status=status):
            assert status == CANNOT_UNDERSTAND
        case head:
            assert isinstance(head, Head)


def test_a_damaged_deflated_data_set() -> None:
    """What does not inflate is refused."""
    whole = part10(syntax=DeflatedExplicitVRLittleEndian)
    at = head_of(whole).data_set_at
    assert "damaged" in rejected(whole[:at] + b"\xff" * 50)


def test_a_deflated_data_set_is_not_held_in_memory() -> None:
    """A gigabyte of zeros in a megabyte is walked over, not kept."""
    whole = part10(syntax=DeflatedExplicitVRLittleEndian)
    at = head_of(whole).data_set_at
    size = 64 << 20
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = deflate.compress(pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size))
    body += b"".join(deflate.compress(bytes(1 << 20)) for _ in range(size >> 20))
    assert head_of(whole[:at] + body + deflate.flush()).has_pixels


def test_another_encoding_than_stated() -> None:
    """Some files state explicit VR and are implicit, or the other way round."""
    implicit = part10(syntax=ImplicitVRLittleEndian)
    explicit = part10(syntax=ExplicitVRLittleEndian)
    for stated, real in ((implicit, explicit), (explicit, implicit)):
        mixed = stated[: head_of(stated).data_set_at] + data_set_of(real)
        assert head_of(mixed).elements[STUDY].text == head_of(real).elements[STUDY].text


def test_zeros_within_the_data_set_are_no_padding() -> None:
    """What follows them is not looked for: that took a look at all of them, each time."""
    whole = part10()
    at = whole.index(b"\x28\x00\x10\x00US")
    assert "group 0" in rejected(whole[:at] + bytes(16) + whole[at:])


def test_zeros_behind_the_data_set() -> None:
    """Some archives pad their files to whole blocks; anything else there is refused."""
    whole = part10()
    assert head_of(whole + bytes(700)).has_pixels
    assert "group 0" in rejected(whole + bytes(4) + b"\1" + bytes(30))
    assert "group 0" in rejected(whole + bytes(400_000) + b"\1")


def test_no_pixel_data_and_empty_pixel_data() -> None:
    """Both have nothing to look at."""
    assert not head_of(part10(PixelData=None)).has_pixels
    assert not head_of(part10(PixelData=b"")).has_pixels


def test_a_value_that_is_too_long_is_left_out() -> None:
    """A wanted value of megabytes is passed over, so that memory stays bounded."""
    head = head_of(part10(PatientID="x" * 16, PixelData=bytes(2)))
    assert PATIENT_ID in head.elements
    dataset = data_set()
    dataset.add_new(NAME, "UT", "x" * (2 << 20))
    assert NAME not in head_of(written(dataset)).elements


def test_sequences_nested_without_end() -> None:
    """Nesting is bounded: no recursion without end."""
    whole = part10(PixelData=None)
    begin = pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    begin += pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert rejected(whole + begin * 5000) == "its sequences are nested too deep"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_items_of_a_sequence(syntax: str, undefined: bool) -> None:  # noqa: FBT001
    """A wanted sequence gives its items, with defined and undefined lengths."""
    item = Dataset()
    item.Manufacturer, item.DeviceUID = "pacsight", "2.25.1"
    item.PurposeOfReferenceCodeSequence = [Dataset()]
    item.is_undefined_length_sequence_item = undefined
    other = Dataset()
    other.Manufacturer = "Other"
    dataset = data_set(ContributingEquipmentSequence=Items([item, other]))
    dataset["ContributingEquipmentSequence"].is_undefined_length = undefined
    head = head_of(written(dataset, syntax))
    found = items(head, head.elements[EQUIPMENT])
    assert [i[0x00080070].text for i in found] == ["pacsight", "Other"]
    assert found[0][0x00181002].text == "2.25.1"
    assert head.has_pixels
