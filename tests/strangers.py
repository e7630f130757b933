"""Images that no pack was validated on: what a gate has to catch, drawn or bundled.

Blank exposures and hands are drawn from a seed; photographs are crops of those that
scikit-image and scikit-learn bring along; the fruit is the corpus's magnetic resonance
series. All are stored values as a modality would send them: 12 bits where they are
radiographs, 8 bits RGB or grey where they are photographs.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import skimage.data
from numpy.typing import NDArray
from skimage.color import rgb2gray
from sklearn.datasets import load_sample_images

from dicom_node.domain import Sha256
from workers.decode import Decoded, decode
from workers.facts import Rescale
from workers.phantoms.acquisition import DX_SCANNERS, develop, draw_exposure
from workers.phantoms.raster import Field, Pose, ellipse, grid, inside, smooth_field
from workers.policy import Preprocessing
from workers.preprocess import channels, prepare

Stored = NDArray[np.uint16]
Photograph = NDArray[np.uint8]
Inputs = NDArray[np.uint8]

SOURCES: Final = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "rocket",
)
"""Photographs of scikit-image that lie in its package: nothing is fetched."""

_CARPALS: Final = 8
_WHITE: Final = 4095


TUNED: Final = ("blank", "inverted", "turned")
"""Of the categories, those that a gate is tuned on; the others it has never seen."""


def of_chests(
    policy: Preprocessing, count: int, shared: Path | None
) -> dict[str, Inputs]:
    """Return what may come in place of a chest, by category, (N, 3, S, S) uint8 each."""
    found = {
        "blank": [as_input(blank(i), policy, "DX") for i in range(count)],
        "photograph": [as_input(p, policy, "DX") for _, p in photographs(count)],
        "hand": [as_input(hand(i), policy, "DX") for i in range(count)],
    }
    if shared is not None:
        found["fruit"] = [as_input(f, policy, "DX") for f in fruit(shared, count)]
    return {name: np.stack(images) for name, images in found.items()}


def of_heads(
    policy: Preprocessing, count: int, shared: Path | None
) -> dict[str, Inputs]:
    """Return what may come in place of slices of a head, likewise."""
    found = {
        "blank": [as_input(blank_slice(i), policy, "CT") for i in range(count)],
        "photograph": [as_input(p, policy, "MR") for _, p in photographs(count)],
    }
    if shared is not None:
        found["fruit"] = [as_input(f, policy, "MR") for f in fruit(shared, count)]
    return {name: np.stack(images) for name, images in found.items()}


def of_validated(images: Inputs, count: int) -> dict[str, Inputs]:
    """Return the first `count` of validated images (N, 3, S, S) inverted, and turned."""
    first = images[:count]
    turned = [np.rot90(one, 1 + i % 3, axes=(1, 2)) for i, one in enumerate(first)]
    return {"inverted": 255 - first, "turned": np.stack(turned)}


def as_input(stored: NDArray[Any], policy: Preprocessing, modality: str) -> Inputs:
    """Return what a model gets of stored values: (3, S, S) uint8."""
    decoded = Decoded(
        pixels=stored,
        photometric="RGB" if stored.ndim == 3 else "MONOCHROME2",
        bits=8 if stored.dtype == np.uint8 else 16,
        modality=modality,
        rescale=Rescale(),
        modality_lut=None,
        voi_lut=None,
        windows=(),
        padding=None,
        palette=None,
        aspect=1.0,
        digest=Sha256("0" * 64),
    )
    return np.ascontiguousarray(channels(prepare(decoded, policy)))


# ── blank exposures ─────────────────────────────────────────────────────────


def blank(seed: int, size: int = 512) -> Stored:
    """(size, size) of 12 bits: a detector exposed with nobody in front of it.

    Quantum noise, and as they come the heel effect, a slow unevenness, shutters, dead
    lines; now and then no exposure at all.
    """
    rng = np.random.default_rng([1, seed])
    across = np.linspace(-1, 1, size)
    level = rng.choice([0.0, rng.uniform(0.05, 0.95), 1.0], p=[0.1, 0.8, 0.1])
    image = np.full((size, size), level * _WHITE)
    image += rng.uniform(2, 60) * rng.standard_normal((size, size))
    if rng.random() < 0.7:
        slope = rng.normal(0, 250, 2)
        image += slope[0] * across[None, :] + slope[1] * across[:, None]
    if rng.random() < 0.5:
        cells = int(rng.integers(3, 9))
        image += rng.uniform(10, 200) * smooth_field(rng, cells, size)
    if rng.random() < 0.4:
        image = _shuttered(rng, image)
    if rng.random() < 0.2:
        image[:, rng.integers(0, size, int(rng.integers(1, 6)))] = 0
    return np.asarray(np.rint(image.clip(0, _WHITE)), dtype=np.uint16)


def _shuttered(rng: np.random.Generator, image: NDArray[Any]) -> NDArray[Any]:
    size = len(image)
    left, top = (rng.uniform(0.02, 0.35, 2) * size).astype(int)
    right, bottom = ((1 - rng.uniform(0.02, 0.35, 2)) * size).astype(int)
    out = np.full_like(image, rng.choice([0.0, _WHITE]))
    out[top:bottom, left:right] = image[top:bottom, left:right]
    return out


def blank_slice(seed: int, size: int = 256) -> NDArray[np.int16]:
    """(size, size) int16 in Hounsfield units: a scan of air, water, or nothing."""
    rng = np.random.default_rng([2, seed])
    image = np.full((size, size), rng.choice([-1024.0, -1000.0, 0.0, 40.0, 3071.0]))
    image += rng.uniform(0, 60) * rng.standard_normal((size, size))
    if rng.random() < 0.5:
        cells = int(rng.integers(3, 9))
        image += rng.uniform(0, 40) * smooth_field(rng, cells, size)
    if rng.random() < 0.3:  # the table
        row = int(rng.integers(size * 3 // 4, size - 8))
        image[row : row + int(rng.integers(2, 8))] = rng.uniform(-200, 300)
    return np.asarray(np.rint(image.clip(-1024, 3071)), dtype=np.int16)


# ── hands ───────────────────────────────────────────────────────────────────


def hand(seed: int, size: int = 512) -> Stored:
    """(size, size) of 12 bits, white is dense: one hand, or both, from the front.

    Twenty-seven bones, the ends of radius and ulna, soft tissue; spread, size, place
    and turn of the hand vary, and so does the exposure, as that of the chests does.
    """
    rng = np.random.default_rng([3, seed])
    image = np.full((size, size), -0.1, np.float32)
    both = rng.random() < 0.2
    for side in (-1, 1) if both else (int(rng.choice([-1, 1])),):
        image = np.maximum(image, _one_hand(rng, size, side, both=both))
    scanner = DX_SCANNERS[int(rng.integers(len(DX_SCANNERS)))]
    return develop(image, draw_exposure(rng, scanner))


def _one_hand(rng: np.random.Generator, size: int, side: int, *, both: bool) -> Field:
    at = 0.5 * side if both else rng.normal(0, 0.08)
    pose = Pose(
        shift=(at, rng.normal(0.05, 0.06)),
        angle_rad=rng.normal(0, 0.12 if both else 0.25),
        scale=rng.uniform(0.5, 0.6) if both else rng.uniform(0.75, 1.1),
    )
    x, y = grid(size, pose)
    x = x * np.float32(side)
    flesh = np.full_like(x, -1.0)
    bone = np.zeros_like(x)
    spread = rng.uniform(0.5, 1.3)
    for finger in range(5):
        flesh, bone = _finger(rng, (x, y), finger, spread, flesh, bone)
    palm = ellipse(x, y, (0.02, 0.28), (0.30, 0.38))
    wrist = _capsule((x, y), (0.02, 0.5), (0.02, 1.4), 0.20)
    flesh = np.maximum(flesh, np.maximum(palm, wrist))
    for _ in range(_CARPALS):
        centre = (rng.uniform(-0.12, 0.16), rng.uniform(0.52, 0.66))
        bone = _with_bone(bone, ellipse(x, y, centre, (0.055, 0.055)), rng)
    for forearm, width in ((-0.06, 0.085), (0.12, 0.055)):
        ends = (forearm, rng.uniform(0.74, 0.8)), (forearm, 1.6)
        bone = _with_bone(bone, _capsule((x, y), *ends, width), rng)
    texture = np.float32(0.02) * smooth_field(rng, 40, size)
    soft = inside(flesh, 0.02) * (0.35 + 1.2 * np.clip(flesh, 0, 0.15))
    return soft + bone * (0.75 + texture) - np.float32(0.1)


def _finger(
    rng: np.random.Generator,
    at: tuple[Field, Field],
    finger: int,
    spread: float,
    flesh: Field,
    bone: Field,
) -> tuple[Field, Field]:
    """A metacarpal and its phalanges, thumb first."""
    thumb = finger == 0
    angle = (-0.75, -0.20, -0.03, 0.13, 0.30)[finger] * spread + rng.normal(0, 0.04)
    length = (0.24, 0.36, 0.35, 0.32, 0.29)[finger] * rng.uniform(0.93, 1.07)
    point = np.array([(-0.12, -0.11, -0.01, 0.08, 0.15)[finger], 0.48])
    thick = 0.052 if thumb else 0.044
    parts = (1.0, 0.75, 0.6) if thumb else (1.0, 0.68, 0.42, 0.30)
    for index, share in enumerate(parts):
        step = share * length * np.array([np.sin(angle), -np.cos(angle)])
        end = point + step
        shaft = _capsule(
            at, tuple(point + 0.12 * step), tuple(end - 0.10 * step), thick * 0.55
        )
        bone = _with_bone(bone, shaft, rng)
        width = thick * (2.2 if index == 0 else 1.75)
        flesh = np.maximum(flesh, _capsule(at, tuple(point), tuple(end), width))
        point, angle = end, angle + rng.normal(0, 0.06)
        thick *= 0.9
    return flesh, bone


def _with_bone(bone: Field, depth: Field, rng: np.random.Generator) -> Field:
    """Add a bone: its cortex is denser than its marrow."""
    core = inside(depth, 0.012) * np.float32(rng.uniform(0.45, 0.6))
    cortex = np.exp(-(((depth - 0.008) / 0.012) ** 2)) * np.float32(0.35)
    return np.asarray(np.maximum(bone, core + cortex))


def _capsule(
    at: tuple[Field, Field], start: tuple[Any, ...], end: tuple[Any, ...], radius: float
) -> Field:
    """Depth inside a thick line, in the units of x."""
    x, y = at
    ax, ay = float(end[0] - start[0]), float(end[1] - start[1])
    dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
    along = np.clip((dx * ax + dy * ay) / max(ax * ax + ay * ay, 1e-6), 0, 1)
    depth: Field = np.float32(radius) - np.hypot(dx - along * ax, dy - along * ay)
    return depth


# ── photographs ─────────────────────────────────────────────────────────────


def photographs(count: int, seed: int = 0) -> list[tuple[str, Photograph]]:
    """Crops with the name of their source: (H, W, 3) and (H, W) in turn.

    Of 13 photographs; each crop holds a third to all of a side, mirrored now and then.
    """
    rng = np.random.default_rng([4, seed])
    whole = _photographs()
    names = sorted(whole)
    crops = []
    for index in range(count):
        name = names[index % len(names)]
        image = _crop(rng, whole[name])
        if index // len(names) % 2 and image.ndim == 3:
            image = np.rint(rgb2gray(image) * 255).astype(np.uint8)
        crops.append((name, image))
    return crops


def _photographs() -> dict[str, Photograph]:
    found = {name: np.asarray(getattr(skimage.data, name)()) for name in SOURCES}
    scenes = load_sample_images()
    for path, image in zip(scenes.filenames, scenes.images, strict=True):
        found[Path(path).stem] = np.asarray(image)
    return found


def _crop(rng: np.random.Generator, image: Photograph) -> Photograph:
    rows, columns = image.shape[:2]
    side = int(min(rows, columns) * rng.uniform(0.33, 1.0))
    top, left = rng.integers(0, rows - side + 1), rng.integers(0, columns - side + 1)
    part = image[top : top + side, left : left + side]
    return part[:, ::-1] if rng.random() < 0.5 else part


# ── fruit ───────────────────────────────────────────────────────────────────


def fruit(shared: Path, count: int = 196) -> list[NDArray[Any]]:
    """Return slices of the fruit that is labelled as a brain, as they are stored.

    All 196 of them, then the same mirrored; of fewer, an even selection.
    """
    folder = shared / "data" / "series" / "mr_ge_fruit_196"
    paths = sorted(folder.glob("*.dcm"))
    if count <= len(paths):
        chosen = np.linspace(0, len(paths) - 1, count).round().astype(int)
        return [decode(paths[i]).pixels for i in chosen]
    whole = [decode(path).pixels for path in paths]
    more = [image[:, ::-1] for image in whole[:: len(whole) // (count - len(whole))]]
    return whole + more[: count - len(whole)]
