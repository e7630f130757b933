"""A chest seen from the front: drawn anatomy with known findings.

`draw_chest` turns a seed into anatomy, `render_chest` turns anatomy into
attenuation. Coordinates are the patient's, in half image widths: x to the right
of the image (the patient's left), y down, the middle of the thorax at (0, 0).

Findings never change what else is drawn, except where that would give them away
to a glance at the grey levels: an effusion takes the place of a raised
diaphragm, a large heart that of a wide mediastinum.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from workers.phantoms.raster import (
    Field,
    Pose,
    ellipse,
    grid,
    inside,
    line,
    place,
    smooth_field,
    stroke,
    warp,
)

APEX_Y = -0.72
_MORE_NODULES = (0.5, 0.2, 0.12, 0.08, 0.06, 0.04)  # how often none, one, ... more


@dataclass(frozen=True, slots=True, kw_only=True)
class Pneumothorax:
    """Air between lung and chest wall: how far the lung edge has moved inwards.

    Parameters
    ----------
    side
        -1 on the image's left (the patient's right), 1 on its right.
    gap
        Greatest distance between lung and ribs.
    reach
        How far down it goes, as a share of the lung's height.
    """

    side: int
    gap: float
    reach: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effusion:
    """Fluid at the base: how high its meniscus stands at the chest wall."""

    side: int
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A round opacity in the lung."""

    centre: tuple[float, float]
    radius: float
    contrast: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """Everything that a chest radiograph shows, as parameters.

    Parameters
    ----------
    thorax
        Half width of the rib cage's inside.
    heart_ratio
        Cardiothoracic ratio: greatest heart width over thorax width.
    diaphragms
        y of the dome on the image's left and right.
    texture_seed
        Of everything that is only texture.
    """

    pose: Pose
    thorax: float
    heart_ratio: float
    heart_shift: float
    mediastinum: float
    diaphragms: tuple[float, float]
    angle_depth: float
    breasts: float
    scapulae: float
    lucency: float
    rib_contrast: float
    rib_spacing: float
    rib_slope: float
    clavicle_y: float
    fat_pad: float
    gas: float
    pacemaker: bool
    electrodes: int
    tube: bool
    nipples: float
    folds: int
    texture_seed: int
    pneumothorax: Pneumothorax | None = None
    effusions: tuple[Effusion, ...] = ()
    nodules: tuple[Nodule, ...] = field(default=())


def draw_chest(
    rng: np.random.Generator, findings: frozenset[str], *, female: bool
) -> Chest:
    """Anatomy with exactly these findings; everything else varies freely.

    `findings` are of pneumothorax, effusion, nodule and enlarged_heart.
    """
    thorax = rng.uniform(0.66, 0.86)
    enlarged = "enlarged_heart" in findings
    base = rng.uniform(0.30, 0.50)
    raised = rng.uniform(0, 0.26, 2) * (rng.random(2) < (0.42 if enlarged else 0.59))
    effusions = _effusions(rng, thorax) if "effusion" in findings else ()
    for effusion in effusions:
        raised[(effusion.side + 1) // 2] *= 0.1
    return Chest(
        pose=Pose(
            shift=(rng.uniform(-0.07, 0.07), rng.uniform(-0.08, 0.08)),
            angle_rad=rng.normal(0, 0.03),
            scale=rng.uniform(0.88, 1.12),
        ),
        thorax=thorax,
        heart_ratio=rng.uniform(0.57, 0.67) if enlarged else rng.uniform(0.38, 0.48),
        heart_shift=rng.uniform(-0.03, 0.03),
        mediastinum=rng.uniform(0.10, 0.17) + (0 if enlarged else rng.uniform(0, 0.08)),
        diaphragms=(base - 0.04 - raised[0], base - raised[1]),
        angle_depth=rng.uniform(0.16, 0.28),
        breasts=rng.uniform(0.06, 0.22) if female else rng.uniform(0, 0.10),
        scapulae=rng.uniform(-0.06, 0.12),
        lucency=rng.uniform(0.38, 0.66),
        rib_contrast=rng.uniform(0.05, 0.12),
        rib_spacing=rng.uniform(0.125, 0.155),
        rib_slope=rng.uniform(0.10, 0.28),
        clavicle_y=rng.uniform(-0.66, -0.54),
        fat_pad=rng.uniform(0, 0.10),
        gas=rng.uniform(0, 0.3),
        pacemaker=bool(rng.random() < 0.15),  # noqa: PLR2004 - a probability
        electrodes=int(rng.integers(0, 4)),
        tube=bool(rng.random() < 0.25),  # noqa: PLR2004 - a probability
        nipples=rng.uniform(0, 0.05),
        folds=int(rng.integers(0, 3)),
        texture_seed=int(rng.integers(2**32)),
        pneumothorax=_pneumothorax(rng) if "pneumothorax" in findings else None,
        effusions=effusions,
        nodules=_nodules(rng, thorax, base) if "nodule" in findings else (),
    )


def render_chest(chest: Chest, size: int) -> Field:
    """Attenuation (size, size) float32: about 0 in air to 2 in dense bone."""
    rng = np.random.default_rng(chest.texture_seed)
    x, y = grid(size, chest.pose)
    x = x + 0.012 * warp(rng, 4, (x, y))
    y = y + 0.012 * warp(rng, 4, (x, y))
    pixel = 2 / size / chest.pose.scale
    lungs = _Lungs.of(chest, (x, y), max(pixel, 0.008))
    image = _trunk(chest, x, y)
    image -= chest.lucency * lungs.depth * lungs.lung
    image += _abdomen(chest, x, y, lungs)
    image += _mediastinum(chest, rng, (x, y), lungs)
    image += _bones(chest, rng, (x, y), lungs)
    image += _parenchyma(chest, rng, lungs, size)
    image += _opacities(chest, x, y, lungs)
    image += _soft_tissue(chest, rng, x, y)
    return image + _devices(chest, rng, size)


@dataclass(frozen=True, slots=True)
class _Lungs:
    """Where lung is: 0..1 fields, and the distances that findings follow."""

    outer: Field  # half width of the thorax at this height
    floor: Field  # y of the diaphragm at this x
    lung: Field  # both lung fields, with whatever fills them
    depth: Field  # how thick the lung is, 0..1
    free_air: Field  # pneumothorax
    lung_edge: Field  # the pleural line that it leaves
    heart: Field

    @classmethod
    def of(cls, chest: Chest, at: tuple[Field, Field], edge: float) -> "_Lungs":
        x, y = at
        side = np.abs(x)
        drop = np.clip((y - APEX_Y) / 1.05, 0, 1)
        outer = np.float32(chest.thorax) * (1 - (1 - drop) ** 2.6) ** 0.5
        lateral = np.clip((side - 0.38 * chest.thorax) / (0.62 * chest.thorax), -1, 1.2)
        right, left = chest.diaphragms
        dome = right + np.float32(left - right) * inside(x, 0.30)
        floor = dome + np.float32(chest.angle_depth) * np.abs(lateral) ** 2.2
        floor = np.where(lateral < 0, dome + 0.08 * lateral**2, floor)
        heart = _heart_depth(chest, x, y)
        inner = np.float32(chest.mediastinum * 0.85) + 0.02 * np.cos(9 * y)
        bound = np.minimum(np.minimum(outer - side, side - inner), floor - y)
        lung = inside(np.minimum(bound, 0.5), 2 * edge)
        lung = lung * (1 - inside(heart, 4 * edge))
        depth = np.sqrt(np.clip((outer - side) / 0.16, 0.05, 1)) * np.clip(
            1.05 - 0.25 * np.abs(y + 0.1), 0, 1
        )
        free_air, line_ = _free_air(chest.pneumothorax, x, y, outer, edge)
        return cls(outer, floor, lung, depth, free_air * lung, line_ * lung, heart)


def _heart_depth(chest: Chest, x: Field, y: Field) -> Field:
    half = chest.heart_ratio * chest.thorax
    base = sum(chest.diaphragms) / 2
    tall = 0.24 + 0.28 * half
    middle = chest.heart_shift + 0.22 * half
    left = ellipse(x, y, (middle + 0.20 * half, base - 0.08), (half * 0.80, tall), -0.5)
    right = ellipse(
        x, y, (middle - 0.38 * half, base - 0.16), (half * 0.62, tall * 0.9), 0.1
    )
    return np.maximum(left, right)


def _free_air(
    air: Pneumothorax | None, x: Field, y: Field, outer: Field, edge: float
) -> tuple[Field, Field]:
    if air is None:
        return np.zeros_like(x), np.zeros_like(x)
    share = np.clip((y - APEX_Y) / 1.2 / air.reach, 0, 1)
    gap = np.float32(air.gap) * (1 - share) ** 0.7
    beyond = np.abs(x) - (outer * (1 - 0.25 * air.gap) - gap)
    apex = APEX_Y + 0.9 * air.gap + 0.6 * (np.abs(x) - 0.35) ** 2 - y
    beyond = np.maximum(beyond, np.where(share < 1, apex, -1))
    here = inside(air.side * x, 0.02) * inside(1 - share, 0.05)
    return inside(beyond, edge) * here, line(beyond, max(0.012, edge)) * here


def _trunk(chest: Chest, x: Field, y: Field) -> Field:
    """Chest wall, shoulders and neck; air around them."""
    side = np.abs(x)
    wall = np.float32(chest.thorax + 0.16) + 0.06 * y
    shoulder = np.clip((-0.55 - y) / 0.4, 0, 1) ** 1.4
    half = wall * (1 - shoulder) + 0.26 * shoulder + 0.35 * shoulder * (1 - shoulder)
    arm = 0.8 * inside(side - wall - 0.04, 0.06) * inside(y + 0.75, 0.2)
    return np.float32(1.0) * inside(half - side, 0.05) + 0.7 * arm


def _abdomen(chest: Chest, x: Field, y: Field, lungs: _Lungs) -> Field:
    below = inside(y - lungs.floor, 0.02) * inside(lungs.outer - np.abs(x), 0.03)
    gas = ellipse(x, y, (0.36, chest.diaphragms[1] + 0.14), (0.16, 0.09))
    return 0.16 * below - np.float32(chest.gas) * inside(gas, 0.05)


def _mediastinum(
    chest: Chest, rng: np.random.Generator, at: tuple[Field, Field], lungs: _Lungs
) -> Field:
    x, y = at
    width = chest.mediastinum
    column = inside(width - np.abs(x), 0.05) * inside(
        chest.diaphragms[0] + 0.2 - y, 0.3
    )
    knob = ellipse(x, y, (width * 0.9, -0.36), (0.085, 0.10))
    aorta = inside(knob, 0.03)
    trachea = line(x - 0.01, 0.09) * inside(-0.30 - y, 0.12)
    heart = inside(lungs.heart, 0.04) * (0.3 + 0.7 * inside(lungs.floor - y, 0.06))
    vertebra = 0.5 + 0.5 * np.cos(y * 46 + rng.uniform(0, 6))
    spine = inside(0.085 - np.abs(x), 0.04) * (0.10 + 0.06 * vertebra)
    total: Field = spine + 0.10 * column + 0.05 * aorta
    total += 0.12 * heart - 0.16 * trachea
    return total


def _bones(
    chest: Chest, rng: np.random.Generator, at: tuple[Field, Field], lungs: _Lungs
) -> Field:
    x, y = at
    side = np.abs(x)
    far = np.minimum(side / np.float32(chest.thorax), 1.1)
    cage = inside(lungs.outer + 0.02 - side, 0.04) * inside(side - 0.06, 0.04)
    cage *= inside(lungs.floor + 0.22 - y, 0.35)
    posterior = y - chest.rib_slope * (2.2 * far**2 - 1.1 * far)
    anterior = y - chest.rib_slope * 3.2 * (0.9 - far)
    ribs = _stripes(posterior, chest.rib_spacing, rng.uniform(0, 1))
    front = _stripes(anterior, chest.rib_spacing * 1.3, rng.uniform(0, 1))
    front *= inside(far - 0.45, 0.3) * inside(0.35 - y, 0.3)
    slope = chest.clavicle_y + 0.16 * (side - 0.1) - 0.5 * (side - 0.42) ** 2
    clavicle = (inside(0.028 - np.abs(y - slope), 0.02)) * inside(side - 0.08, 0.03)
    clavicle *= inside(0.82 - side, 0.1)
    scapula = side - (chest.thorax - chest.scapulae + 0.25 * (y + 0.35) ** 2)
    blade = inside(scapula, 0.02) * inside(0.1 - y, 0.1) * inside(y + 0.62, 0.1)
    edge = line(scapula, 0.02) * inside(0.1 - y, 0.1) * inside(y + 0.62, 0.1)
    tone = chest.rib_contrast
    return (tone * cage * (ribs + 0.5 * front) + 1.5 * tone * clavicle) + tone * (
        0.5 * blade + 0.4 * edge
    )


def _stripes(across: Field, spacing: float, phase: float) -> Field:
    """Evenly spaced bands with brighter borders."""
    place = (across / np.float32(spacing) + np.float32(phase)) % 1 - np.float32(0.5)
    half = np.abs(place)
    return inside(0.24 - half, 0.14) * 0.75 + 0.5 * line(half - 0.22, 0.07)


def _parenchyma(
    chest: Chest, rng: np.random.Generator, lungs: _Lungs, size: int
) -> Field:
    """Vessels that branch from both hila, and uneven aeration."""
    vessels = np.zeros((size, size), np.float32)
    for side in (-1, 1):
        _tree(vessels, chest, rng, side)
    vessels = np.minimum(vessels, 0.28)
    patches = 0.05 * smooth_field(rng, 7, size) + 0.018 * smooth_field(rng, 36, size)
    inflated = lungs.lung * (1 - lungs.free_air)
    total: Field = (vessels + patches) * inflated
    total += 0.20 * lungs.lung_edge - 0.14 * lungs.free_air
    return total


def _tree(image: Field, chest: Chest, rng: np.random.Generator, side: int) -> None:
    size = image.shape[0]
    unit = size / 2
    stems = [
        (side * 0.17, -0.12 + rng.normal(0, 0.02), angle, 0.03, 0)
        for angle in np.linspace(-1.35, 1.35, 6) + rng.normal(0, 0.12, 6)
    ]
    while stems:
        px, py, angle, width, order = stems.pop()
        length = rng.uniform(0.10, 0.17) * (0.88**order)
        qx = px + side * length * np.cos(angle)
        qy = py + length * np.sin(angle)
        ends = tuple(
            ((u + 1) * unit, (v + 1) * unit)
            for u, v in (place(px, py, chest.pose), place(qx, qy, chest.pose))
        )
        stroke(image, (ends[0], ends[1]), width * unit, 0.05 + 2.6 * width)
        if order < 4:  # noqa: PLR2004 - generations of branches
            spread = rng.uniform(0.2, 0.5)
            stems.append((qx, qy, angle + spread, width * 0.72, order + 1))
            stems.append((qx, qy, angle - spread * 0.8, width * 0.68, order + 1))


def _opacities(chest: Chest, x: Field, y: Field, lungs: _Lungs) -> Field:
    total = np.zeros_like(x)
    for fluid in chest.effusions:
        total += _fluid(chest, fluid, x, y, lungs)
    for nodule in chest.nodules:
        depth = ellipse(x, y, nodule.centre, (nodule.radius, nodule.radius * 0.92))
        total += np.float32(nodule.contrast) * inside(depth, 0.03)
    return total


def _fluid(chest: Chest, fluid: Effusion, x: Field, y: Field, lungs: _Lungs) -> Field:
    far = np.clip(fluid.side * x / np.float32(chest.thorax), 0, 1.1)
    bottom = chest.diaphragms[(fluid.side + 1) // 2] + 0.85 * chest.angle_depth
    level = bottom - fluid.height * (0.25 + 0.75 * far**2.5)
    wet = inside(y - level, 0.07) * inside(fluid.side * x, 0.02)
    return wet * lungs.lung * (chest.lucency * lungs.depth + 0.10)


def _soft_tissue(chest: Chest, rng: np.random.Generator, x: Field, y: Field) -> Field:
    total = np.zeros_like(x)
    for side in (-1, 1):
        centre = (side * 0.42, chest.diaphragms[0] + rng.uniform(-0.12, 0.06))
        breast = ellipse(x, y, centre, (0.30, 0.26))
        total += np.float32(chest.breasts) * inside(breast, 0.12)
        nipple = ellipse(x, y, (side * 0.46, centre[1] + 0.13), (0.022, 0.022))
        total += np.float32(chest.nipples) * inside(nipple, 0.02)
    pad = ellipse(x, y, (0.30, chest.diaphragms[1] - 0.02), (0.14, 0.09), 0.5)
    total += np.float32(chest.fat_pad) * inside(pad, 0.06)
    for _ in range(chest.folds):
        where = rng.uniform(-0.8, 0.8) + rng.uniform(-0.5, 0.5) * y
        fold = inside(x - where, 0.02) * inside(
            rng.uniform(0.1, 0.4) - np.abs(x - where), 0.3
        )
        total += np.float32(rng.uniform(0.02, 0.07)) * fold
    return total


def _devices(chest: Chest, rng: np.random.Generator, size: int) -> Field:
    layer = np.zeros((size, size), np.float32)
    unit = size / 2
    for _ in range(chest.electrodes):
        px, py = (
            rng.uniform(-0.7, 0.7) * unit + unit,
            rng.uniform(-0.6, 0.5) * unit + unit,
        )
        stroke(layer, ((px, py), (px + 0.01, py)), 0.035 * unit, 0.5)
        end = (px + rng.normal(0, 0.5) * unit, rng.choice([-0.05, 1.05]) * size)
        stroke(layer, ((px, py), end), 0.008 * unit, 0.25)
    if chest.pacemaker:
        side = rng.choice([-1, 1])
        px, py = (1 + side * 0.5) * unit, 0.45 * unit
        for offset in (-0.05, 0.0, 0.05):
            row = py + offset * unit
            stroke(
                layer,
                ((px - 0.06 * unit, row), (px + 0.06 * unit, row)),
                0.05 * unit,
                0.6,
            )
        stroke(layer, ((px, py), (unit * 1.02, 0.7 * unit)), 0.012 * unit, 0.4)
        stroke(
            layer,
            ((unit * 1.02, 0.7 * unit), (unit * 1.15, 1.3 * unit)),
            0.012 * unit,
            0.4,
        )
    _marker(layer, rng, unit)
    if chest.tube:
        shift = rng.normal(0, 0.02) * unit
        stroke(
            layer, ((unit + shift, 0), (unit + shift, 0.8 * unit)), 0.016 * unit, 0.22
        )
    return np.minimum(layer, 0.8)


def _marker(layer: Field, rng: np.random.Generator, unit: float) -> None:
    """The letter R, in lead, beside the patient's right shoulder."""
    left, top = rng.uniform(0.04, 0.22) * unit, rng.uniform(0.05, 0.5) * unit
    tall = rng.uniform(0.06, 0.10) * unit
    corners = [(0.0, 1.0), (0.0, 0.0), (0.6, 0.1), (0.6, 0.4), (0.0, 0.5), (0.6, 1.0)]
    points = [(left + tall * column, top + tall * row) for column, row in corners]
    for ends in pairwise(points):
        stroke(layer, ends, 0.014 * unit, 0.5)


def _effusions(rng: np.random.Generator, thorax: float) -> tuple[Effusion, ...]:
    del thorax
    sides = [-1, 1] if rng.random() < 0.25 else [int(rng.choice([-1, 1]))]  # noqa: PLR2004
    return tuple(Effusion(side=side, height=rng.uniform(0.26, 0.52)) for side in sides)


def _pneumothorax(rng: np.random.Generator) -> Pneumothorax:
    return Pneumothorax(
        side=int(rng.choice([-1, 1])),
        gap=rng.uniform(0.15, 0.34),
        reach=rng.uniform(0.5, 1.0),
    )


def _nodules(
    rng: np.random.Generator, thorax: float, base: float
) -> tuple[Nodule, ...]:
    count = 1 + int(rng.choice(len(_MORE_NODULES), p=_MORE_NODULES))
    return tuple(_nodule(rng, thorax, base) for _ in range(count))


def _nodule(rng: np.random.Generator, thorax: float, base: float) -> Nodule:
    side = int(rng.choice([-1, 1]))
    return Nodule(
        centre=(
            side * thorax * rng.uniform(0.42, 0.80),
            rng.uniform(-0.42, base - 0.16),
        ),
        radius=rng.uniform(0.062, 0.084),
        contrast=rng.uniform(0.30, 0.45),
    )
