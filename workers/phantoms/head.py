"""A head in axial computed tomography: drawn anatomy with known bleeding.

`draw_head` turns a seed into anatomy, `render_slice` turns one level of it into
Hounsfield units. Coordinates are in half fields of view: x to the right of the
image (the patient's left), y down (posterior). A level runs from 0 at the base
of the skull to 1 at the vertex.

Every head has dense but harmless things: calcified choroid plexus, basal ganglia
and pineal gland, a thick falx, blood in the venous sinuses. In a head that
bleeds, they take up less, so that the amount of bright pixels says little.
"""

from dataclasses import dataclass

import numpy as np

from workers.phantoms.raster import (
    Field,
    Pose,
    ellipse,
    grid,
    inside,
    line,
    smooth_field,
    warp,
)

_AIR, _FAT, _SKIN, _DIPLOE, _CORTEX = -1000.0, -80.0, 30.0, 550.0, 1250.0
_FLUID = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bleed:
    """Blood where none should be.

    Parameters
    ----------
    kind
        intraparenchymal, subdural, epidural or intraventricular.
    side
        -1 on the image's left, 1 on its right.
    level
        Of its middle, and `extent` how far it reaches from there.
    place
        Angle around the head (subdural, epidural) or centre (intraparenchymal).
    radii
        In half fields of view.
    density_hu
        Above that of the brain around it.
    """

    kind: str
    side: int
    level: float
    extent: float
    place: tuple[float, float]
    radii: tuple[float, float]
    density_hu: float
    angle_rad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Everything that a head scan shows, as parameters; lengths as in `Bleed`.

    Parameters
    ----------
    axes
        Half width and half length of the inside of the skull, at its widest.
    atrophy
        0 in the young, 1 in the very old: width of ventricles and sulci.
    calcium
        How much harmless density there is, 0..1, each: choroid plexus, basal
        ganglia, pineal gland, falx, venous sinuses.
    swelling
        A bruise of the scalp: as dense as a bleed, but outside the skull.
    texture_seed
        Of everything that is only texture.
    """

    pose: Pose
    axes: tuple[float, float]
    bone: float
    scalp: float
    atrophy: float
    asymmetry: float
    grey_hu: float
    white_hu: float
    calcium: tuple[float, float, float, float, float]
    hardening_hu: float
    texture_seed: int
    swelling: Bleed | None = None
    bleed: Bleed | None = None


KINDS_OF_BLEED = ("intraparenchymal", "subdural", "epidural", "intraventricular")


def draw_head(rng: np.random.Generator, *, bleeding: bool, age_years: int) -> Head:
    """Anatomy with or without a bleed; all else varies freely."""
    half = rng.uniform(0.60, 0.70)
    axes = (half, half * rng.uniform(1.14, 1.24))
    calcium = rng.uniform(0, 1, 5) * (rng.uniform(0.6, 1.0) if bleeding else 1.0)
    white = rng.uniform(22, 34)
    return Head(
        pose=Pose(
            shift=(rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)),
            angle_rad=rng.normal(0, 0.09),
        ),
        axes=axes,
        bone=rng.uniform(0.045, 0.085),
        scalp=rng.uniform(0.03, 0.07),
        atrophy=float(np.clip((age_years - 20) / 75 + rng.normal(0, 0.15), 0, 1)),
        asymmetry=rng.normal(0, 0.012),
        grey_hu=white + rng.uniform(6, 10),
        white_hu=white,
        calcium=tuple(float(c) for c in calcium),  # type: ignore[arg-type]
        hardening_hu=rng.uniform(0, 14),
        texture_seed=int(rng.integers(2**32)),
        swelling=_swelling(rng)
        if rng.random() < (0.55 if bleeding else 0.65)
        else None,
        bleed=_bleed(rng, axes) if bleeding else None,
    )


def bleed_share(head: Head, level: float) -> float:
    """How much of the bleed's width this level shows: 0 none, 1 its middle."""
    return 0.0 if head.bleed is None else _share(head.bleed, level)


def _share(bleed: Bleed, level: float) -> float:
    away = (level - bleed.level) / bleed.extent
    return float(np.sqrt(max(0.0, 1 - away * away)))


def render_slice(head: Head, level: float, size: int) -> Field:
    """Hounsfield units (size, size) float32 at a level, without noise."""
    rng = np.random.default_rng(head.texture_seed)
    x, y = grid(size, head.pose)
    skull = _Skull.of(head, rng, (x, y), level)
    edge = max(2 / size, 0.008)
    brain = _brain(head, rng, (x, y), skull, level)
    if head.bleed is not None:
        brain = _with_bleed(brain, head, head.bleed, (x, y), skull, level)
    brain = _base(brain, head, (x, y), skull, level)
    diploe = 0.5 + 0.12 * smooth_field(rng, 24, size)
    bone = _CORTEX - (_CORTEX - _DIPLOE) * line(
        skull.depth + head.bone * diploe, head.bone * 0.6
    )
    bone = bone + (brain - bone) * inside(skull.depth, edge)
    skin = line(skull.depth + head.bone + head.scalp, 0.03)
    muscle = inside(0.02 - 0.06 * level + 0.02 * warp(rng, 5, (x, y)), 0.02)
    soft = _FAT + (_SKIN - _FAT) * np.maximum(skin, muscle)
    image: Field = soft + (bone - soft) * inside(skull.depth + head.bone, edge)
    image = _AIR + (image - _AIR) * inside(skull.depth + head.bone + head.scalp, edge)
    image = _with_swelling(image, head, skull, level)
    return _headrest(image, x, y, head, edge).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Skull:
    depth: Field  # distance inside the inner table; negative in bone and beyond
    radius: float  # size of this level relative to the widest
    axes: tuple[float, float]
    polar: Field  # angle around the head, 0 at the front, positive to the right
    near: Field  # 0 at the centre, 1 at the inner table

    @classmethod
    def of(
        cls, head: Head, rng: np.random.Generator, at: tuple[Field, Field], level: float
    ) -> "_Skull":
        x, y = at
        radius = float(np.sqrt(max(0.08, 1 - ((level - 0.36) / 0.70) ** 2)))
        width = head.axes[0] * radius
        length = head.axes[1] * (radius if level > 0.36 else 0.4 + 0.6 * radius)  # noqa: PLR2004
        bumps = 0.008 * warp(rng, 3, at)
        pear = 1 + 0.10 * y / length
        near = np.sqrt((x / (width * pear)) ** 2 + (y / length) ** 2) + bumps
        depth = (1 - near) * np.float32(min(width, length))
        return cls(depth, radius, (width, length), np.arctan2(x, -y), near)


def _brain(
    head: Head,
    rng: np.random.Generator,
    at: tuple[Field, Field],
    skull: _Skull,
    level: float,
) -> Field:
    x, y = at
    ripple = warp(rng, 14, at)
    shape = warp(rng, 7, (x, y + 0.6 * level))
    cortex = inside(0.13 + 0.035 * shape - skull.depth, 0.06)
    deep = _nuclei(x, y, level)
    grey = np.maximum(cortex, deep)
    tissue = head.white_hu + (head.grey_hu - head.white_hu) * grey
    tissue = tissue + np.float32(0.8) * ripple
    width = 0.010 + 0.016 * head.atrophy
    waves = np.abs(np.sin(11 * skull.polar + 2.2 * shape + 9 * level))
    sulci = line(waves, 0.35 + 0.5 * head.atrophy) * inside(0.10 - skull.depth, 0.05)
    rim = line(skull.depth, 2 * width)
    fluid = np.maximum(0.75 * sulci, rim)
    fluid = np.maximum(fluid, _ventricles(head, x, y, level))
    fluid = np.maximum(fluid, _cisterns(head, x, y, level))
    image = tissue + (_FLUID - tissue) * fluid
    return image + _densities(head, rng, at, skull, level)


def _nuclei(x: Field, y: Field, level: float) -> Field:
    here = max(0.0, 1 - ((level - 0.45) / 0.14) ** 2)
    side = np.abs(x)
    lentiform = ellipse(side, y, (0.20, -0.02), (0.06, 0.13), 0.25)
    thalamus = ellipse(side, y, (0.08, 0.10), (0.065, 0.10), -0.35)
    caudate = ellipse(side, y, (0.09, -0.17), (0.04, 0.06))
    deep = np.maximum(np.maximum(lentiform, thalamus), caudate)
    return inside(deep, 0.03) * np.float32(here)


def _ventricles(head: Head, x: Field, y: Field, level: float) -> Field:
    """Lateral ventricles from their horns to their roof, third and fourth."""
    wide = 0.025 + 0.045 * head.atrophy
    rise = (level - 0.53) / 0.13
    size = np.sqrt(max(0.0, 1 - rise * rise))
    side = np.abs(x - head.asymmetry)
    if size > 0:
        wide_here = wide * (0.5 + 0.5 * size)
        front = ellipse(
            side, y, (0.065 + wide / 2, -0.20), (wide_here, 0.15 * size), -0.3
        )
        body = ellipse(
            side, y, (0.07 + wide / 2, 0.0), (wide_here * 0.7, 0.22 * size), 0.0
        )
        back = ellipse(side, y, (0.12 + wide, 0.27), (wide_here, 0.17 * size), 0.25)
        middle = body if level > 0.50 else front  # noqa: PLR2004
        lateral = inside(np.maximum(np.maximum(front, back), middle), 0.02)
    else:
        lateral = np.zeros_like(x)
    third = max(0.0, 1 - ((level - 0.40) / 0.08) ** 2)
    slit = inside(ellipse(x, y, (0, 0.06), (0.012 + 0.2 * wide, 0.10)), 0.015)
    fourth = max(0.0, 1 - ((level - 0.16) / 0.08) ** 2)
    round_ = inside(ellipse(x, y, (0, 0.30), (0.05, 0.035)), 0.02)
    fluid: Field = np.maximum(lateral, np.maximum(slit * third, round_ * fourth))
    return fluid


def _cisterns(head: Head, x: Field, y: Field, level: float) -> Field:
    here = np.float32(max(0.0, 1 - ((level - 0.25) / 0.10) ** 2))
    if here <= 0:
        return np.zeros_like(x)
    star = np.abs(np.cos(2.5 * np.arctan2(x, -y))) * 0.13 + 0.05
    reach = star - np.sqrt(x**2 + (y - 0.02) ** 2)
    sylvian = line(
        np.abs(y + 0.08) - 0.2 * (np.abs(x) - 0.2), 0.03 + 0.04 * head.atrophy
    )
    sylvian *= inside(np.abs(x) - 0.2, 0.05)
    fluid: Field = here * np.maximum(inside(reach, 0.04), 0.7 * sylvian)
    return fluid


def _densities(
    head: Head,
    rng: np.random.Generator,
    at: tuple[Field, Field],
    skull: _Skull,
    level: float,
) -> Field:
    """What is bright without being blood in the wrong place; added HU."""
    x, y = at
    plexus, ganglia, pineal, falx, sinus = head.calcium
    side = np.abs(x)
    total = np.zeros_like(x)
    at_plexus = max(0.0, 1 - ((level - 0.50) / 0.07) ** 2)
    spot = ellipse(side, y, (0.15 + 0.03 * head.atrophy, 0.22), (0.03, 0.05), 0.3)
    total += np.float32(110 * plexus * at_plexus) * inside(spot, 0.03)
    at_ganglia = max(0.0, 1 - ((level - 0.45) / 0.08) ** 2)
    spot = ellipse(side, y, (0.18, -0.02), (0.05, 0.10), 0.25)
    total += np.float32(45 * max(0, ganglia - 0.3) * at_ganglia) * inside(spot, 0.04)
    at_pineal = max(0.0, 1 - ((level - 0.42) / 0.04) ** 2)
    spot = ellipse(x, y, (0, 0.2), (0.022, 0.022))
    total += np.float32(150 * pineal * at_pineal) * inside(spot, 0.02)
    midline = x - 0.02 * np.sin(3 * y) - head.asymmetry
    cut = 1.0 if level > 0.62 else inside(np.abs(y + 0.02) - 0.32, 0.05)  # noqa: PLR2004
    low = 1.0 / (1.0 + np.exp(-(level - 0.22) * 40))
    sheet = line(midline, 0.014 + 0.03 * falx) * cut * np.float32(low)
    total += np.float32(18 + 22 * falx) * sheet
    tent = max(0.0, 1 - ((level - 0.27) / 0.10) ** 2)
    vee = line(y - 0.12 - 1.1 * side, 0.03 + 0.05 * falx) * inside(side - 0.05, 0.04)
    total += np.float32((14 + 22 * falx) * tent) * vee
    total += np.float32(16 + 26 * sinus) * _sinuses(sinus, x, y, skull, level)
    del rng
    return total


def _sinuses(amount: float, x: Field, y: Field, skull: _Skull, level: float) -> Field:
    size = 0.03 + 0.04 * amount
    back = ellipse(x, y, (0, skull.axes[1] - size * 0.8), (size, size * 1.2))
    front = ellipse(x, y, (0, -skull.axes[1] + size * 0.4), (size * 0.7, size * 0.7))
    veins = inside(back, 0.03) + inside(front, 0.03) * float(level > 0.45)  # noqa: PLR2004
    low = np.float32(max(0.0, 1 - ((level - 0.17) / 0.07) ** 2))
    angle = np.abs(np.abs(skull.polar) - 2.35)
    transverse = line(skull.depth - 0.02, size) * inside(0.45 - angle, 0.2)
    return np.maximum(veins, low * transverse)


def _base(
    image: Field, head: Head, at: tuple[Field, Field], skull: _Skull, level: float
) -> Field:
    """Petrous bone and orbits near the base, and the dark bars between them."""
    x, y = at
    low = np.float32(1 / (1 + np.exp((level - 0.11) * 60)))
    dark = line(y - 0.14, 0.2) * inside(skull.depth, 0.05)
    faint = np.float32(max(0.0, 1 - level / 0.3))
    image = image - np.float32(head.hardening_hu) * faint * dark
    image = image + np.float32(head.hardening_hu * 0.6) * line(skull.depth, 0.12)
    if low < 0.02:  # noqa: PLR2004 - nothing left to see
        return image
    side = np.abs(x)
    petrous = line(y - 0.34 + 0.75 * side, 0.08) * inside(side - 0.16, 0.08)
    wing = line(y + 0.30 - 0.4 * side, 0.035) * inside(side - 0.16, 0.08)
    image = image + 1000 * low * np.maximum(petrous, wing)
    length = skull.axes[1]
    orbit = ellipse(side, y, (0.25, 0.2 - length), (0.15, 0.17))
    orbit = inside(orbit, 0.03) * low
    image = image + (-70 - image) * orbit
    globe = ellipse(side, y, (0.25, 0.13 - length), (0.10, 0.10))
    globe = inside(globe, 0.02) * low
    return image + (12 - image) * globe


def _with_bleed(
    brain: Field,
    head: Head,
    bleed: Bleed,
    at: tuple[Field, Field],
    skull: _Skull,
    level: float,
) -> Field:
    share = bleed_share(head, level)
    if share <= 0:
        return brain
    x, y = at
    rng = np.random.default_rng(head.texture_seed + 1)
    wobble = 0.018 * warp(rng, 9, at)
    if bleed.kind in {"subdural", "epidural"}:
        depth = _against_bone(bleed, share, skull) - skull.depth + wobble * 0.5
        swelling = np.zeros_like(x)
    elif bleed.kind == "intraparenchymal":
        radii = (bleed.radii[0] * share, bleed.radii[1] * share)
        depth = ellipse(x, y, bleed.place, radii, bleed.angle_rad) + wobble
        swelling = inside(depth + 0.06, 0.05)
    else:
        layer = inside(y - 0.16, 0.05) * inside(bleed.side * x + 0.02, 0.03)
        wet = _ventricles(head, x, y, level) * layer
        wet += _ventricles(head, x, y, level) * 0.5 * (1 - layer)
        return brain + wet * np.float32(share) * (
            head.grey_hu + bleed.density_hu - brain
        )
    within = inside(skull.depth, 0.02)
    brain = brain - 10 * swelling * within
    blood = np.float32(head.grey_hu + bleed.density_hu)
    return brain + (blood - brain) * inside(depth, 0.03) * within


def _with_swelling(image: Field, head: Head, skull: _Skull, level: float) -> Field:
    if head.swelling is None:
        return image
    share = _share(head.swelling, level)
    outside = -(skull.depth + head.bone)
    shape = _against_bone(head.swelling, share, skull) - outside
    here = inside(shape, 0.02) * inside(outside, 0.02)
    return image + (head.grey_hu + head.swelling.density_hu - image) * here


def _against_bone(bleed: Bleed, share: float, skull: _Skull) -> Field:
    """How thick a crescent, or a lens (epidural), is around the skull."""
    thick, half_angle = bleed.radii[0] * share, bleed.radii[1] * (0.4 + 0.6 * share)
    away = np.abs((skull.polar - bleed.place[0] + np.pi) % (2 * np.pi) - np.pi)
    bulge = 1 - (away / np.float32(half_angle)) ** 2
    if bleed.kind != "epidural":
        bulge = np.sign(bulge) * np.abs(bulge) ** 0.5
    thickness: Field = np.float32(thick) * bulge
    return thickness


def _headrest(image: Field, x: Field, y: Field, head: Head, edge: float) -> Field:
    bowl = np.sqrt(x**2 + (y - 0.1) ** 2) - np.float32(head.axes[1] + 0.22)
    shell = line(bowl, max(0.03, edge)) * inside(y - 0.3, 0.1)
    return image + 700 * shell * (image < -500)  # noqa: PLR2004


def _bleed(rng: np.random.Generator, axes: tuple[float, float]) -> Bleed:
    kind = KINDS_OF_BLEED[int(rng.integers(len(KINDS_OF_BLEED)))]
    side = int(rng.choice([-1, 1]))
    level, extent = rng.uniform(0.34, 0.72), rng.uniform(0.10, 0.17)
    place, radii = (0.0, 0.0), (0.0, 0.0)
    if kind == "intraparenchymal":
        place = (
            axes[0] * side * rng.uniform(0.25, 0.6),
            axes[1] * rng.uniform(-0.5, 0.5),
        )
        radius = rng.uniform(0.09, 0.17)
        radii = (radius, radius * rng.uniform(0.7, 1.0))
    elif kind == "subdural":
        place = (side * rng.uniform(0.9, 2.0), 0.0)
        radii = (rng.uniform(0.06, 0.10), rng.uniform(0.6, 1.0))
    elif kind == "epidural":
        place = (side * rng.uniform(0.7, 2.2), 0.0)
        radii = (rng.uniform(0.09, 0.16), rng.uniform(0.32, 0.52))
    else:
        level, extent = rng.uniform(0.48, 0.56), rng.uniform(0.10, 0.14)
    return Bleed(
        kind=kind,
        side=side,
        level=level,
        extent=extent,
        place=place,
        radii=radii,
        density_hu=rng.uniform(20, 38),
        angle_rad=rng.uniform(-0.8, 0.8),
    )


def _swelling(rng: np.random.Generator) -> Bleed:
    side = int(rng.choice([-1, 1]))
    return Bleed(
        kind="scalp",
        side=side,
        level=rng.uniform(0.25, 0.75),
        extent=rng.uniform(0.12, 0.25),
        place=(rng.uniform(-np.pi, np.pi), 0.0),
        radii=(rng.uniform(0.06, 0.15), rng.uniform(0.3, 0.9)),
        density_hu=rng.uniform(14, 34),
        angle_rad=0.0,
    )
