"""A phantom: one synthetic study as a value, with the truth about it.

Kind and seed decide everything. What a patient is called, how old they are, on
which machine and with which polarity they were imaged is drawn without looking at
what they have.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NewType

import numpy as np

from workers.phantoms.acquisition import (
    CT_SCANNERS,
    DX_SCANNERS,
    Exposure,
    HounsfieldUnits,
    Scan,
    Scanner,
    Stored,
    develop,
    draw_exposure,
    draw_scan,
    reconstruct,
)
from workers.phantoms.chest import (
    Chest,
    Effusion,
    Pneumothorax,
    draw_chest,
    render_chest,
)
from workers.phantoms.head import Head, bleed_share, draw_head, render_slice
from workers.phantoms.raster import place

Finding = NewType("Finding", str)

CHEST_FINDINGS: Final = (
    Finding("pneumothorax"),
    Finding("effusion"),
    Finding("nodule"),
    Finding("enlarged_heart"),
)
HEAD_FINDINGS: Final = (Finding("haemorrhage"),)
CHEST_KINDS: Final = ("chest_normal", *CHEST_FINDINGS)
HEAD_KINDS: Final = ("head_normal", *HEAD_FINDINGS)
KINDS: Final = (*CHEST_KINDS, *HEAD_KINDS)

ANY_CHEST: Final = "chest_any"
"""A chest that has each finding nearly as often as not: to learn from, not a kind."""

_ALL: Final = (*KINDS, ANY_CHEST)
_ALSO = 0.2  # how often a chest with one finding has another, each
_ANY = 0.4  # how often one of `ANY_CHEST` has a finding, each
_FIRST_DAY = datetime(2024, 1, 1, 7, 0)  # noqa: DTZ001 - DICOM times are local
_LOWEST, _HIGHEST = 0.04, 0.96  # levels that a head scan covers
_SHOWN = 0.3  # share of its greatest width from which a slice shows the bleed


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A person who does not exist."""

    name: str
    patient_id: str
    accession: str
    sex: str
    age_years: int
    examined: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a finding is: corners in 0..1 of the image, levels of the head."""

    finding: Finding
    left: float
    top: float
    right: float
    bottom: float
    levels: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestPhantom:
    """One chest radiograph.

    Parameters
    ----------
    view
        PA or AP.
    inverted
        Whether it is stored as MONOCHROME1.
    """

    kind: str
    seed: int
    findings: frozenset[Finding]
    patient: Patient
    scanner: Scanner
    chest: Chest
    exposure: Exposure
    view: str
    inverted: bool

    def pixels(self, size: int) -> Stored:
        """Stored values (size, size) uint16 of 12 bits, in the polarity it has."""
        values = develop(render_chest(self.chest, size), self.exposure)
        return np.uint16(4095) - values if self.inverted else values

    def regions(self) -> tuple[Region, ...]:
        """Where the findings are, enlarged heart apart."""
        return tuple(
            _region(finding, self.chest, box) for finding, box in _boxes(self.chest)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPhantom:
    """One axial series of a head, without contrast agent."""

    kind: str
    seed: int
    findings: frozenset[Finding]
    patient: Patient
    scanner: Scanner
    head: Head
    scan: Scan

    def levels(self, count: int) -> tuple[float, ...]:
        """Levels of `count` slices from the base of the skull to the vertex."""
        return tuple(float(x) for x in np.linspace(_LOWEST, _HIGHEST, count))

    def pixels(self, level: float, size: int) -> HounsfieldUnits:
        """Hounsfield units (size, size) int16 of the slice at this level."""
        index = int(level * 100_000)
        return reconstruct(render_slice(self.head, level, size), self.scan, index)

    def shows(self, level: float) -> bool:
        """Whether a reader of this slice alone could see blood in it."""
        return bleed_share(self.head, level) > _SHOWN


Phantom = ChestPhantom | HeadPhantom


def phantom(kind: str, seed: int) -> Phantom:
    """Return the phantom of a kind (one of `KINDS`, or `ANY_CHEST`) and a seed.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in _ALL:
        raise ValueError(f"no phantom of kind {kind!r}; there are {', '.join(_ALL)}")
    rng = np.random.default_rng([_ALL.index(kind), seed])
    return _head(kind, seed, rng) if kind in HEAD_KINDS else _chest(kind, seed, rng)


def _chest(kind: str, seed: int, rng: np.random.Generator) -> ChestPhantom:
    share = {"chest_normal": 0.0, ANY_CHEST: _ANY}.get(kind, _ALSO)
    drawn = rng.random(len(CHEST_FINDINGS)) < share
    findings = frozenset(
        finding
        for finding, here in zip(CHEST_FINDINGS, drawn, strict=True)
        if here or finding == kind
    )
    patient = _patient(rng, "CHEST", kind, seed)
    scanner = DX_SCANNERS[int(rng.integers(len(DX_SCANNERS)))]
    return ChestPhantom(
        kind=kind,
        seed=seed,
        findings=findings,
        patient=patient,
        scanner=scanner,
        exposure=draw_exposure(rng, scanner),
        view=str(rng.choice(["PA", "AP"])),
        inverted=bool(rng.integers(2)),
        chest=draw_chest(rng, frozenset(findings), female=patient.sex == "F"),
    )


def _head(kind: str, seed: int, rng: np.random.Generator) -> HeadPhantom:
    patient = _patient(rng, "HEAD", kind, seed)
    scanner = CT_SCANNERS[int(rng.integers(len(CT_SCANNERS)))]
    bleeding = kind in HEAD_FINDINGS
    return HeadPhantom(
        kind=kind,
        seed=seed,
        findings=frozenset(HEAD_FINDINGS if bleeding else ()),
        patient=patient,
        scanner=scanner,
        scan=draw_scan(rng, scanner),
        head=draw_head(rng, bleeding=bleeding, age_years=patient.age_years),
    )


def _patient(rng: np.random.Generator, part: str, kind: str, seed: int) -> Patient:
    sex = str(rng.choice(["F", "M"]))
    number = int(rng.integers(10**7))
    del kind, seed
    return Patient(
        name=f"PHANTOM^{part}{number:07d}",
        patient_id=f"PH{number:07d}",
        accession=f"A{int(rng.integers(10**8)):08d}",
        sex=sex,
        age_years=int(rng.integers(20, 91)),
        examined=_FIRST_DAY + timedelta(minutes=int(rng.integers(365 * 24 * 60))),
    )


def _boxes(
    chest: Chest,
) -> list[tuple[Finding, tuple[float, float, float, float]]]:
    """Findings with x0, y0, x1, y1 in the patient's coordinates."""
    boxes = []
    if chest.pneumothorax is not None:
        boxes.append((CHEST_FINDINGS[0], _air_box(chest.pneumothorax, chest)))
    boxes += [
        (CHEST_FINDINGS[1], _fluid_box(fluid, chest)) for fluid in chest.effusions
    ]
    for nodule in chest.nodules:
        (x, y), r = nodule.centre, nodule.radius
        boxes.append((CHEST_FINDINGS[2], (x - r, y - r, x + r, y + r)))
    return boxes


def _air_box(air: Pneumothorax, chest: Chest) -> tuple[float, float, float, float]:
    ends = sorted((air.side * 0.15, air.side * chest.thorax))
    return ends[0], -0.72, ends[1], -0.72 + air.reach


def _fluid_box(fluid: Effusion, chest: Chest) -> tuple[float, float, float, float]:
    ends = sorted((fluid.side * 0.25, fluid.side * chest.thorax))
    bottom = chest.diaphragms[(fluid.side + 1) // 2] + chest.angle_depth
    return ends[0], bottom - fluid.height, ends[1], bottom


def _region(
    finding: Finding, chest: Chest, box: tuple[float, float, float, float]
) -> Region:
    corners = [place(x, y, chest.pose) for x in box[::2] for y in box[1::2]]
    across = [min(1.0, max(0.0, (u + 1) / 2)) for u, _ in corners]
    down = [min(1.0, max(0.0, (v + 1) / 2)) for _, v in corners]
    return Region(
        finding=finding,
        left=min(across),
        top=min(down),
        right=max(across),
        bottom=max(down),
    )
