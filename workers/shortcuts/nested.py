"""Scores of every image by models that did not see its patient; nested, by patient.

The outer folds are given: those of the model that is judged. In each, what is chosen
(the kind of classifier, its penalty, its kernel's width) is chosen in inner folds of
the training patients only, and scores become log odds there (Platt), so that those of
different outer folds can be pooled.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dicom_node.errors import Permanent
from workers.cohort.folds import folds

Features = NDArray[np.float32]
Rows = NDArray[np.intp]

INNER_FOLDS: Final = 4
MOST_ROWS: Final = 2000
"""Training rows of a fold; of more, whole patients are drawn until so many are there."""


class Machine(Protocol):
    """A classifier as scikit-learn has them."""

    def fit(self, features: Any, truth: Any, /) -> Any:
        """Learn from rows of features and their truth."""

    def decision_function(self, features: Any, /) -> Any:
        """Return a score for each row, higher for positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A classifier that may be chosen, by a name that a person reads."""

    name: str
    make: Callable[[], Machine]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """What models of other patients say of each row.

    Parameters
    ----------
    logit
        (N,) log odds at even prevalence; nan for rows of no fold.
    chosen
        The candidate of each outer fold, in the order of the folds.
    """

    logit: NDArray[np.float64]
    chosen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rowed:
    """What is to be predicted: truth (N,) bool, patient (N,) and outer fold (N,) int.

    Rows of fold -1 are learnt from and not tested.

    Raises
    ------
    Permanent
        If a patient is in two folds, or a fold leaves one class to learn from.
    """

    truth: NDArray[np.bool_]
    patient: NDArray[np.integer]
    fold: NDArray[np.integer]

    def __post_init__(self) -> None:
        pairs = np.unique(np.stack([self.patient, self.fold]), axis=1)
        if pairs.shape[1] != len(np.unique(self.patient)):
            raise Permanent("a patient is in two folds: split by patient")
        for train, _ in self.outer():
            if len(np.unique(self.truth[train])) != 2:  # noqa: PLR2004 - classes
                raise Permanent("a fold leaves one class only to learn from")

    def outer(self) -> Iterator[tuple[Rows, Rows]]:
        """Yield the training and the test rows of each fold, ascending."""
        for number in np.unique(self.fold[self.fold >= 0]):
            test = self.fold == number
            yield np.flatnonzero(~test), np.flatnonzero(test)


def patientwise_folds(
    truth: NDArray[np.bool_], patient: NDArray[np.integer], *, count: int, seed: int
) -> NDArray[np.int8]:
    """Return the fold of each row (N,): by patient, classes spread evenly.

    Raises
    ------
    Permanent
        If a class has fewer than two patients.
    """
    fewest = min(len(np.unique(patient[truth == value])) for value in (False, True))
    if fewest < 2:  # noqa: PLR2004 - one to learn from, one to test on
        raise Permanent("a class has fewer than two patients: nothing can be tested")
    return folds(patient, truth.astype(np.int8), min(count, fewest), seed=seed)


def out_of_fold(
    features: Features, rowed: Rowed, candidates: Sequence[Candidate], *, seed: int
) -> OutOfFold:
    """Return what models of other patients say of each row of `features` (N, D)."""
    logit = np.full(len(features), np.nan)
    chosen = []
    for train, test in rowed.outer():
        used = _thinned(train, rowed.patient, seed)
        inner = patientwise_folds(
            rowed.truth[used], rowed.patient[used], count=INNER_FOLDS, seed=seed
        )
        x, y = features[used], rowed.truth[used]
        tried = [(c, _inner_scores(c, x, y, inner)) for c in candidates]
        best, scores = max(tried, key=lambda t: _quality(t[1], y, inner))
        odds = _log_odds(scores, y)
        machine = best.make()
        machine.fit(x, y)
        logit[test] = odds(machine.decision_function(features[test]))
        chosen.append(best.name)
    return OutOfFold(logit=logit, chosen=tuple(chosen))


def _thinned(train: Rows, patient: NDArray[np.integer], seed: int) -> Rows:
    """Return at most some `MOST_ROWS` of the rows, whole patients of them."""
    if len(train) <= MOST_ROWS:
        return train
    patients, index, count = np.unique(
        patient[train], return_inverse=True, return_counts=True
    )
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = np.zeros(len(patients), bool)
    kept[order] = np.cumsum(count[order]) <= MOST_ROWS
    return train[kept[index]]


def _inner_scores(
    candidate: Candidate,
    features: Features,
    truth: NDArray[np.bool_],
    fold: NDArray[np.int8],
) -> NDArray[np.float64]:
    scores = np.zeros(len(truth))
    for number in np.unique(fold):
        test = fold == number
        machine = candidate.make()
        machine.fit(features[~test], truth[~test])
        scores[test] = machine.decision_function(features[test])
    return scores


def _quality(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], fold: NDArray[np.int8]
) -> float:
    """Return the mean area within inner folds."""
    areas = [
        roc_auc_score(truth[fold == number], scores[fold == number])
        for number in np.unique(fold)
        if len(np.unique(truth[fold == number])) > 1
    ]
    return float(np.mean(areas)) if areas else 0.0


def _log_odds(
    scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what turns scores into log odds at even prevalence; never turned over."""
    middle, spread = scores.mean(), scores.std() or 1.0
    line = LogisticRegression(class_weight="balanced")
    line.fit(((scores - middle) / spread)[:, None], truth)
    slope, start = max(0.0, float(line.coef_[0, 0])), float(line.intercept_[0])
    return lambda found: slope * (found - middle) / spread + start
