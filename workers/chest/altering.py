"""Radiographs altered as acquisition might have: placed, exposed, covered, turned.

What an alteration changes about the statements that are true of an image is returned
with it: quarter turns, mirroring, an inverted grey scale. All else leaves them true.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

_WHITE: Final = 255

STATES: Final = (
    "ordinary",
    "turned left",
    "upside down",
    "turned right",
    "mirrored",
    "inverted",
)
"""In which an image may arrive: as it should be, and five ways in which it should not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How far images are altered; angles in degrees, shifts in half image widths.

    Parameters
    ----------
    scale, aspect, gamma
        Greatest natural logarithm, up or down.
    contrast, lift
        Greatest change of slope, and of grey level as a share of white.
    covered
        How often each of two patches hides a part of the image.
    patch
        Least and greatest side of a patch, as a share of the image's.
    noise
        Deviation, as a share of white.
    mirrored, turned, inverted
        How often.
    """

    angle_deg: float = 12.0
    shift: float = 0.12
    scale: float = 0.18
    aspect: float = 0.08
    gamma: float = 0.4
    contrast: float = 0.25
    lift: float = 0.12
    covered: float = 0.33
    patch: tuple[float, float] = (0.08, 0.38)
    noise: float = 0.02
    mirrored: float = 0.5
    turned: float = 0.1
    inverted: float = 0.05

    def ordinary(self) -> "Ranges":
        """Return the same without turned and inverted images."""
        return replace(self, turned=0.0, inverted=0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Altered:
    """Images (B, S, S) uint8, and what was done to each of them.

    Parameters
    ----------
    turns
        (B,) quarter turns counter-clockwise, 0 to 3.
    mirrored, inverted
        (B,) bool.
    """

    images: NDArray[np.uint8]
    turns: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    inverted: NDArray[np.bool_]


def altered(
    images: NDArray[np.uint8], size: int, rng: np.random.Generator, ranges: Ranges
) -> Altered:
    """Return (B, H, W) uint8 images, placed anew at `size` pixels a side and altered."""
    count = len(images)
    mirrored = rng.random(count) < ranges.mirrored
    turns = np.where(
        rng.random(count) < ranges.turned, rng.integers(1, 4, count), 0
    ).astype(np.int64)
    inverted = rng.random(count) < ranges.inverted
    grey = _exposed(_placed(images, size, mirrored, (rng, ranges)), rng, ranges)
    _cover(grey, rng, ranges)
    grey += rng.normal(0, ranges.noise, grey.shape).astype(np.float32)
    grey = np.where(inverted[:, None, None], 1 - grey, grey)
    turned = [np.rot90(image, turn) for image, turn in zip(grey, turns, strict=True)]
    levels = (np.stack(turned).clip(0, 1) * _WHITE).round().astype(np.uint8)
    return Altered(images=levels, turns=turns, mirrored=mirrored, inverted=inverted)


def in_state(images: NDArray[np.uint8], state: str) -> NDArray[np.uint8]:
    """Return square images (B, S, S) as they are in one of `STATES`."""
    if state == "mirrored":
        return np.ascontiguousarray(images[:, :, ::-1])
    if state == "inverted":
        return _WHITE - images
    turns = STATES.index(state)
    return np.ascontiguousarray(np.rot90(images, turns, axes=(1, 2)))


def _placed(
    images: NDArray[np.uint8],
    size: int,
    mirrored: NDArray[np.bool_],
    drawn: tuple[np.random.Generator, Ranges],
) -> NDArray[np.float32]:
    """Return images in 0..1, mirrored, rotated, scaled, shifted; black beyond edges."""
    rng, ranges = drawn
    count = len(images)
    angle = np.deg2rad(rng.uniform(-ranges.angle_deg, ranges.angle_deg, count))
    scale = np.exp(rng.uniform(-ranges.scale, ranges.scale, count))
    aspect = np.exp(rng.uniform(-ranges.aspect, ranges.aspect, count))
    across, down = scale * aspect * np.where(mirrored, -1, 1), scale / aspect
    shift = rng.uniform(-ranges.shift, ranges.shift, (2, count))
    matrices = np.array(
        (
            (down * np.cos(angle), across * np.sin(angle)),
            (-down * np.sin(angle), across * np.cos(angle)),
        )
    )  # (2, 2, B): from (y, x) of the result to (y, x) of the image, its middle at 0
    return np.stack(
        [
            _sampled(image, size, matrices[..., at], shift[::-1, at])
            for at, image in enumerate(images)
        ]
    )


def _sampled(
    image: NDArray[np.uint8],
    size: int,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return (size, size) in 0..1: bilinear, of places in half image widths."""
    shape = np.array(image.shape)
    scaled = matrix * shape[:, None] / size
    offset = scaled @ np.full(2, (1 - size) / 2) + (shape * (1 + shift) - 1) / 2
    grey = image.astype(np.float32) / np.float32(_WHITE)
    sampled: NDArray[np.float32] = affine_transform(
        grey, scaled, offset, (size, size), order=1, mode="grid-constant"
    )
    return sampled


def _exposed(
    grey: NDArray[np.float32], rng: np.random.Generator, ranges: Ranges
) -> NDArray[np.float32]:
    """Return images with another gamma, contrast and brightness."""
    shape = (len(grey), 1, 1)
    gamma = np.exp(rng.uniform(-ranges.gamma, ranges.gamma, shape))
    slope = 1 + rng.uniform(-ranges.contrast, ranges.contrast, shape)
    lift = rng.uniform(-ranges.lift, ranges.lift, shape)
    bent = grey.clip(1e-4, 1) ** gamma.astype(np.float32)
    exposed: NDArray[np.float32] = (
        ((bent - 0.5) * slope + 0.5 + lift).clip(0, 1).astype(np.float32)
    )
    return exposed


def _cover(grey: NDArray[np.float32], rng: np.random.Generator, ranges: Ranges) -> None:
    """Hide patches under an even grey, in place."""
    size = grey.shape[-1]
    low, high = (round(share * size) for share in ranges.patch)
    for _ in range(2):
        for at in np.flatnonzero(rng.random(len(grey)) < ranges.covered):
            height, width = rng.integers(low, high + 1, 2)
            top = int(rng.integers(size - height + 1))
            left = int(rng.integers(size - width + 1))
            grey[at, top : top + height, left : left + width] = rng.random()
