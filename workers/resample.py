"""Images to other sizes: pure functions on 8-bit pixels, as named steps of a policy.

`bicubic` is Pillow's. `spline` is what scikit-image's ``resize`` does
with order 3, mode "constant" and anti-aliasing, as two matrices: a Gaussian and a cubic
spline are linear and separable. The spline: M. Unser, "Splines: a perfect fit for
signal and image processing", 1999. `jpeg` is a way through a JPEG file.
"""

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""(H, W) grey or (H, W, 3) RGB, uint8."""

_POLE = np.sqrt(3) - 2
_GAUSSIAN_REACH = 4.0
"""In standard deviations, as in scipy.ndimage."""


def bicubic(image: Pixels, size: int) -> Pixels:
    """Return `image` as (size, size) or (size, size, 3): Pillow's own bicubic."""
    wanted = (size, size)
    return np.asarray(Image.fromarray(image).resize(wanted, Image.Resampling.BICUBIC))


def spline(image: Pixels, size: int) -> Pixels:
    """Return `image` as (size, size) or (size, size, 3): cubic spline, anti-aliased.

    Beyond its edges the image is black. Levels are cut off, not rounded.
    """
    height, width = image.shape[:2]
    down, across = _spline(height, size), _spline(width, size)
    values = np.moveaxis(np.atleast_3d(image), 2, 0).astype(np.float64)
    levels = (down @ values @ across.T).clip(values.min(), values.max())
    found = np.moveaxis(levels, 0, 2).astype(np.uint8)
    return found[..., 0] if image.ndim == 2 else found  # noqa: PLR2004 - grey


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Return `image` as it comes back from a JPEG file that Pillow writes.

    A grey image is written as such: as RGB it would come back the same.
    """
    with BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))


@lru_cache(maxsize=32)
def _spline(length: int, size: int) -> NDArray[np.float64]:
    """Return (size, length): each new sample as a sum of the old ones."""
    factor = length / size
    places = (np.arange(size) + 0.5) * factor - 0.5
    weights = _cardinal(np.subtract.outer(places, np.arange(length)))
    sigma = max(0.0, (factor - 1) / 2)
    reach = int(_GAUSSIAN_REACH * sigma + 0.5)
    if not reach:
        return weights
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    padded = np.pad(weights, ((0, 0), (reach, reach)))
    terms = zip(kernel / kernel.sum(), range(2 * reach + 1), strict=True)
    smooth: NDArray[np.float64] = sum(
        (weight * padded[:, at : at + length] for weight, at in terms),
        np.zeros_like(weights),
    )
    return smooth


def _cardinal(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cubic spline that is 1 at 0, and 0 at every other whole number."""
    knot = np.floor(distance)
    found = np.zeros_like(distance)
    for step in (-1, 0, 1, 2):
        at = knot + step
        found += np.sqrt(3) * _POLE ** np.abs(at) * _b_spline(distance - at)
    return found


def _b_spline(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cubic B-spline, which is 0 from a distance of 2 on."""
    far = np.abs(distance)
    near: NDArray[np.float64] = np.where(
        far < 1, 2 / 3 - far**2 + far**3 / 2, (2 - far).clip(0) ** 3 / 6
    )
    return near
