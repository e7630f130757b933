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
    linear_share,
    simultaneous_gaps,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attribute:
    """An attribute of all rows: the names of its groups, and which one a row is in.

    Parameters
    ----------
    number
        (S,) into `names`; -1 where it is not known.
    """

    name: str
    names: tuple[str, ...]
    number: NDArray[np.int64]


def attributes(groups: Groups) -> tuple[Attribute, ...]:
    """Return the attributes of all rows, numbered once."""
    found = []
    for name, of_rows in groups.items():
        names = sorted(set(of_rows) - {""})
        number = {group: place for place, group in enumerate(names)} | {"": -1}
        each = np.fromiter((number[group] for group in of_rows), np.int64, len(of_rows))
        found.append(Attribute(name=name, names=tuple(names), number=each))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """A group of an attribute, and all others whose group is known, (N,) each."""

    attribute: str
    name: str
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def finding_groups(
    rows: Rows, groups: Sequence[Attribute], question: Question
) -> tuple[AttributeFigures, ...]:
    """Return the figures of each group of each attribute, with gaps."""
    point = question.points[0] if question.points else None
    every = tuple(_groups(rows.where, groups))
    inside = [rows.among(one.inside) for one in every]
    outside = [rows.among(one.outside) for one in every]
    figures = [
        _of_group(some, one.name, point)
        for some, one in zip(inside, every, strict=True)
    ]
    said = [
        number
        for number, figure in enumerate(figures)
        if not figure.too_few and not too_few(outside[number].counts)
    ]
    pairs = {
        name: [(measure(inside[n]), measure(outside[n])) for n in said]
        for name, measure in _measures(point, _size(rows.patient)).items()
    }
    return _by_attribute(every, _with_gaps(figures, said, pairs), rows.where, groups)


def quantity_groups(
    errors: Scores,
    patient: Clusters,
    where: NDArray[np.int64],
    groups: Sequence[Attribute],
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


def _groups(where: NDArray[np.int64], groups: Sequence[Attribute]) -> Iterator[_Group]:
    for attribute in groups:
        here = attribute.number[where]
        for code in np.unique(here[here >= 0]).tolist():
            inside = here == code
            yield _Group(
                attribute=attribute.name,
                name=attribute.names[code],
                inside=inside,
                outside=(here >= 0) & ~inside,
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


def _measures(point: Point | None, size: int) -> Mapping[str, Callable[[Rows], Linear]]:
    """Return what groups are compared by."""
    measures: dict[str, Callable[[Rows], Linear]] = {"area": partial(_area, size=size)}
    if point is not None:
        for name, present in (("sensitivity", True), ("specificity", False)):
            measures[name] = partial(_hits, point=point, present=present, size=size)
    return measures


def _area(rows: Rows, *, size: int) -> Linear:
    return linear_auc(rows.scores, rows.truth, rows.patient, size)


def _hits(rows: Rows, *, point: Point, present: bool, size: int) -> Linear:
    """Return the sensitivity (`present`) or the specificity of a threshold."""
    these = rows.truth == present
    right = (rows.scores[these] >= point.threshold) == present
    return linear_share(right, rows.patient[these], size)


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
    groups: Sequence[Attribute],
) -> tuple[AttributeFigures, ...]:
    return tuple(
        AttributeFigures(
            name=attribute.name,
            groups=tuple(
                figure
                for one, figure in zip(every, figures, strict=True)
                if one.attribute == attribute.name
            ),
            unknown=int((attribute.number[where] < 0).sum()),
        )
        for attribute in groups
    )


def _size(patient: Clusters) -> int:
    return int(patient.max()) + 1 if len(patient) else 0
