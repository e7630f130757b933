"""Which slices of a study's volumes are scored, and what the report says of it.

Pure. Localisers are left out where there is anything else to look at; where the pack
sets a limit, each volume gives an even selection of its slices, the ends included.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workers.volumes import Kind, Place, Volume, evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is scored of each volume.

    Parameters
    ----------
    runs
        The frames of each volume, in their order; none of them empty.
    words
        What was left out, for the report; empty if nothing was.
    surveys_only
        Whether there are none but localisers.
    """

    runs: tuple[tuple[Place, ...], ...]
    words: str
    surveys_only: bool


def select(
    volumes: Sequence[Volume], readable: Collection[Place], limit: int | None
) -> Selection:
    """Return what is scored of `volumes`, as far as it is among `readable`.

    Parameters
    ----------
    limit
        Slices of a volume at most; None for all.
    """
    there = [run for volume in volumes if (run := _readable(volume, readable)).places]
    bodies = [run for run in there if run.kind is not Kind.LOCALISER]
    seen = bodies or there
    chosen = tuple(run.limited(limit) for run in seen)
    words = []
    count, total = sum(map(len, chosen)), sum(len(run.places) for run in seen)
    if count < total:
        noun = "frames" if any(r.kind is Kind.IMAGE for r in seen) else "slices"
        words.append(f"{count} of {total} {noun}, evenly selected")
    if left_out := sum(len(run.places) for run in there) - total:
        words.append(f"{left_out} localiser image{'s'[: left_out > 1]} left out")
    return Selection(
        runs=chosen, words="; ".join(words), surveys_only=bool(there) and not bodies
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The readable slices of a volume."""

    kind: Kind
    places: tuple[Place, ...]
    along: tuple[float, ...]

    def limited(self, limit: int | None) -> tuple[Place, ...]:
        """Return an even selection of them, all where there is no limit."""
        if limit is None:
            return self.places
        return tuple(self.places[i] for i in evenly(self.along, limit))


def _readable(volume: Volume, readable: Collection[Place]) -> _Run:
    kept = [i for i, one in enumerate(volume.slices) if one.place in readable]
    return _Run(
        kind=volume.kind,
        places=tuple(volume.slices[i].place for i in kept),
        along=tuple(volume.along[i] for i in kept),
    )
