"""Figures by group at the threshold that holds for all, and the gaps to the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workers.evaluating.asked import Groups, Point, Question
from workers.evaluating.figures import AttributeFigures, Counts, GroupFigures
from workers.evaluating.rows import Rows, too_few
from workers.evaluating.rules import FEWEST
from workers.measures import (
    Clusters,
    Linear,
    Scores,
    clustered_auc,
    clustered_mean,
    clustered_proportion,
    linear_auc,
    linear_mean,
    simultaneous_gaps,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """A group of an attribute, and all others whose group is known, (N,) each."""

    attribute: str
    name: str
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def finding_groups(
    rows: Rows, groups: Groups, question: Question
) -> tuple[AttributeFigures, ...]:
    """Return the figures of each group of each attribute, with gaps."""
    point = question.points[0] if question.points else None
    every = tuple(_groups(rows.where, groups))
    figures = [_of_group(rows.among(one.inside), one.name, point) for one in every]
    said = [
        number
        for number, (one, figure) in enumerate(zip(every, figures, strict=True))
        if not figure.too_few and not too_few(rows.among(one.outside).counts)
    ]
    size = _size(rows.patient)
    measures: dict[str, Callable[[Rows], Linear]] = {"area": partial(_area, size=size)}
    if point is not None:
        for name, present in (("sensitivity", True), ("specificity", False)):
            measures[name] = partial(_hits, point=point, present=present, size=size)
    pairs = {
        name: [
            (measure(rows.among(one.inside)), measure(rows.among(one.outside)))
            for one in (every[number] for number in said)
        ]
        for name, measure in measures.items()
    }
    return _by_attribute(every, _with_gaps(figures, said, pairs), rows.where, groups)


def quantity_groups(
    errors: Scores, patient: Clusters, where: NDArray[np.int64], groups: Groups
) -> tuple[AttributeFigures, ...]:
    """Return the mean of errors (N,) in each group of each attribute, with gaps."""
    every = tuple(_groups(where, groups))
    figures = [
        _of_errors(errors[one.inside], patient[one.inside], one.name) for one in every
    ]
    said = [
        number
        for number, (one, figure) in enumerate(zip(every, figures, strict=True))
        if not figure.too_few and len(np.unique(patient[one.outside])) >= FEWEST
    ]
    size = _size(patient)
    pairs = [
        (
            linear_mean(errors[one.inside], patient[one.inside], size),
            linear_mean(errors[one.outside], patient[one.outside], size),
        )
        for one in (every[number] for number in said)
    ]
    return _by_attribute(
        every, _with_gaps(figures, said, {"error": pairs}), where, groups
    )


def _groups(where: NDArray[np.int64], groups: Groups) -> Iterator[_Group]:
    for attribute, of_rows in groups.items():
        names, number = np.unique(np.array(of_rows, dtype=np.str_), return_inverse=True)
        here = number[where]
        known = names[here] != "" if len(names) else np.zeros(len(where), np.bool_)
        for code in np.unique(here[known]).tolist():
            inside = here == code
            yield _Group(
                attribute=attribute,
                name=str(names[code]),
                inside=inside,
                outside=known & ~inside,
            )


def _of_group(rows: Rows, name: str, point: Point | None) -> GroupFigures:
    counts = rows.counts
    why = too_few(counts)
    if why:
        return GroupFigures(name=name, counts=counts, too_few=why)
    truth, patient = rows.truth, rows.patient
    sensitivity = specificity = None
    if point is not None:
        flagged = rows.scores >= point.threshold
        sensitivity = clustered_proportion(flagged[truth], patient[truth])
        specificity = clustered_proportion(~flagged[~truth], patient[~truth])
    return GroupFigures(
        name=name,
        counts=counts,
        area=clustered_auc(rows.scores, truth, patient),
        sensitivity=sensitivity,
        specificity=specificity,
    )


def _of_errors(errors: Scores, patient: Clusters, name: str) -> GroupFigures:
    patients = len(np.unique(patient))
    counts = Counts(
        positives=len(errors),
        negatives=0,
        positive_patients=patients,
        negative_patients=0,
    )
    if patients < FEWEST:
        why = f"{patients} patients: too few to say"
        return GroupFigures(name=name, counts=counts, too_few=why)
    return GroupFigures(name=name, counts=counts, error=clustered_mean(errors, patient))


def _area(rows: Rows, *, size: int) -> Linear:
    return linear_auc(rows.scores, rows.truth, rows.patient, size)


def _hits(rows: Rows, *, point: Point, present: bool, size: int) -> Linear:
    """Return the sensitivity (`present`) or the specificity of a threshold."""
    these = rows.truth == present
    right = (rows.scores[these] >= point.threshold) == present
    return linear_mean(right.astype(np.float64), rows.patient[these], size)


def _with_gaps(
    figures: Sequence[GroupFigures],
    said: Sequence[int],
    pairs: Mapping[str, Sequence[tuple[Linear, Linear]]],
) -> list[GroupFigures]:
    """Return the figures with the gaps of those of which something is said."""
    gaps = {name: simultaneous_gaps(these) for name, these in pairs.items()}
    of_group = {
        number: {name: these[place] for name, these in gaps.items()}
        for place, number in enumerate(said)
    }
    return [
        replace(figure, gaps=of_group.get(number, {}))
        for number, figure in enumerate(figures)
    ]


def _by_attribute(
    every: Sequence[_Group],
    figures: Sequence[GroupFigures],
    where: NDArray[np.int64],
    groups: Groups,
) -> tuple[AttributeFigures, ...]:
    found = []
    for attribute, of_rows in groups.items():
        own = tuple(
            figure
            for one, figure in zip(every, figures, strict=True)
            if one.attribute == attribute
        )
        unknown = sum(not of_rows[row] for row in where.tolist())
        found.append(AttributeFigures(name=attribute, groups=own, unknown=unknown))
    return tuple(found)


def _size(patient: Clusters) -> int:
    return int(patient.max()) + 1 if len(patient) else 0
