"""What an image gives away without its anatomy: tones, compressibility, border.

Three families of features of one 8-bit image. None of them should tell disease from
health; each tells scanners, views, post-processing and markers apart. The outer strips
of a radiograph hold some anatomy (shoulders, abdomen): what they predict is a warning,
no proof.
"""

import io
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VERSION: Final = 1
"""Raised whenever the same image gives other features."""

BINS: Final = 32
_LONGEST_PX: Final = 1024
_LEAST_PX: Final = 16
_QUALITIES: Final = (50, 90)
_STRIP, _CORNER = 0.08, 0.12
_STRIP_CELLS: Final = (2, 16)
_CORNER_CELLS: Final = (4, 4)
_TONES: Final = 3

Floats = NDArray[np.float32]

HISTOGRAM: Final = BINS + 4
COMPRESSIBILITY: Final = 2 + len(_QUALITIES)
BORDER: Final = 4 * (2 * 16 + _TONES) + 4 * (4 * 4 + _TONES)
"""How many features each family has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """The features of one image, float32.

    Parameters
    ----------
    histogram
        (36,) shares of 32 bins; mean, standard deviation (both of 0 to 1), skewness,
        kurtosis.
    compressibility
        (4,) bits per pixel: zlib, PNG, JPEG at quality 50 and 90.
    border
        (216,) of four strips of 8 % at the edges 2 x 16 cells, and of four corners of
        12 % 4 x 4 cells, each followed by mean, standard deviation (0 to 1), entropy
        (bits).
    """

    histogram: Floats
    compressibility: Floats
    border: Floats


NO_TRACE: Final = Trace(
    histogram=np.full(HISTOGRAM, np.nan, np.float32),
    compressibility=np.full(COMPRESSIBILITY, np.nan, np.float32),
    border=np.full(BORDER, np.nan, np.float32),
)
"""Of an image that cannot be decoded."""


def trace(image: NDArray[np.uint8]) -> Trace:
    """Return the features of a grey image (H, W) uint8.

    Images above 1024 pixels a side are reduced first, those below 16 enlarged.
    """
    image = _sized(image)
    return Trace(
        histogram=_histogram(image),
        compressibility=_compressibility(image),
        border=_border(image),
    )


def _sized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape
    factor = min(1.0, _LONGEST_PX / max(height, width))
    size = [max(_LEAST_PX, round(factor * side)) for side in (width, height)]
    if (height, width) == (size[1], size[0]):
        return np.ascontiguousarray(image)
    resized = Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BOX)
    return np.asarray(resized)


def _histogram(image: NDArray[np.uint8]) -> Floats:
    shares = np.histogram(image, BINS, (0, 256))[0] / image.size
    values = image.astype(np.float64) / 255
    mean, deviation = values.mean(), values.std()
    standard = (values - mean) / (deviation or 1.0)
    moments = [mean, deviation, (standard**3).mean(), (standard**4).mean()]
    return np.concatenate([shares, moments]).astype(np.float32)


def _compressibility(image: NDArray[np.uint8]) -> Floats:
    picture = Image.fromarray(image)
    sizes = [len(zlib.compress(image.tobytes(), 6)), _written(picture, "PNG")]
    sizes += [_written(picture, "JPEG", quality=quality) for quality in _QUALITIES]
    return np.array([8 * size / image.size for size in sizes], np.float32)


def _written(picture: Image.Image, kind: str, **options: int) -> int:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.tell()


def _border(image: NDArray[np.uint8]) -> Floats:
    height, width = image.shape
    top, side = (max(2, round(_STRIP * length)) for length in (height, width))
    up, across = (max(4, round(_CORNER * length)) for length in (height, width))
    strips = (image[:top], image[-top:], image[:, :side].T, image[:, -side:].T)
    corners = [
        image[rows, columns]
        for rows in (slice(None, up), slice(-up, None))
        for columns in (slice(None, across), slice(-across, None))
    ]
    parts = [_part(strip, _STRIP_CELLS) for strip in strips]
    parts += [_part(corner, _CORNER_CELLS) for corner in corners]
    return np.concatenate(parts).astype(np.float32)


def _part(pixels: NDArray[np.uint8], cells: tuple[int, int]) -> NDArray[np.float64]:
    """Return cells, mean, deviation and entropy of a part of the image."""
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (cells[1], cells[0]), Image.Resampling.BOX
    )
    shares = np.bincount(pixels.ravel(), minlength=256) / pixels.size
    seen = shares[shares > 0]
    entropy = -float(seen @ np.log2(seen))
    tones = [pixels.mean() / 255, pixels.std() / 255, entropy]
    return np.concatenate([np.asarray(small).ravel() / 255, tones])
