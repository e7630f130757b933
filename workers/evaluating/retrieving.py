"""Whether the nearest cases of other patients share a query's finding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.cohort import Truth as Label
from workers.evaluating.asked import Question
from workers.evaluating.figures import RetrievalFigures
from workers.evaluating.rules import (
    FEWEST,
    FEWEST_QUERIES,
    MOST_QUERIES,
    NEIGHBOURS,
    QUERIES_IN_ALL,
)
from workers.measures import (
    Clusters,
    average_precisions,
    clustered_mean,
    distinct,
    precision_at_k,
)

Progress = Callable[[str, int, int], None]

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Library:
    """Embeddings of N cases with what is true of them.

    Parameters
    ----------
    vectors
        (N, D) float32 of length one.
    truth
        (N, F) int8, as of `Cases`.
    patient
        (N,) int.
    level
        What a case is.
    """

    vectors: NDArray[np.float32]
    truth: NDArray[np.int8]
    patient: Clusters
    level: Literal["study", "image"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Finding:
    """A finding's queries, and what their answers were so far."""

    column: int
    question: Question
    known: NDArray[np.bool_]
    present: NDArray[np.bool_]
    queries: NDArray[np.int64]
    within: dict[int, list[float]] = field(
        default_factory=lambda: {k: [] for k in NEIGHBOURS}
    )
    over: list[float] = field(default_factory=list)


def retrieve(
    library: Library,
    questions: Sequence[Question],
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[RetrievalFigures, ...]:
    """Return the figures of each finding that ten patients or more have.

    Queries are drawn where there are many; their answers are ranked once for all
    findings.
    """
    drawn = [
        _drawn(library, column, question, np.random.default_rng([seed, column]))
        for column, question in enumerate(questions)
        if not question.unit
    ]
    findings = [
        finding for finding in drawn if _enough(library, finding, max(NEIGHBOURS))
    ]
    if not findings:
        return ()
    queries = np.unique(np.concatenate([finding.queries for finding in findings]))
    for at in range(0, len(queries), _AT_ONCE):
        _answer(library, queries[at : at + _AT_ONCE], findings)
        progress("retrieving", min(at + _AT_ONCE, len(queries)), len(queries))
    return tuple(_figures(library, finding) for finding in findings)


def _drawn(
    library: Library, column: int, question: Question, rng: np.random.Generator
) -> _Finding:
    truth = library.truth[:, column]
    present = truth == Label.PRESENT
    queries = np.flatnonzero(present)
    most = max(FEWEST_QUERIES, QUERIES_IN_ALL // library.truth.shape[1])
    most = min(most, MOST_QUERIES)
    if len(queries) > most:
        queries = np.sort(rng.choice(queries, most, replace=False))
    return _Finding(
        column=column,
        question=question,
        known=present | (truth == Label.ABSENT),
        present=present,
        queries=queries,
    )


def _enough(library: Library, finding: _Finding, most: int) -> bool:
    """Return whether there are patients enough, cases enough, and some without it."""
    patients = len(finding.queries) and distinct(library.patient[finding.queries])
    known, present = int(finding.known.sum()), int(finding.present.sum())
    return patients >= FEWEST and most <= known - present


def _answer(
    library: Library, queries: NDArray[np.int64], findings: Sequence[_Finding]
) -> None:
    """Rank all cases for some queries, and note what that shows of each finding."""
    nearness = library.vectors[queries] @ library.vectors.T
    for query, row in zip(queries.tolist(), nearness, strict=True):
        order = np.argsort(-row)
        others = order[library.patient[order] != library.patient[query]]
        for finding in findings:
            place = np.searchsorted(finding.queries, query)
            if place < len(finding.queries) and finding.queries[place] == query:
                ranked = others[finding.known[others]]
                _note(finding, finding.present[ranked][None])


def _note(finding: _Finding, relevant: NDArray[np.bool_]) -> None:
    for k, found in finding.within.items():
        found.append(float(precision_at_k(relevant, k)[0]))
    # a query whose finding only its own patient has finds nothing
    some = relevant.any()
    finding.over.append(float(average_precisions(relevant)[0]) if some else 0.0)


def _figures(library: Library, finding: _Finding) -> RetrievalFigures:
    patient = library.patient[finding.queries]
    cases = int(finding.known.sum())
    return RetrievalFigures(
        key=finding.question.key,
        meaning=finding.question.meaning,
        level=library.level,
        queries=len(finding.queries),
        cases=cases,
        chance=int(finding.present.sum()) / cases,
        precision={
            k: clustered_mean(np.array(found), patient)
            for k, found in finding.within.items()
        },
        mean_average_precision=clustered_mean(np.array(finding.over), patient),
    )
