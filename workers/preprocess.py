"""From stored values to grey levels and to model input: pure functions on one frame.

The grayscale pipeline of PS3.4 N.2: modality transformation (PS3.3 C.11.1), values of
interest (PS3.3 C.11.2, or what the pack's policy puts in its place), MONOCHROME1
turned over (PS3.3 C.7.6.3.1.2), 8 bits. Colour images skip it.

Everything before the resize depends on the stored value alone. For images of up to 16
bits it is worked out once per value, in double precision, and then looked up: exact,
and faster than working on pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.decode import Decoded
from workers.facts import Lut, Palette, Rescale, VoiWindow
from workers.policy import (
    Jpeg,
    Method,
    Percentiles,
    Preprocessing,
    Resize,
    Step,
    Toolkit,
    Voi,
    Window,
)
from workers.resample import bicubic, jpeg, spline

Grey = NDArray[np.uint8]
"""(H, W) uint8, 0 black to 255 white; or (H, W, 3) uint8 RGB."""

Values = NDArray[np.float64]
"""In modality units; NaN where there is no image."""

_WHITE = 255
_BYTE_BITS = 8
_TABLE_BITS = 16
_ON_A_SCREEN = Voi(low=0.5, high=99.5)


def prepare(decoded: Decoded, policy: Preprocessing) -> Grey:
    """Return model input, not yet normalised: (S, S) or (S, S, 3) uint8.

    A grey image stands for three equal channels.
    """
    image = intensities(decoded, policy.method_for(decoded.modality))
    for step in policy.standardise:
        image = _standardised(image, step)
    return bicubic(image, policy.size)


def display(decoded: Decoded) -> Grey:
    """Return the frame as a viewer shows it: (H, W) or (H, W, 3) uint8.

    Rows and columns are as stored; `Decoded.aspect` says how high a pixel is. A window
    that would show nothing at all is not believed.
    """
    shown = intensities(decoded, _ON_A_SCREEN)
    if shown.ndim == 2 and shown.size and shown.min() == shown.max():  # noqa: PLR2004 - grey
        return intensities(decoded, Percentiles(low=0.5, high=99.5))
    return shown


def intensities(decoded: Decoded, method: Method) -> Grey:
    """Return the frame at its own size: (H, W) or (H, W, 3) uint8."""
    if decoded.photometric == "RGB":
        return _colour(decoded)
    if decoded.palette is not None:
        return _look_up(decoded.pixels, decoded.palette)
    if isinstance(method, Toolkit):
        return _as_toolkit(decoded, method)
    return _monochrome(decoded, method)


def fit(image: Grey, longest_px: int) -> Grey:
    """Return `image` with no side longer than `longest_px`, its proportions kept."""
    if max(image.shape[:2]) <= longest_px:
        return image
    small = Image.fromarray(image)
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def channels(image: Grey) -> Grey:
    """Return (3, S, S) uint8 of (S, S) or (S, S, 3), as a view."""
    if image.ndim == 2:  # noqa: PLR2004 - grey
        return np.broadcast_to(image, (3, *image.shape))
    return np.moveaxis(image, 2, 0)


def _standardised(image: Grey, step: Step) -> Grey:
    match step:
        case Resize(size=size, filter="spline"):
            return spline(image, size)
        case Resize(size=size):
            return bicubic(image, size)
        case Jpeg(quality=quality):
            return jpeg(image, quality)


def _colour(decoded: Decoded) -> Grey:
    """Return RGB with the highest 8 of its stored bits."""
    excess = max(decoded.bits - _BYTE_BITS, 0)
    pixels = decoded.pixels >> excess if excess else decoded.pixels
    grey: Grey = pixels.clip(0, _WHITE).astype(np.uint8)
    return grey


def _look_up(pixels: NDArray[Any], palette: Palette) -> Grey:
    """Return the colours of a palette image (PS3.3 C.7.6.3.1.5)."""
    last = len(palette.entries) - 1
    index = (pixels.astype(np.int32) - palette.first).clip(0, last)
    colours: Grey = palette.entries[index]
    return colours


def _as_toolkit(decoded: Decoded, method: Toolkit) -> Grey:
    """Return grey levels in the polarity in which they are stored, cut off."""
    pixels = decoded.pixels
    if pixels.dtype == np.uint8 and decoded.rescale == Rescale():
        return pixels
    levels = _Levels.of(pixels)
    values = _modality(levels.stored, decoded)
    found = levels.percentiles(values, method.low, method.high)
    return levels.spread(np.nan_to_num(_ramp(values, *found)))


def _monochrome(decoded: Decoded, method: Percentiles | Window | Voi) -> Grey:
    levels = _Levels.of(decoded.pixels)
    values = _without_padding(_modality(levels.stored, decoded), levels.stored, decoded)
    match method:
        case Window(center=center, width=width):
            grey = _ramp(values, center - width / 2, center + width / 2)
        case Percentiles(low=low, high=high):
            grey = _ramp(values, *levels.percentiles(values, low, high))
        case Voi():
            grey = _voi(levels, values, decoded, method)
    if decoded.photometric == "MONOCHROME1":
        grey = _WHITE - grey
    return levels.spread(np.where(np.isfinite(values), np.rint(grey), 0))


def _modality(stored: NDArray[Any], decoded: Decoded) -> Values:
    """Return stored values in modality units (PS3.3 C.11.1)."""
    if decoded.modality_lut is not None:
        return _entries(stored, decoded.modality_lut)
    rescale = decoded.rescale
    values: Values = stored.astype(np.float64) * rescale.slope + rescale.intercept
    return values


def _without_padding(values: Values, stored: NDArray[Any], decoded: Decoded) -> Values:
    """Return `values` with NaN where `stored` stands for no image."""
    if decoded.padding is not None:
        low, high = decoded.padding
        values[(stored >= low) & (stored <= high)] = np.nan
    return values


def _voi(levels: "_Levels", values: Values, decoded: Decoded, method: Voi) -> Values:
    """Return grey levels by the header's VOI LUT or first window (PS3.3 C.11.2).

    Without either: the full range of images that have 8 bits, else percentiles.
    """
    if decoded.voi_lut is not None:
        lut = decoded.voi_lut
        full = max((1 << lut.bits) - 1, int(lut.entries.max(initial=1)))
        return _entries(np.rint(np.nan_to_num(values)), lut) * (_WHITE / full)
    for window in decoded.windows:
        if window.width >= 1 or (window.width > 0 and window.function != "LINEAR"):
            return _windowed(values, window)
    if decoded.bits <= _BYTE_BITS and decoded.modality_lut is None:
        return _ramp(values, *_full_range(decoded))
    return _ramp(values, *levels.percentiles(values, method.low, method.high))


def _windowed(values: Values, window: VoiWindow) -> Values:
    center, width = window.center, window.width
    if window.function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        exponent = (-4 * (values - center) / width).clip(-700, 700)
        curve: Values = _WHITE / (1 + np.exp(exponent))
        return curve
    if window.function == "LINEAR_EXACT":  # PS3.3 C.11.2.1.3.2
        return _ramp(values, center - width / 2, center + width / 2)
    low = center - 0.5 - (width - 1) / 2  # PS3.3 C.11.2.1.2.1
    return _ramp(values, low, low + width - 1)


def _ramp(values: Values, low: float, high: float) -> Values:
    """Return 0 at `low` and below, 255 at `high` and above, a line between them."""
    if high > low:
        grey: Values = ((values - low) / (high - low)).clip(0, 1) * _WHITE
        return grey
    return np.where(values > high, float(_WHITE), 0.0)


def _full_range(decoded: Decoded) -> tuple[float, float]:
    """Return the modality values that the stored bits can have."""
    signed = decoded.pixels.dtype.kind == "i"
    lowest = -(1 << decoded.bits - 1) if signed else 0
    slope, intercept = decoded.rescale.slope, decoded.rescale.intercept
    ends = [
        stored * slope + intercept
        for stored in (lowest, lowest + (1 << decoded.bits) - 1)
    ]
    return min(ends), max(ends)


def _entries(inputs: NDArray[Any], lut: Lut) -> Values:
    """Return what a lookup table makes of its inputs (PS3.3 C.11.1.1.1)."""
    index = (inputs - lut.first).clip(0, len(lut.entries) - 1).astype(np.int64)
    return lut.entries[index].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Levels:
    """The stored values of an image, once each where that is fewer than pixels.

    Parameters
    ----------
    stored
        (n,) the values to work out.
    index
        (H, W) which of them a pixel has; None where each pixel has its own.
    """

    stored: NDArray[Any]
    index: NDArray[Any] | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> "_Levels":
        """Return the levels of `pixels` (H, W)."""
        bits = 8 * pixels.dtype.itemsize
        if not pixels.size or pixels.dtype.kind not in "iu" or bits > _TABLE_BITS:
            return cls(stored=pixels.ravel(), index=None, shape=pixels.shape)
        low = int(pixels.min())
        stored = np.arange(low, int(pixels.max()) + 1)
        # offsets from the lowest value, by arithmetic modulo 2**bits; in the type that
        # counting and looking up would each turn them into
        offsets = pixels.view(f"u{pixels.dtype.itemsize}") - low % (1 << bits)
        return cls(stored=stored, index=offsets.astype(np.intp), shape=pixels.shape)

    def percentiles(
        self, values: Values, low: float, high: float
    ) -> tuple[float, float]:
        """Return two percentiles of the pixels' values, as `numpy.percentile` would.

        `values` (n,) are those of `stored`; NaN is left out.
        """
        seen = np.isfinite(values)
        if self.index is None:
            counts = np.ones(values.size, dtype=np.int64)
        else:
            counts = np.bincount(self.index.ravel(), minlength=values.size)
            seen &= counts > 0
        if not seen.any():
            return 0.0, 0.0
        values, counts = values[seen], counts[seen]
        order = np.argsort(values, kind="stable")
        values, ends = values[order], np.cumsum(counts[order])
        return _at_percent(values, ends, low), _at_percent(values, ends, high)

    def spread(self, grey: Values) -> Grey:
        """Return the image (H, W) of which the levels have these grey values (n,)."""
        levels = grey.astype(np.uint8)
        if self.index is None:
            return levels.reshape(self.shape)
        found: Grey = levels.take(self.index, mode="clip")  # all of them are inside
        return found


def _at_percent(values: Values, ends: NDArray[np.int64], percent: float) -> float:
    """Return a percentile by linear interpolation between neighbouring pixels.

    `values` ascend; `ends` are how many pixels have that value or a smaller one.
    """
    rank = (int(ends[-1]) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, int(ends[-1]) - 1)
    first, second = values[np.searchsorted(ends, [below, above], side="right")]
    return float(first + (second - first) * (rank - below))
