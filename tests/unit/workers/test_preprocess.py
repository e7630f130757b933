"""What the model and the radiologist get to see of stored values."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from scipy import ndimage

from dicom_node.domain import Sha256
from tests.packs import POLICY
from workers.decode import Decoded, decode
from workers.facts import Lut, Palette, Rescale, VoiWindow
from workers.phantoms import KINDS, ChestPhantom, ct_grey, phantom, radiograph_grey
from workers.phantoms.study import datasets
from workers.policy import (
    NAMES,
    IntensityRule,
    Percentiles,
    Toolkit,
    Voi,
    Window,
    named,
)
from workers.preprocess import (
    channels,
    display,
    fit,
    intensities,
    prepare,
)
from workers.resample import bicubic, spline

RANDOM = np.random.default_rng(7)
STORED = RANDOM.integers(-1200, 3000, (60, 50)).astype(np.int16)


def frame(pixels: NDArray[Any] = STORED, **changes: Any) -> Decoded:
    """Return a decoded frame: monochrome, without rescale, window or padding."""
    values: dict[str, Any] = {
        "pixels": pixels,
        "photometric": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
        "bits": 8 * pixels.dtype.itemsize,
        "modality": "CT",
        "rescale": Rescale(),
        "modality_lut": None,
        "voi_lut": None,
        "windows": (),
        "padding": None,
        "palette": None,
        "aspect": 1.0,
        "digest": Sha256("0" * 64),
    }
    return Decoded(**values | changes)


def by_hand(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return the ramp from `low` to `high` in 8 bits, pixel by pixel."""
    ramp = np.clip((values - low) / (high - low), 0, 1) * 255
    return np.rint(ramp).astype(np.uint8)


# ── intensities ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_percentiles_are_those_of_numpy(dtype: str) -> None:
    """Looked up or worked out pixel by pixel: the same grey levels."""
    span = np.iinfo(dtype) if dtype[0] in "iu" else np.finfo(np.float16)
    pixels = RANDOM.normal(0, 0.2 * float(span.max), (60, 50))
    pixels = pixels.clip(float(span.min), float(span.max)).astype(dtype)
    values = pixels.astype(np.float64) * 0.5 - 100
    low, high = np.percentile(values, (2, 97.5))
    found = intensities(
        frame(pixels, rescale=Rescale(slope=0.5, intercept=-100)),
        Percentiles(low=2, high=97.5),
    )
    np.testing.assert_allclose(found, by_hand(values, low, high), atol=1)


def test_percentiles_leave_padding_out() -> None:
    """Half an image of padding does not push the anatomy into white."""
    padded = np.concatenate([STORED, np.full_like(STORED, -2000)])
    found = intensities(frame(padded, padding=(-2000, -2000)), Percentiles())
    bare = intensities(frame(), Percentiles())
    np.testing.assert_array_equal(found[:60], bare)
    assert found[60:].max() == 0


def test_a_padding_range_is_left_out_as_a_whole() -> None:
    """PS3.3 C.7.5.1.1.2: every value between Value and Range Limit."""
    padded = np.concatenate([STORED, RANDOM.integers(-3000, -2000, STORED.shape)])
    found = intensities(
        frame(padded.astype(np.int16), padding=(-3000, -2000)), Percentiles()
    )
    np.testing.assert_array_equal(found[:60], intensities(frame(), Percentiles()))


def test_padding_is_black_in_both_polarities() -> None:
    """Turned over or not, what is no image does not shine."""
    pixels = np.array([[0, 10, 20, 4095]], dtype=np.uint16)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        shown = intensities(
            frame(pixels, photometric=photometric, padding=(4095, 4095)), Percentiles()
        )
        assert shown[0, 3] == 0


@pytest.mark.parametrize("value", [0, -2000, 3])
def test_an_image_of_one_value_is_black(value: int) -> None:
    """A blank exposure has no contrast to stretch."""
    blank = np.full((9, 9), value, dtype=np.int16)
    assert intensities(frame(blank), Percentiles()).max() == 0
    assert intensities(frame(blank, padding=(value, value)), Percentiles()).max() == 0


def test_a_fixed_window_is_in_modality_units() -> None:
    """HU, whatever the stored values and the header's own window."""
    found = intensities(
        frame(
            rescale=Rescale(slope=2, intercept=-1024),
            windows=(VoiWindow(center=600, width=2800),),
        ),
        Window(center=40, width=80),
    )
    np.testing.assert_array_equal(found, by_hand(STORED * 2.0 - 1024, 0, 80))


def test_monochrome1_is_turned_over() -> None:
    """White on film is white here (PS3.3 C.7.6.3.1.2)."""
    plain = intensities(frame(), Percentiles()).astype(int)
    turned = intensities(frame(photometric="MONOCHROME1"), Percentiles())
    np.testing.assert_allclose(turned, 255 - plain, atol=1)


def test_a_negative_slope_turns_the_order_of_values() -> None:
    """The largest stored value is then the smallest."""
    found = intensities(frame(rescale=Rescale(slope=-1)), Percentiles())
    values = -STORED.astype(np.float64)
    np.testing.assert_array_equal(
        found, by_hand(values, *np.percentile(values, (1, 99)))
    )


def test_a_modality_lut_takes_the_place_of_rescale() -> None:
    """Inputs beyond its ends map to the ends (PS3.3 C.11.1.1.1)."""
    lut = Lut(first=10, bits=16, entries=np.array([0, 100, 1000], dtype=np.uint16))
    pixels = np.array([[0, 10, 11, 12, 500]], dtype=np.uint16)
    found = intensities(
        frame(pixels, modality_lut=lut, rescale=Rescale(slope=0, intercept=7)),
        Window(center=500, width=1000),
    )
    np.testing.assert_array_equal(found, [[0, 0, 26, 255, 255]])


def test_no_numbers_become_black() -> None:
    """Not a number and infinity are no image; percentiles do not see them."""
    pixels = STORED.astype(np.float32)
    pixels[0, :3] = (np.nan, np.inf, -np.inf)
    found = intensities(frame(pixels), Percentiles())
    assert not found[0, :3].any()
    assert found[1:].max() == 255


# ── what viewers show ───────────────────────────────────────────────────────


def header(**attributes: Any) -> Dataset:
    """Return a header that pydicom can apply windows of."""
    dataset = Dataset()
    dataset.BitsStored, dataset.PixelRepresentation = 16, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (1000.5, 30), (0, 4000)])
def test_windows_are_applied_as_pydicom_does(
    function: str, center: float, width: float
) -> None:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, held to another implementation."""
    dataset = header(
        RescaleSlope="1",
        RescaleIntercept="-24",
        WindowCenter=str(center),
        WindowWidth=str(width),
        VOILUTFunction=function,
    )
    values = apply_voi_lut(apply_modality_lut(STORED, dataset), dataset)
    low, high = -(2**15) - 24, 2**15 - 1 - 24
    found = intensities(
        frame(
            rescale=Rescale(intercept=-24),
            windows=(VoiWindow(center=center, width=width, function=function),),
        ),
        Voi(),
    )
    np.testing.assert_allclose(found, by_hand(values, low, high), atol=1)


def test_a_voi_lut_is_applied_as_pydicom_does() -> None:
    """It comes before a window, and its entries fill the grey scale."""
    entries = (np.sqrt(np.arange(2000)) * 91).astype(np.uint16)
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [2000, 0, 12])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    dataset = header(VOILUTSequence=Sequence([item]))
    expected = apply_voi_lut(STORED.clip(0, None), dataset) / 4095 * 255
    lut = Lut(first=0, bits=12, entries=entries)
    windows = (VoiWindow(center=0, width=10),)
    found = intensities(frame(voi_lut=lut, windows=windows), Voi())
    np.testing.assert_allclose(found, expected, atol=1)


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    """An ultrasound image or a photograph needs no stretching."""
    pixels = RANDOM.integers(50, 90, (20, 20)).astype(np.uint8)
    np.testing.assert_array_equal(display(frame(pixels)), pixels)


def test_a_window_that_shows_nothing_is_not_believed() -> None:
    """Better a stretched image than a black page."""
    absurd = frame(windows=(VoiWindow(center=30000, width=10),))
    shown = display(absurd)
    assert shown.min() == 0
    assert shown.max() == 255


def test_a_window_of_no_width_is_passed_over() -> None:
    """The header's next window is used."""
    windows = (VoiWindow(center=40, width=0), VoiWindow(center=40, width=80))
    one = intensities(frame(windows=windows), Voi())
    other = intensities(frame(windows=windows[1:]), Voi())
    np.testing.assert_array_equal(one, other)


# ── colour ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("bits", "dtype"), [(8, "u1"), (12, "u2"), (16, "u2")])
def test_colours_keep_their_highest_bits(bits: int, dtype: str) -> None:
    """Full scale is full scale, whatever the depth."""
    full = (1 << bits) - 1
    pixels = np.array([[[0, full // 2, full]]], dtype=dtype)
    shown = intensities(frame(pixels, bits=bits), Percentiles())
    np.testing.assert_array_equal(shown, [[[0, 127, 255]]])


def test_a_palette_is_looked_up() -> None:
    """Stored values beyond its ends have the colours of the ends."""
    colours = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    pixels = np.array([[0, 10, 11, 99]], dtype=np.uint8)
    shown = intensities(
        frame(
            pixels,
            photometric="PALETTE COLOR",
            palette=Palette(first=10, entries=colours),
        ),
        Percentiles(),
    )
    np.testing.assert_array_equal(shown[0], colours[[0, 0, 1, 1]])


# ── geometry ────────────────────────────────────────────────────────────────


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["gray", "rgb"])
def test_resizing_is_that_of_the_reference(shared: Path, name: str) -> None:
    """At most one grey level from the published golden."""
    golden = np.load(shared / "golden" / "preprocess.npz")
    found = bicubic(golden[f"{name}:in"], 480).astype(int)
    assert np.abs(found - golden[f"{name}:resized480"]).max() <= 1


def test_model_input_is_square_and_bicubic() -> None:
    """Proportions are not kept: the model was trained that way."""
    grey = intensities(frame(modality="DX"), Percentiles())
    expected = Image.fromarray(grey).resize((56, 56), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(prepare(frame(modality="DX"), POLICY), expected)


def test_a_grey_image_stands_for_three_equal_channels() -> None:
    """(3, S, S) in any case, and without a copy."""
    grey = prepare(frame(), POLICY)
    three = channels(grey)
    assert three.shape == (3, 56, 56)
    assert all((channel == grey).all() for channel in three)
    colour = prepare(frame(np.zeros((8, 9, 3), dtype=np.uint8)), POLICY)
    assert channels(colour).shape == (3, 56, 56)


def test_an_image_to_look_at_keeps_its_proportions() -> None:
    """Large ones shrink to fit, small ones stay."""
    wide = np.zeros((500, 2000), dtype=np.uint8)
    assert fit(wide, 1000).shape == (250, 1000)
    assert fit(wide, 4000) is wide


# ── policies with a name of their own ───────────────────────────────────────


def by_toolkit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what the public toolkit makes of an array: percentiles, cut off."""
    low, high = np.percentile(values, (1, 99))
    levels: NDArray[np.float64] = (values.clip(low, high) - low) / (high - low) * 255
    return levels.astype(np.uint8)


def test_the_toolkit_sees_padding_and_keeps_polarity() -> None:
    """Padding counts in its percentiles, levels are cut off, nothing is turned over."""
    pixels = np.concatenate([STORED, np.full_like(STORED, -2000)])
    one = frame(
        pixels,
        padding=(-2000, -2000),
        photometric="MONOCHROME1",
        rescale=Rescale(slope=2, intercept=-1024),
        windows=(VoiWindow(center=40, width=80),),
    )
    expected = by_toolkit(pixels * 2.0 - 1024).astype(int)
    found = intensities(one, Toolkit())
    assert np.abs(found - expected).max() <= 1  # where a level falls on a whole number
    assert (found == expected).mean() > 0.99


def test_the_toolkit_leaves_eight_bits_as_they_are() -> None:
    """No percentiles, MONOCHROME1 or not; a rescale makes them other values."""
    pixels = RANDOM.integers(50, 90, (20, 20)).astype(np.uint8)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        shown = intensities(frame(pixels, photometric=photometric), Toolkit())
        np.testing.assert_array_equal(shown, pixels)
    rescaled = frame(pixels, rescale=Rescale(slope=2))
    assert intensities(rescaled, Toolkit()).max() == 255


@pytest.mark.parametrize("colour", [False, True])
def test_the_endpoints_way_is_that_of_pillow(*, colour: bool) -> None:
    """512 in the original mode, RGB, JPEG of quality 75, then 480: step by step."""
    shape = (300, 260, 3) if colour else (300, 260)
    pixels = RANDOM.integers(0, 256, shape).astype(np.uint8)
    one = frame(pixels)
    start = Image.fromarray(intensities(one, Percentiles()))
    standard = start.resize((512, 512), Image.Resampling.BICUBIC).convert("RGB")
    with BytesIO() as file:
        standard.save(file, "JPEG", quality=75)
        back = Image.open(file).convert("RGB")
        expected = back.resize((480, 480), Image.Resampling.BICUBIC)
    found = channels(prepare(one, named("endpoint")))
    np.testing.assert_array_equal(np.moveaxis(found, 0, 2), np.asarray(expected))


def as_scikit_image(image: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Return what ``skimage.transform.resize`` computes, by the functions it calls."""
    factors = np.array(image.shape) / size
    sigma = np.maximum(0, (factors - 1) / 2)
    smooth = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="constant")
    zoomed = ndimage.zoom(
        smooth, 1 / factors, order=3, mode="grid-constant", grid_mode=True
    )
    clipped: NDArray[np.float64] = zoomed.clip(image.min(), image.max())
    return clipped


@pytest.mark.parametrize("shape", [(512, 512), (300, 200), (700, 1024), (97, 131)])
def test_the_spline_is_that_of_scikit_image(shape: tuple[int, int]) -> None:
    """Smaller or larger: anti-aliased, cubic, black beyond the edges."""
    image = RANDOM.integers(0, 256, shape).astype(np.uint8)
    exact = as_scikit_image(image, 480)
    found = spline(image, 480)
    assert np.abs(found - exact.astype(np.uint8).astype(int)).max() <= 1
    whole = np.abs(exact - np.rint(exact)) < 1e-6
    np.testing.assert_array_equal(found[~whole], exact.astype(np.uint8)[~whole])


def test_the_spline_takes_colours_one_by_one() -> None:
    """Three planes, each as a grey image."""
    image = RANDOM.integers(0, 256, (90, 70, 3)).astype(np.uint8)
    image[0, 0], image[0, 1] = 0, 255  # one range for all: levels are clipped to it
    found = spline(image, 48)
    for band in range(3):
        np.testing.assert_array_equal(found[..., band], spline(image[..., band], 48))


@pytest.mark.corpus
@pytest.mark.parametrize("name", NAMES)
def test_named_policies_see_real_files(shared: Path, name: str) -> None:
    """CT, a radiograph in MONOCHROME1, ultrasound in colour: 480 by 480, not blank."""
    files = ("CT_small.dcm", "RG3_J2KI.dcm", "US1_UNCR.dcm")
    for found in (next((shared / "data" / "dicom").rglob(file)) for file in files):
        seen = prepare(decode(found), named(name))
        assert seen.shape[:2] == (480, 480)
        assert np.ptp(seen) > 100


# ── what the demo pack was trained on ───────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_sees_of_a_phantom_what_training_saw(kind: str, dicom: Path) -> None:
    """From the DICOM file, within two grey levels of the training image."""
    policy = replace(
        POLICY,
        size=96,
        intensity=(
            IntensityRule(modality=("CT",), method=Window(center=40, width=100)),
            IntensityRule(method=Percentiles()),
        ),
    )
    made = phantom(kind, 3)
    for index, dataset in enumerate(datasets(made, size=192, slices=2)):
        dataset.save_as(dicom, enforce_file_format=True)
        seen = prepare(decode(dicom), policy).astype(int)
        if isinstance(made, ChestPhantom):
            trained = radiograph_grey(made.pixels(192), 96, inverted=made.inverted)
        else:
            trained = ct_grey(made.pixels(made.levels(2)[index], 192), 96)
        assert np.abs(seen - trained).max() <= 2
