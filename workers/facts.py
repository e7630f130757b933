"""What a header says of its pixels: units, windows, padding, palette, shape.

Each function takes a data set, or the functional group that speaks for a frame, and
gives a value that `workers.preprocess` can work with. Attributes of PS3.3; what makes
no sense there counts as absent.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

_INT16_MAX = 0x7FFF
_UINT8_MAX = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lut:
    """A lookup table of the Modality or VOI LUT module (PS3.3 C.11.1.1, C.11.2.1.1).

    Parameters
    ----------
    first
        The input that maps to the first entry; smaller ones do too, and inputs past
        the end map to the last.
    bits
        Of each entry.
    """

    first: int
    bits: int
    entries: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Palette:
    """Colours by stored value: entries (n, 3) uint8 (PS3.3 C.7.6.3.1.5)."""

    first: int
    entries: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale:
    """Modality units = stored value * slope + intercept (PS3.3 C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiWindow:
    """A window of the header, in modality units (PS3.3 C.11.2.1.2).

    Parameters
    ----------
    function
        LINEAR, LINEAR_EXACT or SIGMOID.
    """

    center: float
    width: float
    function: str = "LINEAR"


def group_of(header: Dataset, frame: int, keyword: str) -> Dataset:
    """Return where a frame's attributes stand (PS3.3 C.7.6.16).

    In its own functional group, in the one that all frames share, or in the data set.
    """
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    groups = [*own[frame : frame + 1], *shared[:1]]
    for group in groups:
        if group.get(keyword):
            return cast("Dataset", group[keyword][0])
    return header


def rescale_of(item: Dataset) -> Rescale:
    """Return the rescale of a frame; the identity where there is none."""
    slope = _number(item.get("RescaleSlope"))
    intercept = _number(item.get("RescaleIntercept"))
    # a slope of 0 would leave nothing to see: taken for the mistake that it is
    return Rescale(slope=slope or 1.0, intercept=intercept or 0.0)


def lut_of(item: Dataset, keyword: str, *, signed: bool) -> Lut | None:
    """Return the first table of a Modality or VOI LUT Sequence, or None."""
    sequence = item.get(keyword)
    if not sequence or not sequence[0].get("LUTData"):
        return None
    count, first, bits = (int(number) for number in sequence[0].LUTDescriptor)
    if signed and first > _INT16_MAX:  # an SS that was written as a US
        first -= 1 << 16
    data = sequence[0].LUTData
    if isinstance(data, bytes):
        order = ">" if sequence[0].original_encoding[1] is False else "<"
        wide = len(data) >= 2 * (count or 1 << 16)
        entries = np.frombuffer(data, dtype=f"{order}u2" if wide else "u1")
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64))
    entries = entries[: count or 1 << 16].astype(np.uint16)
    return Lut(first=first, bits=bits, entries=entries)


def windows_of(item: Dataset) -> tuple[VoiWindow, ...]:
    """Return the windows, in the order in which the header prefers them."""
    function = str(item.get("VOILUTFunction") or "LINEAR").upper()
    pairs = zip(
        _numbers(item.get("WindowCenter")),
        _numbers(item.get("WindowWidth")),
        strict=False,
    )
    return tuple(
        VoiWindow(center=center, width=width, function=function)
        for center, width in pairs
    )


def padding_of(header: Dataset) -> tuple[float, float] | None:
    """Return the stored values that are no image (PS3.3 C.7.5.1.1.2)."""
    value = _number(header.get("PixelPaddingValue"))
    if value is None:
        return None
    limit = _number(header.get("PixelPaddingRangeLimit"))
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def palette_of(header: Dataset) -> Palette:
    """Return the palette with 8 bits a colour, segments expanded (PS3.3 C.7.9.2)."""
    count, first, bits = (
        int(number) for number in header.RedPaletteColorLookupTableDescriptor
    )
    count = count or 1 << 16
    indices = np.arange(first, first + count, dtype=np.int32)
    colours = apply_color_lut(indices, header)[:, :3]
    if bits > 8 and colours.max(initial=0) > _UINT8_MAX:  # noqa: PLR2004 - a byte
        colours = colours >> (bits - 8)
    return Palette(first=first, entries=colours.astype(np.uint8))


def aspect_of(header: Dataset, frame: int) -> float:
    """Return pixel height over width (PS3.3 C.7.6.3.1.7, 10.7.1.3)."""
    measures = group_of(header, frame, "PixelMeasuresSequence")
    for item, keyword in (
        (header, "PixelAspectRatio"),
        (measures, "PixelSpacing"),
        (header, "ImagerPixelSpacing"),
        (header, "NominalScannedPixelSpacing"),
    ):
        pair = _numbers(item.get(keyword))
        if len(pair) == 2 and min(pair) > 0:  # noqa: PLR2004 - height and width
            return pair[0] / pair[1]
    return 1.0


def numbers_of(item: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the finite numbers of an attribute, none if one of them is not."""
    return _numbers(item.get(keyword))


def _numbers(value: Any) -> tuple[float, ...]:
    """Return the finite numbers of an element, none if one of them is not."""
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, (str, int, float)) else list(value)
    try:
        numbers = tuple(float(item) for item in values)
    except (TypeError, ValueError):
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()


def _number(value: Any) -> float | None:
    numbers = _numbers(value)
    return numbers[0] if numbers else None
