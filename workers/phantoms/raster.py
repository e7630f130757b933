"""Soft-edged shapes and smooth random fields on a square grid, in numpy.

Every shape is a function of position, not of pixels, so that one anatomy can be
drawn at any matrix size. Edges are logistic ramps at least a pixel wide.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How the patient lies in the field of view.

    Parameters
    ----------
    shift
        Of the patient's centre to the right and down, in half image widths.
    angle_rad
        Rotation, clockwise on the screen.
    scale
        Size of the patient; 1 is as drawn.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    angle_rad: float = 0.0
    scale: float = 1.0


def grid(size: int, pose: Pose) -> tuple[Field, Field]:
    """Two (size, size) float32 fields x and y, -1..1 over the image, in the pose."""
    steps = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size) - 1
    u = (steps[None, :] - np.float32(pose.shift[0])) / np.float32(pose.scale)
    v = (steps[:, None] - np.float32(pose.shift[1])) / np.float32(pose.scale)
    cos, sin = np.float32(np.cos(pose.angle_rad)), np.float32(np.sin(pose.angle_rad))
    return u * cos + v * sin, v * cos - u * sin


def place(x: float, y: float, pose: Pose) -> tuple[float, float]:
    """Where the patient's point (x, y) is in the image, -1..1 right and down."""
    cos, sin = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
    u = (x * cos - y * sin) * pose.scale + pose.shift[0]
    v = (x * sin + y * cos) * pose.scale + pose.shift[1]
    return float(u), float(v)


def inside(depth: Field, width: float) -> Field:
    """From 0 outside to 1 inside, where `depth` is positive inside.

    `width` is the breadth of the edge in the units of `depth`.
    """
    scaled = np.clip(depth * np.float32(4 / width), -20, 20)
    share: Field = 1 / (1 + np.exp(-scaled))
    return share


def line(distance: Field, width: float) -> Field:
    """A Gaussian ridge of the given full width where `distance` is zero."""
    ridge: Field = np.exp(-np.minimum((distance / np.float32(width * 0.6)) ** 2, 30))
    return ridge


def ellipse(
    x: Field,
    y: Field,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle_rad: float = 0.0,
) -> Field:
    """About the depth inside an ellipse, in the units of x: negative outside."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    across = (dx * cos + dy * sin) / np.float32(radii[0])
    along = (dy * cos - dx * sin) / np.float32(radii[1])
    return (1 - np.sqrt(across**2 + along**2)) * np.float32(min(radii))


def upsample(coarse: Field, size: int) -> Field:
    """The (n, m) field smoothly interpolated to (size, size), cubic B-spline."""
    rows, columns = (_spline_weights(count, size) for count in coarse.shape)
    return rows @ coarse @ columns.T


def smooth_field(rng: np.random.Generator, cells: int, size: int) -> Field:
    """A smooth Gaussian field, about zero mean and unit deviation.

    `cells` is how many independent values lie along a side, whatever the size.
    """
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return upsample(coarse, size) * np.float32(1.9)


def warp(rng: np.random.Generator, cells: int, at: tuple[Field, Field]) -> Field:
    """A smooth Gaussian field in the patient's own coordinates, -1..1."""
    waves = 8
    frequency = rng.normal(0, cells, (waves, 2)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
    total = np.zeros_like(at[0] + at[1])
    for (fx, fy), shift in zip(frequency, phase, strict=True):
        total += np.cos(at[0] * fx + at[1] * fy + shift)
    return total * np.float32(0.5)


def stroke(
    image: Field,
    ends: tuple[tuple[float, float], tuple[float, float]],
    width: float,
    strength: float,
) -> None:
    """Add a straight line with a Gaussian profile to `image`, in place.

    `ends` and `width` are in pixels, ends as (column, row).
    """
    size = image.shape[0]
    (x0, y0), (x1, y1) = ends
    reach = 2 * width + 1
    left, right = int(min(x0, x1) - reach), int(max(x0, x1) + reach) + 2
    top, bottom = int(min(y0, y1) - reach), int(max(y0, y1) + reach) + 2
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, size), min(bottom, size)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x0)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y0)
    ax, ay = np.float32(x1 - x0), np.float32(y1 - y0)
    along = np.clip((dx * ax + dy * ay) / max(ax * ax + ay * ay, 1e-6), 0, 1)
    square = (dx - along * ax) ** 2 + (dy - along * ay) ** 2
    profile = np.exp(-square * np.float32(1 / (0.72 * width * width)))
    image[top:bottom, left:right] += np.float32(strength) * profile


def _spline_weights(count: int, size: int) -> Field:
    """(size, count) weights of a cubic B-spline over `count` even knots."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size * (count - 1)
    away = np.abs(at[:, None] - np.arange(count, dtype=np.float32)[None, :])
    near = np.float32(2 / 3) - away**2 + away**3 / 2
    far = (2 - np.minimum(away, 2)) ** 3 / 6
    weights: Field = np.where(away < 1, near, far)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
