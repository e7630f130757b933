"""What is left of a model's area where an attribute is the same.

Within each value of an attribute, and, over values, the mean weighted by pairs of
positives and negatives: the share of pairs ordered rightly among pairs that agree in
the attribute.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.measures import Area, Scores
from workers.shortcuts.areas import Rows, adjusted, area, measurable
from workers.shortcuts.nested import Rowed

FEWEST_PATIENTS: Final = 10
"""Of each class: a group with fewer is too small to say anything."""

QUANTILES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """One value of an attribute; `area` is None where `reason` says why."""

    name: str
    positives: int
    negatives: int
    area: Area | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """An attribute: what is left within each value, and on the mean over values.

    `adjusted` is over pairs of a positive and a negative that agree in the value, and
    were scored by the same model; None where a class has fewer than two patients there.
    """

    attribute: str
    strata: tuple[Stratum, ...]
    adjusted: Area | None


def strata(
    attribute: str, group: tuple[str, ...], scores: Scores, rowed: Rowed
) -> Strata:
    """Return what is left of the area of `scores` (N,) within each `group` (N,).

    Rows whose group is "" belong to none. Adjusted areas compare rows of one outer fold
    alone: models of different folds have learnt from each other's patients, and where a
    fold has more positives by chance, its model saw fewer of them, so that pairs across
    folds come out too low.
    """
    names = np.array(group)
    members = {name: np.flatnonzero(names == name) for name in sorted({*group} - {""})}
    cells = [
        rows[rowed.fold[rows] == number]
        for rows in members.values()
        for number in np.unique(rowed.fold[rows])
    ]
    paired = [rows for rows in cells if 0 < rowed.truth[rows].sum() < len(rows)]
    together = np.concatenate([*paired, np.zeros(0, np.intp)])
    return Strata(
        attribute=attribute,
        strata=tuple(
            _stratum(name, rows, scores, rowed) for name, rows in members.items()
        ),
        adjusted=adjusted(scores, rowed.truth, rowed.patient, paired)
        if measurable(rowed.truth, rowed.patient, together)
        else None,
    )


def quantiles(values: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the fifth that each value (N,) is in, by name; equal ones together."""
    inner = np.quantile(values, np.linspace(0, 1, QUANTILES + 1)[1:-1])
    fifth = np.searchsorted(np.unique(inner), values, side="right") + 1
    return tuple(f"fifth {number}" for number in fifth)


def _stratum(name: str, rows: Rows, scores: Scores, rowed: Rowed) -> Stratum:
    truth, patient = rowed.truth[rows], rowed.patient[rows]
    fewest = min(len(np.unique(patient[truth == value])) for value in (True, False))
    small = fewest < FEWEST_PATIENTS
    return Stratum(
        name=name,
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        area=None if small else area(scores, rowed.truth, rowed.patient, rows),
        reason=f"fewer than {FEWEST_PATIENTS} patients of a class" if small else "",
    )
