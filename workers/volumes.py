"""Which frames of a series belong together, and in which order they lie in the patient.

Pure. A volume is a run of parallel frames that holds each position once, ordered along
the normal of its planes: row x column, right-handed (PS3.3 C.7.6.2.1.1). InstanceNumber
orders only what states no geometry. Frames are told apart

- always by kind (localisers), frame of reference, stack, matrix and orientation;
- where a position occurs more than once: by image type, echo, b-value, time point,
  trigger delay, acquisition or place in the plane, whichever separates them; failing
  that, by the order in which each position was repeated.

An acquisition number that differs from slice to slice (a CT that steps and shoots)
therefore splits nothing.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import InputFile, SeriesUid, SopInstanceUid
from workers.geometry import Geometry

SAME_MM = 0.005
"""Frames whose positions along the normal differ by no more are at the same place."""

PARALLEL = 1e-3
"""Direction cosines that differ by no more are the same orientation."""

EVEN = 0.01
"""Part of the spacing by which a gap may differ from it."""

ROUNDED_MM = 0.011
"""What a gap may differ in any case: positions are written with two digits or more."""

LOCALISER_MOST = 15
"""Frames that an orientation of a localiser has at most, where nothing says it is one."""

SECTIONAL = frozenset({"CT", "MR", "PT"})
"""Modalities whose series are volumes also where they state no geometry."""

_STEEP = np.cos(np.radians(45))
_NO_GEOMETRY = "no geometry is stated: ordered by InstanceNumber"

Place = tuple[SopInstanceUid, int]
"""An image and a frame of it, counted from 0."""


class Kind(StrEnum):
    """What a run of frames is."""

    VOLUME = "volume"
    LOCALISER = "localiser"
    IMAGE = "image"
    """A projection, a picture, or a film of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A frame, and what is known of its place.

    Parameters
    ----------
    frame
        Index from 0.
    number
        InstanceNumber (0020,0013).
    """

    series_uid: SeriesUid
    sop_instance_uid: SopInstanceUid
    frame: int
    number: int | None
    modality: str
    geometry: Geometry

    @property
    def place(self) -> Place:
        """Return which frame of which image it is."""
        return self.sop_instance_uid, self.frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Frames that belong together, in order.

    Parameters
    ----------
    along
        Position of each slice along the normal, mm; its rank where there is no
        geometry.
    apart
        What tells it from other volumes at the same place, e.g. ``echo 2``.
    normal
        Unit vector; None without geometry.
    spacing_mm
        The median gap between slices; None for fewer than two, or without geometry.
    even
        Whether every gap is the spacing, within `EVEN` or `ROUNDED_MM`.
    missing
        Slices that are missing where a gap is a multiple of the spacing.
    tilt_deg
        Angle between the normal and the line of the positions: the gantry's tilt.
    remark
        What a reader has to know of the order.
    """

    series_uid: SeriesUid
    kind: Kind
    slices: tuple[Slice, ...]
    along: tuple[float, ...]
    apart: str = ""
    normal: tuple[float, float, float] | None = None
    spacing_mm: float | None = None
    even: bool = True
    missing: int = 0
    tilt_deg: float = 0.0
    remark: str = ""


def volumes(slices: Iterable[Slice]) -> tuple[Volume, ...]:
    """Return the volumes of all series: the same for any order of `slices`."""
    ordered = sorted(slices, key=lambda one: (one.series_uid, *one.place))
    return tuple(
        chain.from_iterable(_of_series(run) for run in _by(ordered, _series).values())
    )


def evenly(along: Sequence[float], limit: int) -> tuple[int, ...]:
    """Return the indices of `limit` slices, evenly spread over ascending positions.

    The first and the last are among them; a single one is the middle.
    """
    count = len(along)
    if limit >= count:
        return tuple(range(count))
    if limit == 1:
        return (int(np.argmin(np.abs(np.asarray(along) - (along[0] + along[-1]) / 2))),)
    chosen: list[int] = []
    for rank, wanted in enumerate(np.linspace(along[0], along[-1], limit)):
        first = chosen[-1] + 1 if chosen else 0
        last = count - (limit - rank)  # those that follow need a slice each
        reach = np.abs(np.asarray(along[first : last + 1]) - wanted)
        chosen.append(first + int(reach.argmin()))
    return tuple(chosen)


def volume_embedding(vectors: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """Return one vector (D,) float32 for the slices' (N, D).

    Parameters
    ----------
    method
        ``median`` and ``mean``, of each dimension; ``unit-mean``: the mean, of length
        one.

    Raises
    ------
    ValueError
        If the method is another.
    """
    rows = vectors.astype(np.float64)
    if method == "median":
        combined = np.median(rows, axis=0)
    elif method in ("mean", "unit-mean"):
        combined = rows.mean(axis=0)
    else:
        raise ValueError(f"no volume embedding is called {method!r}")
    if method == "unit-mean":
        combined /= np.linalg.norm(combined) or 1.0
    found: NDArray[np.float32] = combined.astype(np.float32)
    return found


def slice_of(file: InputFile, frame: int, geometry: Geometry) -> Slice:
    """Return a frame of an instance, counted from 0, as a slice."""
    return Slice(
        series_uid=file.series_uid,
        sop_instance_uid=file.sop_instance_uid,
        frame=frame,
        number=file.instance_number,
        modality=file.exam.modality,
        geometry=geometry,
    )


# ── a series ────────────────────────────────────────────────────────────────


def _of_series(slices: Sequence[Slice]) -> list[Volume]:
    """Return the volumes of one series, the one with the first instance first."""
    lost = [one for one in slices if not one.geometry.located]
    placed = [one for one in slices if one.geometry.located]
    films = {one.sop_instance_uid for one in lost if one.frame}
    sheets = _by(lost, lambda one: _same_sheet(one, films)).values()
    found = [_unplaced(run) for run in sheets]
    groups = _by(placed, _same_stack).values()
    stacks = [stack for group in groups for stack in _parallel(group)]
    surveys = _is_survey(stacks)
    for stack in stacks:
        found += _placed(stack, survey=surveys)
    return sorted(found, key=lambda volume: min(map(_reading, volume.slices)))


def _series(one: Slice) -> SeriesUid:
    return one.series_uid


def _same_stack(one: Slice) -> Hashable:
    geometry = one.geometry
    return (
        _says_localiser(one),
        geometry.frame_of_reference,
        geometry.stack,
        geometry.rows,
        geometry.columns,
    )


def _same_sheet(one: Slice, films: Collection[SopInstanceUid]) -> Hashable:
    """Return what frames without geometry have in common if they belong together."""
    uid = one.sop_instance_uid
    single = one.modality in SECTIONAL and uid not in films
    return "" if single else uid, _same_stack(one)


def _says_localiser(one: Slice) -> bool:
    return "LOCALIZER" in one.geometry.image_type


def _reading(one: Slice) -> tuple[int, SopInstanceUid, int]:
    return one.number or 0, one.sop_instance_uid, one.frame


def _by(
    slices: Iterable[Slice], key: Callable[[Slice], Any]
) -> dict[Hashable, list[Slice]]:
    groups: dict[Hashable, list[Slice]] = {}
    for one in slices:
        groups.setdefault(key(one), []).append(one)
    return groups


# ── frames without a place ──────────────────────────────────────────────────


def _unplaced(slices: list[Slice]) -> Volume:
    ordered = sorted(slices, key=_sheet_order)
    sections = ordered[0].modality in SECTIONAL
    kind = Kind.VOLUME if sections and len(ordered) > 1 else Kind.IMAGE
    return Volume(
        series_uid=ordered[0].series_uid,
        kind=Kind.LOCALISER if _says_localiser(ordered[0]) else kind,
        slices=tuple(ordered),
        along=tuple(map(float, range(len(ordered)))),
        remark=_NO_GEOMETRY if kind is Kind.VOLUME else "",
    )


def _sheet_order(one: Slice) -> tuple[int, int, SopInstanceUid, int]:
    return one.geometry.in_stack or 0, *_reading(one)


# ── frames with one ─────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stack:
    """Parallel frames, and their position along the normal (N,), mm."""

    slices: list[Slice]
    normal: NDArray[np.float64]
    along: NDArray[np.float64]

    def part(self, chosen: Sequence[int]) -> "_Stack":
        """Return the stack of some of the frames."""
        return _Stack(
            slices=[self.slices[i] for i in chosen],
            normal=self.normal,
            along=self.along[list(chosen)],
        )

    def levels(self) -> NDArray[np.int64]:
        """Return the rank (N,) of each frame's position, the same for the same place."""
        order = np.argsort(self.along, kind="stable")
        steps = np.diff(self.along[order], prepend=self.along[order[:1]]) > SAME_MM
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.cumsum(steps)
        return ranks

    @property
    def repeats(self) -> int:
        """Return how often the most frequent position occurs."""
        return int(np.bincount(self.levels()).max())


def _parallel(slices: list[Slice]) -> list[_Stack]:
    """Return the stacks of frames that share an orientation."""
    stated = np.array([s.geometry.orientation for s in slices], dtype=np.float64)
    distinct, which = np.unique(stated, axis=0, return_inverse=True)
    which = which.reshape(-1)
    pending = np.ones(len(distinct), dtype=bool)
    stacks = []
    for leader in range(len(distinct)):
        if not pending[leader]:
            continue
        near = np.abs(distinct - distinct[leader]).max(axis=1) <= PARALLEL
        mine = near & pending
        pending &= ~mine
        members = [slices[i] for i in np.flatnonzero(mine[which])]
        normal = np.cross(distinct[leader][:3], distinct[leader][3:])
        normal /= np.linalg.norm(normal)
        along = _positions(members) @ normal
        stacks.append(_Stack(slices=members, normal=normal, along=along))
    return stacks


def _is_survey(stacks: Sequence[_Stack]) -> bool:
    """Return whether few original frames face in directions far from each other."""
    stacks = [stack for stack in stacks if not _says_localiser(stack.slices[0])]
    if any(len(stack.slices) > LOCALISER_MOST for stack in stacks):
        return False
    if any("DERIVED" in one.geometry.image_type for s in stacks for one in s.slices):
        return False
    normals = np.array([stack.normal for stack in stacks]).reshape(-1, 3)
    return bool((np.abs(normals @ normals.T) < _STEEP).any())


def _placed(stack: _Stack, *, survey: bool) -> list[Volume]:
    """Return the volumes of parallel frames."""
    localiser = survey or _says_localiser(stack.slices[0])
    kind = Kind.LOCALISER if localiser else Kind.VOLUME
    return [_measured(part, kind, words) for words, part in _apart(stack)]


def _apart(stack: _Stack) -> list[tuple[tuple[str, ...], _Stack]]:
    """Return the stacks that hold each position once, and what tells them apart."""
    repeats = stack.repeats
    if repeats == 1:
        return [((), stack)]
    for name, key in _TRAITS:
        groups: dict[Any, list[int]] = {}
        for index, one in enumerate(stack.slices):
            groups.setdefault(key(one), []).append(index)
        if not 1 < len(groups) <= repeats:
            continue
        parts = {value: stack.part(chosen) for value, chosen in groups.items()}
        if max(part.repeats for part in parts.values()) < repeats:
            return [
                ((_words(name, value), *words), part)
                for value in sorted(parts, key=_absent_first)
                for words, part in _apart(parts[value])
            ]
    return _by_turn(stack)


def _by_turn(stack: _Stack) -> list[tuple[tuple[str, ...], _Stack]]:
    """Return the first frame of every position, the second of every position, ..."""
    levels = stack.levels()
    turns: list[list[int]] = []
    taken = np.zeros(len(levels), dtype=np.int64)
    for index in sorted(range(len(levels)), key=lambda i: _turn(stack.slices[i])):
        turn = taken[levels[index]]
        taken[levels[index]] += 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(index)
    return [((f"pass {n}",), stack.part(t)) for n, t in enumerate(turns, start=1)]


def _turn(one: Slice) -> tuple[float, ...]:
    geometry = one.geometry
    stated = geometry.temporal, geometry.trigger_ms, geometry.acquisition
    numbers = [float(number or 0) for number in (*stated, geometry.time_s, one.number)]
    return (*numbers, float(one.frame))


def _measured(stack: _Stack, kind: Kind, words: tuple[str, ...]) -> Volume:
    """Return the volume of frames that hold each position once."""
    order = np.argsort(stack.along, kind="stable")
    slices = [stack.slices[i] for i in order]
    along = stack.along[order]
    gaps = np.diff(along)
    spacing = float(np.sort(gaps)[(len(gaps) - 1) // 2]) if len(gaps) else None
    even, missing = _gaps(gaps, spacing)
    x, y, z = map(float, stack.normal)
    return Volume(
        series_uid=slices[0].series_uid,
        kind=kind,
        slices=tuple(slices),
        along=tuple(map(float, along)),
        apart=", ".join(words),
        normal=(x, y, z),
        spacing_mm=spacing,
        even=even,
        missing=missing,
        tilt_deg=_tilt_deg(_positions(slices), along, stack.normal),
    )


def _gaps(gaps: NDArray[np.float64], spacing: float | None) -> tuple[bool, int]:
    """Return whether all gaps are alike, and how many slices would fill the wide ones."""
    if spacing is None:
        return True, 0
    allowed = max(EVEN * spacing, ROUNDED_MM)
    steps = np.rint(gaps / spacing)
    fits = np.abs(gaps - steps * spacing) <= allowed * np.maximum(steps, 1)
    even = bool((np.abs(gaps - spacing) <= allowed).all())
    return even, int((steps[fits & (steps > 1)] - 1).sum())


def _tilt_deg(
    positions: NDArray[np.float64],
    along: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> float:
    """Return the angle between the normal and the line that fits the positions best."""
    centred = along - along.mean()
    weight = float(centred @ centred)
    if weight == 0:
        return 0.0
    line = centred @ (positions - positions.mean(axis=0)) / weight
    return float(np.degrees(np.arctan(np.linalg.norm(line - normal))))


def _positions(slices: Sequence[Slice]) -> NDArray[np.float64]:
    return np.array([one.geometry.position for one in slices], dtype=np.float64)


def _in_plane(one: Slice) -> tuple[float, ...]:
    """Return the corner of a frame along its own rows and columns, whole mm."""
    corner = np.array(one.geometry.position)
    axes = np.array(one.geometry.orientation).reshape(2, 3)
    return tuple(float(offset) for offset in np.rint(axes @ corner))


def _words(name: str, value: Any) -> str:
    if value is None:
        return f"no {name}"
    if isinstance(value, tuple):
        return f"{name} {'/'.join(map(str, value))}"
    return f"{name} {value:g}"


def _absent_first(value: Any) -> tuple[bool, Any]:
    return value is not None, value


_TRAITS: tuple[tuple[str, Callable[[Slice], Any]], ...] = (
    ("image type", lambda one: one.geometry.image_type),
    ("echo", lambda one: one.geometry.echo),
    ("echo time", lambda one: one.geometry.echo_time_ms),
    ("b-value", lambda one: one.geometry.b_value),
    ("time point", lambda one: one.geometry.temporal),
    ("trigger delay", lambda one: one.geometry.trigger_ms),
    ("acquisition", lambda one: one.geometry.acquisition),
    ("time", lambda one: one.geometry.time_s),
    ("corner", _in_plane),
)
