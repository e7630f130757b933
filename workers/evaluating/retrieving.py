"""Whether the nearest cases of other patients share a query's finding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.cohort import Truth as Label
from workers.evaluating.asked import Question
from workers.evaluating.figures import RetrievalFigures
from workers.evaluating.rules import FEWEST, MOST_QUERIES, NEIGHBOURS
from workers.measures import (
    Clusters,
    Scores,
    average_precisions,
    clustered_mean,
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


def retrieve(
    library: Library,
    questions: Sequence[Question],
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[RetrievalFigures, ...]:
    """Return the figures of each finding that ten patients or more have.

    Of a finding with more than 1,000 cases, so many are drawn as queries.
    """
    found = []
    for column, question in enumerate(questions):
        progress("retrieving", column + 1, len(questions))
        figures = _of_finding(library, column, question, seed)
        if figures is not None:
            found.append(figures)
    return tuple(found)


def _of_finding(
    library: Library, column: int, question: Question, seed: int
) -> RetrievalFigures | None:
    truth = library.truth[:, column]
    known = (truth == Label.PRESENT) | (truth == Label.ABSENT)
    present = np.flatnonzero(truth == Label.PRESENT)
    queries = len(present)
    if len(np.unique(library.patient[present])) < FEWEST or known.sum() == queries:
        return None
    if queries > MOST_QUERIES:
        rng = np.random.default_rng(seed)
        present = np.sort(rng.choice(present, MOST_QUERIES, replace=False))
    within: dict[int, list[Scores]] = {k: [] for k in NEIGHBOURS}
    over: list[Scores] = []
    for relevant in _rankings(library, present, np.flatnonzero(known), truth):
        for k in NEIGHBOURS:
            within[k].append(precision_at_k(relevant, k))
        over.append(average_precisions(relevant))
    patient = library.patient[present]
    return RetrievalFigures(
        key=question.key,
        meaning=question.meaning,
        level=library.level,
        queries=len(present),
        cases=int(known.sum()),
        chance=queries / int(known.sum()),
        precision={
            k: clustered_mean(np.concatenate(parts), patient)
            for k, parts in within.items()
        },
        mean_average_precision=clustered_mean(
            np.nan_to_num(np.concatenate(over)), patient
        ),
    )


def _rankings(
    library: Library,
    queries: NDArray[np.int64],
    known: NDArray[np.int64],
    truth: NDArray[np.int8],
) -> Iterator[NDArray[np.bool_]]:
    """Yield whether the case at each rank is relevant, for some queries at a time.

    Cases of the query's own patient come last, as if irrelevant: they add nothing.
    """
    cases, relevant = library.vectors[known], truth[known] == Label.PRESENT
    patient = library.patient[known]
    for at in range(0, len(queries), _AT_ONCE):
        some = queries[at : at + _AT_ONCE]
        nearness = library.vectors[some] @ cases.T
        own = library.patient[some][:, None] == patient
        nearness[own] = -np.inf
        order = np.argsort(-nearness, axis=1, kind="stable")
        yield relevant[order] & ~np.take_along_axis(own, order, axis=1)
