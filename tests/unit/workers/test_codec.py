"""Codecs against real files, and against judges: the table in the documentation is true."""

import json
import re
import struct
from dataclasses import asdict
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import HTJ2K, UID, HTJ2KLossless, JPEGLossless, RLELossless

from dicom_node.admission import DECODABLE
from dicom_node.errors import Permanent
from tests.images import image, save
from tests.judges import ask
from workers.codec import CODECS, DEFLATED_FRAMES
from workers.decode import Decoded, decode, open_image, read_header
from workers.policy import NAMES, named

PAGE = Path(__file__).resolve().parents[3] / "docs" / "pixels.md"
CELL = r" ([^|]+?) \|"
ROWS = re.findall(rf"^\|{CELL} ([\d.]+) \|{CELL * 4}$", PAGE.read_text(), re.MULTILINE)
UNREADABLE = dict(
    re.findall(r"^\| `([^`]+\.dcm)` \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
)
RANDOM = np.random.default_rng(5)


def real(shared: Path, name: str) -> Path:
    """Return where a file of the corpus is."""
    return next((shared / "data" / "dicom").rglob(name))


def last_frame(path: Path) -> Decoded:
    """Return the last frame of a file."""
    with open_image(path) as opened:
        return opened.decode(opened.frames - 1)


@pytest.mark.corpus
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}, {row[2]}")
def test_the_table_of_codecs(
    shared: Path, tmp_path: Path, row: tuple[str, ...]
) -> None:
    """The file has this syntax and photometric, and decodes to what the judge says."""
    _, syntax, photometric, codec, name, judge = row
    path = real(shared, name.strip("`"))
    header = read_header(path)
    assert header.file_meta.TransferSyntaxUID == syntax
    assert header.PhotometricInterpretation == photometric
    assert CODECS.get(syntax, "native") == codec
    found = last_frame(path)
    match judge.strip("`"):
        case "-":
            assert np.ptp(found.pixels) > 0
        case "dcmdjpeg" | "dcmdjpls" as tool:
            ask(tool, path, tmp_path / "judged.dcm")
            judged = dcmread(tmp_path / "judged.dcm").pixel_array
            np.testing.assert_array_equal(found.pixels, judged)
        case other:
            assert found.digest == last_frame(real(shared, other)).digest


def test_every_codec_stands_in_the_table() -> None:
    """But for two syntaxes of which there is no real file."""
    shown = {uid for _, uid, *_ in ROWS}
    named_below = re.findall(r"\((1\.2\.840\.[\d.]+)\)", PAGE.read_text())
    assert set(CODECS) <= shown | set(named_below)
    assert len(ROWS) > 30


def test_the_node_hands_on_what_a_codec_knows() -> None:
    """An image that could be decoded is not left out for its transfer syntax."""
    assert set(CODECS) <= DECODABLE


@pytest.mark.corpus
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_decoded_has_the_reason_that_is_documented(
    shared: Path, name: str
) -> None:
    """Word for word, as the ledger and the report have it."""
    with pytest.raises(Permanent) as caught:
        decode(real(shared, name))
    assert str(caught.value) == UNREADABLE[name]


def test_the_documented_policy_is_the_named_one() -> None:
    """What the page shows can be put into a pack.json."""
    text = PAGE.read_text().partition('"preprocessing": ')[2].partition("\n\n")[0]
    assert json.loads(text) == json.loads(json.dumps(asdict(named("toolkit-client"))))


@pytest.mark.parametrize("name", NAMES)
def test_every_named_policy_is_documented(name: str) -> None:
    """Each has its line in the table."""
    assert f"\n| `{name}` |" in PAGE.read_text()


# ── frames of our own, and of DCMTK's encoders ─────────────────────────────


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_of_lossless_jpeg(
    tmp_path: Path, predictor: int, *, colour: bool
) -> None:
    """JPEG Lossless (1.2.840.10008.1.2.4.57), as DCMTK writes it."""
    grey = RANDOM.integers(0, 65536, (40, 30)).astype(np.uint16)
    bands = RANDOM.integers(0, 256, (40, 30, 3)).astype(np.uint8)
    plain = save(image(bands if colour else grey), tmp_path / "plain.dcm")
    packed = tmp_path / "packed.dcm"
    ask("dcmcjpeg", "+el", "+sv", str(predictor), plain, packed)
    assert read_header(packed).file_meta.TransferSyntaxUID == JPEGLossless
    assert decode(packed).digest == decode(plain).digest


@pytest.mark.parametrize("flag", ["+eb", "+ee"])
def test_lossy_jpeg_is_as_dcmtk_reads_it(tmp_path: Path, flag: str) -> None:
    """Baseline of 8 bits and extended of 12: no level apart."""
    grey = np.add.outer(np.arange(64) * 40, np.arange(48) * 11).astype(np.uint16)
    if flag == "+eb":
        dataset = image((grey // 16).astype(np.uint8))
    else:
        dataset = image(grey, BitsStored=12, HighBit=11)
    plain = save(dataset, tmp_path / "plain.dcm")
    ask("dcmcjpeg", flag, plain, tmp_path / "packed.dcm")
    ask("dcmdjpeg", tmp_path / "packed.dcm", tmp_path / "judged.dcm")
    judged = dcmread(tmp_path / "judged.dcm").pixel_array
    np.testing.assert_array_equal(decode(tmp_path / "packed.dcm").pixels, judged)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30),
    dtype=st.sampled_from(["u1", "u2", "i2"]),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    colour=st.booleans(),
    calm=st.booleans(),
)
def test_rle_frames_come_back_as_they_were(
    dicom: Path,
    seed: int,
    dtype: str,
    shape: tuple[int, int],
    *,
    colour: bool,
    calm: bool,
) -> None:
    """Any depth, one sample or three, runs or noise: what pydicom's encoder was given."""
    full = (*shape, 3) if colour else shape
    random = np.random.default_rng(seed)
    span = np.iinfo(dtype)
    high = 3 if calm else int(span.max) + 1
    pixels = random.integers(0 if calm or colour else span.min, high, full).astype(
        dtype
    )
    if colour and dtype == "i2":
        pixels = pixels.astype("u2")
    dataset = image(pixels)
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    found = decode(save(dataset, dicom))
    np.testing.assert_array_equal(found.pixels, pixels)


def test_more_rle_segments_than_a_header_names_are_no_picture(dicom: Path) -> None:
    """It has room for 15; what is not there is not filled with whatever memory holds."""
    dataset = image(np.zeros((2, 2, 3), dtype=np.uint8))
    dataset.BitsAllocated = dataset.BitsStored = 64
    dataset.HighBit = 63
    header = struct.pack("<16L", 24, *range(64, 64 + 15 * 4, 4))
    dataset.PixelData = encapsulate([header + bytes([0xFD, 7, 0x80, 0]) * 24])
    dataset.file_meta.TransferSyntaxUID = RLELossless
    with pytest.raises(Permanent, match="24 RLE segments: a frame has 15 at most"):
        decode(save(dataset, dicom))


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "JPGExtended.dcm",
        "JPEG-LL.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "693_J2KR.dcm",
        "HTJ2KLossless_08_RGB.dcm",
        "HTJ2K_08_RGB.dcm",
        "MR_small_RLE.dcm",
    ],
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_frame_without_its_end_is_no_picture(
    shared: Path, dicom: Path, name: str, share: float
) -> None:
    """Codecs that paint what is missing grey are not let."""
    dataset = dcmread(real(shared, name))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    half = frame[: int(share * len(frame)) // 2 * 2]
    dataset.PixelData = encapsulate([half])
    save(dataset, dicom)
    with pytest.raises(Permanent, match="cannot be decoded"):
        decode(dicom)


def test_lossless_high_throughput_frames_come_back(dicom: Path) -> None:
    """16 bits through OpenJPH, as they were."""
    pixels = RANDOM.integers(0, 65536, (33, 47)).astype(np.uint16)
    dataset = image(pixels)
    frame = bytes(imagecodecs.htj2k_encode(pixels, reversible=True))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    found = decode(save(dataset, dicom))
    np.testing.assert_array_equal(found.pixels, pixels)


def test_lossy_high_throughput_samples_do_not_run_over(dicom: Path) -> None:
    """White stays white at hard edges, where a sample may exceed its range."""
    pixels = np.kron(RANDOM.integers(0, 2, (16, 16)), np.ones((8, 8))).astype(np.uint8)
    dataset = image(pixels * 255)
    frame = bytes(imagecodecs.htj2k_encode(pixels * 255, level=0.02, reversible=False))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = HTJ2K
    found = decode(save(dataset, dicom)).pixels.astype(int)
    assert np.abs(found - pixels.astype(int) * 255).max() < 128


@pytest.mark.parametrize(
    "frame",
    [
        b"\1",
        bytes(64),
        struct.pack("<16L", 2, 64, 90, *[0] * 13) + bytes(100),
        struct.pack("<16L", 2, 1 << 31, 90, *[0] * 13) + bytes(100),
        struct.pack("<16L", 2**32 - 1, *[64] * 15) + bytes(100),
        struct.pack("<16L", 2, 64, 64, *[0] * 13) + b"\x81" * 200,
    ],
)
@pytest.mark.parametrize("syntax", [RLELossless, DEFLATED_FRAMES])
def test_damaged_frames_give_a_reason(dicom: Path, frame: bytes, syntax: UID) -> None:
    """Too short, pointing nowhere, counting wrongly: never pixels that are not there."""
    dataset = image()
    dataset.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    known = {"implicit_vr": False, "little_endian": True, "force_encoding": True}
    dataset.save_as(dicom, **known)
    content = b"\0" * 128 + b"DICM" + dicom.read_bytes()
    dicom.write_bytes(content)
    with pytest.raises(Permanent, match="cannot be decoded"):
        decode(dicom)
