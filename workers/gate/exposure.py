"""Strangers made of validation images: inverted, turned, and blank ones.

What a gate is tuned on, and all that it is tuned on: photographs, hands and fruit it has
never seen. Blank ones are drawn as the model would get them, after the grey levels were
stretched: noise, slopes, slow unevenness, shutters, or one grey.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = ("inverted", "turned 90", "turned 180", "turned 270", "blank")
FROM_NONE = -1
"""In place of the image that a stranger was made of: it is a blank one."""

_WHITE = 255
_CELLS = (3, 9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strangers:
    """Model input that is outside of what was validated.

    Parameters
    ----------
    images
        (M, 3, S, S) or (M, S, S) uint8, as those that they were made of.
    origin
        (M,) which image each was made of, or `FROM_NONE`.
    kind
        (M,) index in `KINDS`.
    """

    images: NDArray[np.uint8]
    origin: NDArray[np.int32]
    kind: NDArray[np.int8]


def strangers(images: NDArray[np.uint8], *, seed: int = 0) -> Strangers:
    """Return strangers made of (N, 3, S, S) or (N, S, S) uint8: five for each image."""
    count, size = len(images), images.shape[-1]
    rng = np.random.default_rng([7, seed])
    made = [255 - images]
    made += [np.rot90(images, turns, axes=(-2, -1)) for turns in (1, 2, 3)]
    blanks = np.array([_blank(rng, size) for _ in range(count)], np.uint8)
    grey = (count, *(1,) * (images.ndim - 3), size, size)
    made.append(np.broadcast_to(blanks.reshape(grey), images.shape))
    rows = np.arange(count, dtype=np.int32)
    none = np.full(count, FROM_NONE, np.int32)
    return Strangers(
        images=np.ascontiguousarray(np.concatenate(made)),
        origin=np.concatenate([rows, rows, rows, rows, none]),
        kind=np.repeat(np.arange(len(KINDS), dtype=np.int8), count),
    )


def _blank(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """(S, S) uint8 without anything on it."""
    if rng.random() < 0.15:  # noqa: PLR2004 - an exposure of nothing, or of too much
        return np.full((size, size), int(rng.integers(0, _WHITE + 1)), dtype=np.uint8)
    across = np.linspace(-1, 1, size)
    slope = rng.normal(0, 1, 2) * (rng.random() < 0.7)  # noqa: PLR2004 - most have one
    image = slope[0] * across[None, :] + slope[1] * across[:, None]
    image += rng.uniform(0, 1) * (rng.random() < 0.5) * _uneven(rng, size)  # noqa: PLR2004 - half
    grain = np.exp(rng.uniform(np.log(0.02), np.log(2)))
    image += grain * rng.standard_normal((size, size))
    low, high = np.percentile(image, (1, 99))
    level = np.rint((image - low) / (high - low) * _WHITE).clip(0, _WHITE)
    if rng.random() < 0.4:  # noqa: PLR2004 - collimated
        level = _shuttered(rng, level)
    return np.asarray(level, dtype=np.uint8)


def _uneven(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    cells = int(rng.integers(*_CELLS))
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    )


def _shuttered(
    rng: np.random.Generator, level: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same between four shutters; stretched, little but their contrast is left."""
    size = len(level)
    left, top = (rng.uniform(0.02, 0.4, 2) * size).astype(int)
    right, bottom = ((1 - rng.uniform(0.02, 0.4, 2)) * size).astype(int)
    black = rng.random() < 0.5  # noqa: PLR2004 - half
    out = np.full_like(level, 0 if black else _WHITE)
    inner = level[top:bottom, left:right]
    plain = rng.random() < 0.5  # noqa: PLR2004 - half
    share = rng.uniform(0, 0.15) if plain else 1.0
    flat = (_WHITE if black else 0) * (1 - share)
    out[top:bottom, left:right] = flat + share * inner
    return out
