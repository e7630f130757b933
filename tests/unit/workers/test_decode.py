"""Every file has an outcome: its pixels and what they mean, or a reason for people."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_node.errors import Permanent
from tests.images import PIXELS, as_jpeg2000, image, save
from workers.decode import Decoded, decode, open_image, read_header
from workers.facts import Rescale, VoiWindow
from workers.preprocess import display

BUNDLED = Path(pydicom.data.__file__).parent / "test_files"


def decoded(dataset: Dataset, path: Path, frame: int = 0) -> Decoded:
    """Return a frame of the data set after a way through a file."""
    return decode(save(dataset, path), frame)


def outcomes(paths: list[Path]) -> dict[str, Decoded | str]:
    """Return what the last frame of each file is, or why it is nothing."""
    found: dict[str, Decoded | str] = {}
    for path in paths:
        try:
            with open_image(path) as opened:
                found[path.name] = opened.decode(opened.frames - 1)
        except Permanent as error:
            found[path.name] = str(error)
    return found


# ── the corpus ──────────────────────────────────────────────────────────────


def test_every_bundled_file_has_an_outcome() -> None:
    """pydicom's files: broken ones give a reason, the others an image to look at."""
    files = sorted(path for path in BUNDLED.rglob("*") if path.is_file())
    found = outcomes(files)
    assert len(found) > 100
    for name, outcome in found.items():
        if isinstance(outcome, str):
            assert outcome, name
            assert "\n" not in outcome
        else:
            assert display(outcome).shape[:2] == outcome.pixels.shape[:2], name


@pytest.mark.corpus
def test_every_file_of_the_corpus_has_an_outcome(shared: Path) -> None:
    """Of some hundred and fifty images of all syntaxes, few remain unreadable."""
    folders = ("dicom", "us", "multiframe", "series")
    files = [f for at in folders for f in sorted((shared / "data" / at).rglob("*"))]
    found = outcomes([path for path in files if path.is_file()])
    unreadable = {
        name: outcome
        for name, outcome in found.items()
        if isinstance(outcome, str)
        and outcome not in ("no pixel data", "not a DICOM file")
    }
    assert sorted(unreadable) == [
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "MR_truncated.dcm",
        "badVR.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
    ]


@pytest.mark.parametrize(
    "names",
    [
        (
            "MR_small.dcm",
            "MR_small_RLE.dcm",
            "MR_small_bigendian.dcm",
            "MR_small_expb.dcm",
            "MR_small_implicit.dcm",
            "MR_small_jp2klossless.dcm",
            "MR_small_jpeg_ls_lossless.dcm",
            "MR_small_padded.dcm",
        ),
        ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
        ("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"),
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cy+s2.dcm"),
    ],
)
def test_lossless_syntaxes_have_one_digest(names: tuple[str, ...]) -> None:
    """The digest is of the picture, not of how it was packed."""
    assert len({decode(BUNDLED / name).digest for name in names}) == 1


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", "JPEG baseline, YBR_FULL_422"),
        ("SC_rgb_dcmtk_+eb+cr.dcm", "JPEG baseline, RGB"),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", "JPEG baseline, YBR_FULL"),
        ("SC_rgb_jls_lossy_sample.dcm", "JPEG-LS"),
        ("SC_rgb_gdcm_KY.dcm", "JPEG 2000"),
        ("SC_ybr_full_422_uncompressed.dcm", "uncompressed, YBR_FULL_422"),
    ],
)
def test_colours_are_the_same_whatever_they_were_stored_as(
    name: str, syntax: str
) -> None:
    """Ten bars: red, green, blue and grey steps, as in the uncompressed original."""
    bars = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255)]
    bars += [(128, 128, 255), (0, 0, 0), (64, 64, 64), (192, 192, 192), (255,) * 3]
    pixels = decode(BUNDLED / name).pixels
    for row, bar in zip(range(5, 100, 10), bars, strict=True):
        off = np.abs(pixels[row, 50].astype(int) - bar).max()
        assert off <= 5, (syntax, row)


# ── what a header says ──────────────────────────────────────────────────────


def test_stored_values_come_back_as_they_are(dicom: Path) -> None:
    """No rescale, no window: that is the business of preprocessing."""
    dataset = image(RescaleSlope="2", RescaleIntercept="-1024", WindowCenter="40")
    one = decoded(dataset, dicom)
    np.testing.assert_array_equal(one.pixels, PIXELS)
    assert one.rescale == Rescale(slope=2, intercept=-1024)
    assert one.modality == "CT"


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
def test_every_way_of_writing_a_file_gives_the_same_pixels(
    dicom: Path, syntax: str
) -> None:
    """Our own files in the syntaxes that pydicom can write."""
    plain = decoded(image(), dicom)
    dataset = image()
    if syntax == RLELossless:
        dataset.compress(syntax, encoding_plugin="pydicom")
    elif syntax == JPEG2000Lossless:
        as_jpeg2000(dataset)
    else:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = PIXELS.astype(">u2").tobytes()
    again = decoded(dataset, dicom)
    np.testing.assert_array_equal(again.pixels, plain.pixels)
    assert again.digest == plain.digest


def test_one_frame_of_many(dicom: Path) -> None:
    """Frames are counted from 0, and there are no others."""
    frames = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    path = save(image(frames, NumberOfFrames=3), dicom)
    with open_image(path) as opened:
        assert opened.frames == 3
        for index in (2, 0, 1):
            np.testing.assert_array_equal(opened.decode(index).pixels, frames[index])
        with pytest.raises(Permanent, match="there is no frame 4: it has 3"):
            opened.decode(3)


def functional_groups(*values: str) -> list[Dataset]:
    """Return one functional group for each rescale intercept."""
    groups = []
    for value in values:
        transform, voi, group = Dataset(), Dataset(), Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = "1", value
        voi.WindowCenter, voi.WindowWidth = value, "10"
        group.PixelValueTransformationSequence = Sequence([transform])
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    return groups


def test_functional_groups_of_a_frame_come_first(dicom: Path) -> None:
    """Its own group, then the shared one, then the data set (PS3.3 C.7.6.16)."""
    frames = np.stack([PIXELS, PIXELS])
    own = image(frames, NumberOfFrames=2, RescaleSlope="9", RescaleIntercept="9")
    own.PerFrameFunctionalGroupsSequence = Sequence(functional_groups("10", "20"))
    own.SharedFunctionalGroupsSequence = Sequence(functional_groups("30"))
    one = decoded(own, dicom, 1)
    assert one.rescale.intercept == 20
    assert one.windows == (VoiWindow(center=20, width=10),)
    del own.PerFrameFunctionalGroupsSequence
    assert decoded(own, dicom, 1).rescale.intercept == 30
    del own.SharedFunctionalGroupsSequence
    assert decoded(own, dicom, 1).rescale.intercept == 9


# ── multi-frame objects of other people ─────────────────────────────────────


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["Agfa__011-0001.img", "Siemens__011-0003.img"])
def test_enhanced_mr_frames_have_groups_of_their_own(shared: Path, name: str) -> None:
    """Rescale, window and spacing of each of 25 frames, as its own group says."""
    path = next((shared / "data" / "multiframe").rglob(name))
    groups = dcmread(path).PerFrameFunctionalGroupsSequence
    with open_image(path) as opened:
        frames = [opened.decode(frame) for frame in range(opened.frames)]
    assert len(frames) == 25
    for one, group in zip(frames, groups, strict=True):
        (voi,) = group.FrameVOILUTSequence
        (transform,) = group.PixelValueTransformationSequence
        assert one.windows[0] == VoiWindow(
            center=float(voi.WindowCenter), width=float(voi.WindowWidth)
        )
        assert one.rescale == Rescale(
            slope=float(transform.RescaleSlope),
            intercept=float(transform.RescaleIntercept),
        )
    assert len({one.windows for one in frames}) > 1
    assert len({one.digest for one in frames}) == 25


@pytest.mark.corpus
def test_enhanced_ct_has_a_shared_group_and_a_grey_plane(shared: Path) -> None:
    """HU by the shared rescale; a supplemental palette does not make it a colour image."""
    path = next((shared / "data" / "dicom").rglob("eCT_Supplemental.dcm"))
    with open_image(path) as opened:
        for frame in range(opened.frames):
            one = opened.decode(frame)
            assert one.rescale == Rescale(slope=1, intercept=-1024)
            assert one.windows[0] == VoiWindow(center=49, width=102)
            assert (one.photometric, one.palette) == ("MONOCHROME2", None)
            assert display(one).shape == (512, 512)
            assert np.ptp(display(one)) == 255


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("examples_ybr_color.dcm", 30, (240, 320, 3)),
        ("OBXXXX1A_2frame.dcm", 2, (600, 800, 3)),
        ("OBXXXX1A_rle_2frame.dcm", 2, (600, 800, 3)),
    ],
)
def test_ultrasound_clips_are_shown_in_colour_frame_by_frame(
    shared: Path, name: str, frames: int, shape: tuple[int, ...]
) -> None:
    """YBR_FULL_422 in JPEG, palettes native and in RLE: RGB, and no two frames alike."""
    path = next((shared / "data" / "dicom").rglob(name))
    with open_image(path) as opened:
        assert opened.frames == frames
        ends = [opened.decode(0), opened.decode(frames - 1)]
    shown = [display(end) for end in ends]
    assert [each.shape for each in shown] == [shape, shape]
    assert ends[0].digest != ends[1].digest


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "dtype", "largest"),
    [
        ("parametric_map_float.dcm", "float32", None),
        ("parametric_map_double_float.dcm", "float64", None),
        ("rtdose.dcm", "uint32", None),
        ("liver.dcm", "uint8", 1),
        ("SC_rgb_32bit.dcm", "uint32", None),
    ],
)
def test_other_widths_are_seen_at_full_contrast(
    shared: Path, name: str, dtype: str, largest: int | None
) -> None:
    """Floating point, 32 bits, single bits: values as stored, and an image to look at."""
    path = next((shared / "data" / "dicom").rglob(name))
    with open_image(path) as opened:
        one = opened.decode(opened.frames // 2)
    assert one.pixels.dtype == dtype
    assert largest is None or one.pixels.max() == largest
    assert np.ptp(display(one)) > 200


# ── values of a header ──────────────────────────────────────────────────────


def test_every_window_is_read_with_its_function(dicom: Path) -> None:
    """Several windows, in the header's order; what is no number is none."""
    dataset = image(
        WindowCenter=["40", "600"], WindowWidth=["80", "2800"], VOILUTFunction="SIGMOID"
    )
    assert decoded(dataset, dicom).windows == (
        VoiWindow(center=40, width=80, function="SIGMOID"),
        VoiWindow(center=600, width=2800, function="SIGMOID"),
    )
    assert decoded(image(WindowCenter="", WindowWidth=""), dicom).windows == ()


def test_a_slope_of_zero_is_taken_for_a_mistake(dicom: Path) -> None:
    """It would make every image one grey."""
    assert decoded(image(RescaleSlope="0"), dicom).rescale.slope == 1


def test_padding_is_a_value_or_a_range(dicom: Path) -> None:
    """PS3.3 C.7.5.1.1.2; the limit may lie on either side."""
    pixels = PIXELS.astype(np.int16)
    assert decoded(image(), dicom).padding is None
    alone = image(pixels, PixelPaddingValue=-2000)
    assert decoded(alone, dicom).padding == (-2000, -2000)
    span = image(pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-3000)
    assert decoded(span, dicom).padding == (-3000, -2000)


@pytest.mark.parametrize(
    ("attributes", "aspect"),
    [
        ({}, 1.0),
        ({"PixelSpacing": ["0.5", "0.25"]}, 2.0),
        ({"ImagerPixelSpacing": ["0.1", "0.2"]}, 0.5),
        ({"PixelAspectRatio": ["4", "3"], "PixelSpacing": ["1", "1"]}, 4 / 3),
        ({"PixelSpacing": ["0", "1"]}, 1.0),
        ({"PixelSpacing": ["0.5"]}, 1.0),
    ],
)
def test_the_shape_of_a_pixel(
    dicom: Path, attributes: dict[str, Any], aspect: float
) -> None:
    """Height over width; what makes no sense makes square pixels."""
    assert decoded(image(**attributes), dicom).aspect == pytest.approx(aspect)


def lut(first: int, entries: NDArray[np.uint16], bits: int = 16) -> Dataset:
    """Return an item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_lookup_tables_are_read_entry_by_entry(dicom: Path) -> None:
    """65536 entries are written as 0, and a negative first value as unsigned."""
    entries = np.arange(65536, dtype=np.uint16)[::-1]
    dataset = image(
        PIXELS.astype(np.int16),
        ModalityLUTSequence=Sequence([lut(65536 - 32768, entries)]),
        VOILUTSequence=Sequence([lut(3, entries[:100], bits=12)]),
    )
    one = decoded(dataset, dicom)
    assert one.modality_lut is not None
    assert one.modality_lut.first == -32768
    np.testing.assert_array_equal(one.modality_lut.entries, entries)
    assert one.voi_lut is not None
    assert (one.voi_lut.first, one.voi_lut.bits) == (3, 12)
    assert len(one.voi_lut.entries) == 100


# ── digests ─────────────────────────────────────────────────────────────────


def test_a_window_is_no_part_of_the_digest(dicom: Path) -> None:
    """A picture that was sent again with another window is the same picture."""
    plain = decoded(image(), dicom).digest
    assert decoded(image(WindowCenter="40", WindowWidth="80"), dicom).digest == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleIntercept": "-1024", "RescaleSlope": "1"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PixelPaddingValue": 0},
        {"Rows": 56, "Columns": 64},
        {"ModalityLUTSequence": Sequence([lut(0, np.arange(9, dtype=np.uint16))])},
    ],
)
def test_what_the_values_mean_is_part_of_the_digest(
    dicom: Path, changes: dict[str, Any]
) -> None:
    """The same bytes with another meaning are another picture."""
    assert decoded(image(**changes), dicom).digest != decoded(image(), dicom).digest


# ── bad input ───────────────────────────────────────────────────────────────


def test_a_truncated_file_says_so(dicom: Path) -> None:
    """Half the pixels are no picture."""
    content = save(image(), dicom).read_bytes()
    dicom.write_bytes(content[:-100])
    with pytest.raises(Permanent, match="pixel data is not what the header says"):
        decode(dicom)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PhotometricInterpretation": "CMYK"}, "photometric interpretation 'CMYK'"),
        ({"PhotometricInterpretation": None}, "Photometric Interpretation"),
        ({"Rows": 0}, "Rows"),
        ({"Rows": 65535, "Columns": 65535}, "not what the header says"),
        ({"BitsAllocated": 24}, "not supported"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "RedPaletteColor"),
    ],
)
def test_a_header_that_makes_no_sense_gives_a_reason(
    dicom: Path, changes: dict[str, Any], reason: str
) -> None:
    """The reason names what is wrong."""
    with pytest.raises(Permanent, match=re.escape(reason)):
        decoded(image(**changes), dicom)


def test_an_unknown_transfer_syntax_is_named(dicom: Path) -> None:
    """A syntax that nobody here can decode, by its name or UID."""
    content = save(image(), dicom).read_bytes()
    strange = content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.99")
    assert strange != content
    dicom.write_bytes(strange)
    with pytest.raises(
        Permanent, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.99 cannot be decoded"
    ):
        decode(dicom)


def test_damaged_compressed_data_names_the_syntax(dicom: Path) -> None:
    """Every codec's complaint is kept, in one line."""
    path = save(as_jpeg2000(image()), dicom)
    content = path.read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")
    path.write_bytes(content[: start + 40] + bytes(len(content) - start - 40))
    with pytest.raises(Permanent) as caught:
        decode(path)
    message = str(caught.value)
    assert message.startswith("transfer syntax JPEG 2000 Image Compression")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a DICOM file"),
        (b"\x00" * 200, "not a DICOM file"),
        (b"PK\x03\x04 a zip archive, or so it says" * 30, "not a DICOM file"),
        (b"\0" * 128 + b"DICM", "not a DICOM file"),
        (b"\0" * 128 + b"DICM" + struct.pack("<HH", 2, 0) + b"UL", "."),
    ],
)
def test_what_is_no_image_gives_a_reason(
    dicom: Path, content: bytes, reason: str
) -> None:
    """Whatever the bytes are, nothing but a reason comes of it."""
    dicom.write_bytes(content)
    with pytest.raises(Permanent, match=reason):
        decode(dicom)


def test_every_truncation_of_a_file_has_an_outcome(dicom: Path) -> None:
    """Cut anywhere, a file is a picture or a reason."""
    dataset = image()
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    content = save(dataset, dicom).read_bytes()
    for length in range(0, len(content), 23):
        dicom.write_bytes(content[:length])
        found = outcomes([dicom])[dicom.name]
        assert isinstance(found, Decoded) or found


def test_a_missing_file_gives_a_reason_without_its_path(tmp_path: Path) -> None:
    """Paths may hold names of people; reasons go into reports."""
    with pytest.raises(Permanent, match="cannot be read: No such file") as caught:
        decode(tmp_path / "DOE^JOHN.dcm")
    assert "DOE" not in str(caught.value)


def test_a_header_is_read_without_its_pixels(dicom: Path) -> None:
    """What reports copy from."""
    header = read_header(save(image(PatientID="P1"), dicom))
    assert header.PatientID == "P1"
    assert "PixelData" not in header
