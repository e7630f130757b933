"""Nested, patient-wise scores: the folds that were given, and nobody in both."""

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dicom_node.errors import Permanent
from workers.shortcuts import nested
from workers.shortcuts.nested import Candidate, Rowed, out_of_fold, patientwise_folds

PATIENT = np.repeat(np.arange(60), 3)
TRUTH = np.arange(60).repeat(3) % 2 == 0


class Watching:
    """A classifier that notes which rows it saw; the first feature is the row."""

    learnt: ClassVar[list[set[int]]] = []
    asked: ClassVar[list[set[int]]] = []

    def fit(self, features: NDArray[np.float32], _: NDArray[np.bool_]) -> None:
        """Note the rows."""
        self.learnt.append({int(row) for row in features[:, 0]})

    def decision_function(self, features: NDArray[np.float32]) -> Any:
        """Note the rows, and return something."""
        self.asked.append({int(row) for row in features[:, 0]})
        return features[:, 1].astype(np.float64)


def rowed(seed: int = 0) -> Rowed:
    """Return rows of sixty patients in five folds."""
    fold = patientwise_folds(TRUTH, PATIENT, count=5, seed=seed)
    return Rowed(truth=TRUTH, patient=PATIENT, fold=fold)


def test_no_model_sees_a_patient_that_it_is_asked_about() -> None:
    """In inner and outer folds alike, the patients of learning and asking differ."""
    Watching.learnt, Watching.asked = [], []
    features = np.column_stack([np.arange(180), np.random.default_rng(0).random(180)])
    out_of_fold(
        features.astype(np.float32),
        rowed(),
        [Candidate(name="watching", make=Watching)],
        seed=0,
    )
    for learnt, asked in zip(Watching.learnt, Watching.asked, strict=True):
        assert {row // 3 for row in learnt} & {row // 3 for row in asked} == set()


def test_the_outer_folds_are_those_that_were_given() -> None:
    """Each fold is asked about once, whole, by a model of all others."""
    Watching.learnt, Watching.asked = [], []
    given = rowed()
    features = np.column_stack([np.arange(180), np.random.default_rng(0).random(180)])
    out_of_fold(
        features.astype(np.float32),
        given,
        [Candidate(name="watching", make=Watching)],
        seed=0,
    )
    rows = [set(np.flatnonzero(given.fold == number).tolist()) for number in range(5)]
    seen = list(zip(Watching.learnt, Watching.asked, strict=True))
    assert [asked for learnt, asked in seen if len(learnt | asked) == 180] == rows


def test_knowing_the_patient_does_not_help() -> None:
    """Features that name the patient, and no more, tell nothing of another one."""
    named = np.random.default_rng(1).normal(size=(60, 8))[PATIENT].astype(np.float32)
    candidate = Candidate(
        name="nearest", make=lambda: Nearest(KNeighborsClassifier(n_neighbors=1))
    )
    found = out_of_fold(named, rowed(), [candidate], seed=0)
    assert roc_auc_score(TRUTH, found.logit) < 0.65


class Nearest:
    """The nearest row's truth as a score."""

    def __init__(self, machine: KNeighborsClassifier) -> None:
        self._machine = machine

    def fit(self, features: Any, truth: Any) -> None:
        """Learn."""
        self._machine.fit(features, truth)

    def decision_function(self, features: Any) -> Any:
        """Return 0 or 1."""
        return self._machine.predict(features).astype(np.float64)


def test_the_same_seed_gives_the_same_scores() -> None:
    """To the last bit, whatever was chosen."""
    rng = np.random.default_rng(2)
    features = (rng.normal(size=(180, 3)) + TRUTH[:, None]).astype(np.float32)
    candidates = [
        Candidate(name=f"C {c}", make=lambda c=c: LogisticRegression(C=c))  # type: ignore[misc]
        for c in (0.01, 1.0)
    ]
    first, second = (
        out_of_fold(features, rowed(), candidates, seed=3) for _ in range(2)
    )
    assert first.logit.tolist() == second.logit.tolist()
    assert first.chosen == second.chosen
    assert roc_auc_score(TRUTH, first.logit) > 0.8


def test_many_rows_are_thinned_by_whole_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of more rows than are worth it, some patients are learnt from, all are asked."""
    monkeypatch.setattr(nested, "MOST_ROWS", 60)
    Watching.learnt, Watching.asked = [], []
    features = np.column_stack([np.arange(180), np.random.default_rng(0).random(180)])
    out_of_fold(
        features.astype(np.float32),
        rowed(),
        [Candidate(name="watching", make=Watching)],
        seed=0,
    )
    assert max(len(learnt) for learnt in Watching.learnt) == 60
    last = max(Watching.learnt, key=len)
    assert all({3 * (row // 3) + i for i in range(3)} <= last for row in last)


def test_a_patient_in_two_folds_is_refused() -> None:
    """Whoever made the folds."""
    with pytest.raises(Permanent, match="in two folds"):
        Rowed(truth=TRUTH, patient=PATIENT, fold=np.arange(180) % 5)


def test_a_class_of_one_patient_is_refused() -> None:
    """It cannot be learnt and tested."""
    with pytest.raises(Permanent, match="fewer than two patients"):
        patientwise_folds(PATIENT == 0, PATIENT, count=5, seed=0)


def test_a_fold_that_holds_all_positives_is_refused() -> None:
    """Nothing is left to learn from."""
    with pytest.raises(Permanent, match="one class only"):
        Rowed(truth=TRUTH, patient=PATIENT, fold=PATIENT % 2)
