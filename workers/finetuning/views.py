"""The same image, seen otherwise: what is altered before a model learns from it.

As in the official configuration: a random crop, resized (area 0.8 to 1, proportions
3/4 to 4/3); one alteration of random strength (Müller and Hutter, TrivialAugment,
ICCV 2021, its wide space); an erased rectangle with probability 0.25 (Zhong et al.,
Random Erasing Data Augmentation, 2017). No flips: left and right matter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Alteration = Literal["wide", "mild", "none"]
"""``wide`` rotates and inverts, too; ``mild`` crops, erases and changes contrast."""

_AREA = (0.8, 1.0)
_PROPORTIONS = (3 / 4, 4 / 3)
_TRIES = 10
_ERASED_SHARE, _ERASED_AREA, _ERASED_PROPORTIONS = 0.25, (0.02, 0.33), (0.3, 3.3)
_ENHANCERS = (
    ImageEnhance.Brightness,
    ImageEnhance.Color,
    ImageEnhance.Contrast,
    ImageEnhance.Sharpness,
)
_Operation = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: int
    top: int
    width: int
    height: int


def alteration(name: str) -> Alteration:
    """Return the alteration of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    for known in get_args(Alteration):
        if known == name:
            return cast("Alteration", known)
    raise ValueError(f"images are altered wide, mild or none, not {name!r}")


def altered(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    how: Alteration,
    fill: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Return another view of an image (3, S, S) uint8 RGB, of the same size.

    Parameters
    ----------
    fill
        Grey levels of what is erased.
    """
    if how == "none":
        return image
    seen = _cropped(
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), rng
    )
    operations = _WIDE if how == "wide" else _MILD
    seen = operations[int(rng.integers(len(operations)))](seen, rng)
    view = np.asarray(seen, np.uint8).transpose(2, 0, 1).copy()
    if rng.random() < _ERASED_SHARE:
        box = _box(rng, view.shape[1], _ERASED_AREA, _ERASED_PROPORTIONS)
        rows = slice(box.top, box.top + box.height)
        columns = slice(box.left, box.left + box.width)
        view[:, rows, columns] = np.array(fill, np.uint8)[:, None, None]
    return view


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    box = _box(rng, image.width, _AREA, _PROPORTIONS)
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=corners)


def _box(
    rng: np.random.Generator,
    side: int,
    area: tuple[float, float],
    proportions: tuple[float, float],
) -> _Box:
    """Return a rectangle inside a square; all of it where none of ten tries fits."""
    for _ in range(_TRIES):
        pixels = rng.uniform(*area) * side * side
        low, high = map(math.log, proportions)
        ratio = math.exp(rng.uniform(low, high))
        width, height = (
            round(math.sqrt(pixels * ratio)),
            round(math.sqrt(pixels / ratio)),
        )
        if 0 < width <= side and 0 < height <= side:
            return _Box(
                left=int(rng.integers(side - width + 1)),
                top=int(rng.integers(side - height + 1)),
                width=width,
                height=height,
            )
    return _Box(left=0, top=0, width=side, height=side)


# ── one alteration of random strength ────────────────────────────────────────


def _as_it_is(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001 - one of many
    return image


def _enhanced(
    image: Image.Image, rng: np.random.Generator, *, enhancer: type, most: float
) -> Image.Image:
    factor = 1 + rng.uniform(-most, most)
    made: Image.Image = enhancer(image).enhance(factor)
    return made


def _sheared(
    image: Image.Image, rng: np.random.Generator, *, across: bool
) -> Image.Image:
    slope = rng.uniform(-0.99, 0.99)
    half = image.width / 2
    matrix = (1, slope, -slope * half, 0, 1, 0)
    upright = (1, 0, 0, slope, 1, -slope * half)
    chosen = matrix if across else upright
    return image.transform(image.size, Image.Transform.AFFINE, chosen)


def _moved(
    image: Image.Image, rng: np.random.Generator, *, across: bool
) -> Image.Image:
    by = round(rng.uniform(-1, 1) * image.width / 7)  # 32 of 224 pixels
    x, y = (by, 0) if across else (0, by)
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y))


def _turned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(-135, 135), Image.Resampling.NEAREST)


def _posterized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.posterize(image, int(rng.integers(2, 9)))


def _solarized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(image, int(rng.integers(0, 256)))


def _stretched(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001 - one of many
    return ImageOps.autocontrast(image)


def _equalized(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001 - one of many
    return ImageOps.equalize(image)


_WIDE: tuple[_Operation, ...] = (
    _as_it_is,
    *(partial(_sheared, across=across) for across in (True, False)),
    *(partial(_moved, across=across) for across in (True, False)),
    _turned,
    *(partial(_enhanced, enhancer=one, most=0.99) for one in _ENHANCERS),
    _posterized,
    _solarized,
    _stretched,
    _equalized,
)
_MILD: tuple[_Operation, ...] = (
    _as_it_is,
    *(partial(_moved, across=across) for across in (True, False)),
    *(partial(_enhanced, enhancer=one, most=0.4) for one in _ENHANCERS),
    _stretched,
)
