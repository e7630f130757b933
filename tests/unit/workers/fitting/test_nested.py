"""Choosing, calibrating, judging: no test patient has a say in any of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss, roc_auc_score

from dicom_node.errors import Permanent
from tests.cohorts import drawn
from workers.calibration import CalibrationSpec, calibrated, logit, sigmoid
from workers.cohort import Role, Truth, folds, join
from workers.fitting.byrole import by_role, roles_of
from workers.fitting.calibrating import calibrate, cross_entropy, platt
from workers.fitting.choosing import GRIDS, Grids, Plan, choose
from workers.fitting.nested import Outcome, cross_validated
from workers.fitting.report import judged
from workers.fitting.samples import Samples, samples_of
from workers.heads import zero_shot

SMALL: Grids = {
    "linear": GRIDS["linear"][::6],
    "knn": GRIDS["knn"][:2],
    "svm": GRIDS["svm"][:1],
}
PLAN = Plan(heads=("linear", "knn", "svm"), outer=3, inner=2, grids=SMALL)


def of(**changes: Any) -> Samples:
    """Return the items of a cohort that was made up."""
    made = drawn(**{"patients": 60, "dimension": 12, "strength": 1.0} | changes)
    return samples_of(join(made.cohort, made.embeddings), 0, "max")


def outer_of(samples: Samples, plan: Plan = PLAN) -> Any:
    """Return the outer fold of each study."""
    return folds(samples.study_patient, samples.study_truth, plan.outer, seed=plan.seed)


def run(samples: Samples, outer: Any, plan: Plan = PLAN) -> Outcome:
    """Return what nested cross-validation makes of them."""
    return cross_validated(samples, outer, plan, prompts=None, step=lambda: None)


def test_labels_of_a_test_fold_change_no_score_of_it() -> None:
    """Nothing is chosen, fitted or calibrated with them."""
    samples = of()
    outer = outer_of(samples)
    inside = outer == 1
    flipped = samples.study_truth.copy()
    flipped[inside] = np.random.default_rng(0).permutation(flipped[inside])
    truth = samples.truth.copy()
    truth[inside[samples.study]] = flipped[samples.study][inside[samples.study]]
    other = replace(samples, study_truth=flipped, truth=truth)
    assert (flipped != samples.study_truth).any()
    one, two = run(samples, outer), run(other, outer)
    assert one.raw[inside].tolist() == two.raw[inside].tolist()
    assert one.scores[inside].tolist() == two.scores[inside].tolist()
    assert one.choices[1].parameters == two.choices[1].parameters
    assert one.scores[~inside].tolist() != two.scores[~inside].tolist()


def test_a_patients_other_vectors_change_no_score_of_the_fold() -> None:
    """What a test patient looks like is scored, never fitted on."""
    samples = of()
    outer = outer_of(samples)
    patient = samples.study_patient[outer == 0][0]
    rows = samples.patient == patient
    vectors = samples.vectors.copy()
    vectors[rows] = -vectors[rows]
    one, two = run(samples, outer), run(replace(samples, vectors=vectors), outer)
    others = (outer == 0) & (samples.study_patient != patient)
    assert one.scores[others].tolist() == two.scores[others].tolist()


def test_the_seed_decides_everything() -> None:
    """The same scores, the same head, twice."""
    samples = of()
    one, two = (run(samples, outer_of(samples)) for _ in range(2))
    assert one.scores.tolist() == two.scores.tolist()
    assert one.choice.parameters == two.choice.parameters
    for name, values in one.head.tensors.items():
        assert values.tolist() == two.head.tensors[name].tolist()


def test_labels_without_meaning_give_no_more_than_chance() -> None:
    """A leak would show here: 12 dimensions of noise, 150 patients."""
    samples = of(patients=150, strength=0.0, seed=5)
    plan = replace(PLAN, heads=("linear", "knn"))
    outcome = run(samples, outer_of(samples, plan), plan)
    area = judged("finding", samples, outcome, kind="out-of-fold").area
    assert area.low < 0.5 < area.high


def test_what_is_in_the_vectors_is_found() -> None:
    """Out of fold nearly as well as the truth's own direction."""
    samples = of(patients=120, strength=2.0)
    outcome = run(samples, outer_of(samples))
    assert roc_auc_score(samples.present, outcome.scores) > 0.9
    fit = judged("finding", samples, outcome, kind="out-of-fold")
    assert fit.area.value == pytest.approx(
        roc_auc_score(samples.present, outcome.scores), abs=1e-9
    )
    assert (fit.studies, fit.positives) == (len(samples.present), samples.present.sum())
    assert fit.sensitivity.value + fit.specificity.value > 1.5


def test_uncertain_and_missing_studies_are_scored_and_not_fitted_on() -> None:
    """They never count as negative."""
    samples = of(patients=90)
    unsaid = np.arange(len(samples.study_truth)) % 4 == 0
    study_truth = np.where(unsaid, Truth.MISSING, samples.study_truth).astype(np.int8)
    truth = np.where(unsaid[samples.study], Truth.UNCERTAIN, samples.truth)
    some = replace(samples, study_truth=study_truth, truth=truth.astype(np.int8))
    outcome = run(some, outer_of(some), replace(PLAN, heads=("linear",)))
    assert np.isfinite(outcome.scores).all()
    fit = judged("finding", some, outcome, kind="out-of-fold")
    assert (fit.studies, fit.left_out) == (int((~unsaid).sum()), int(unsaid.sum()))
    # the vectors of those that nobody labelled decide nothing
    vectors = some.vectors.copy()
    vectors[unsaid[some.study]] = np.roll(vectors[unsaid[some.study]], 1, axis=1)
    other = run(
        replace(some, vectors=vectors), outer_of(some), replace(PLAN, heads=("linear",))
    )
    assert outcome.scores[~unsaid].tolist() == other.scores[~unsaid].tolist()


def test_a_head_of_text_needs_texts() -> None:
    """Without prompts it is not tried; asked for alone, it is refused."""
    samples = of()
    everything = np.ones(len(samples.study_truth), dtype=np.bool_)
    plan = Plan(heads=("zero-shot",), inner=3)
    with pytest.raises(Permanent, match="needs prompts for the finding"):
        choose(samples, everything, plan, None)
    prompts = zero_shot(
        samples.vectors[samples.truth == 1],
        samples.vectors[samples.truth == 0],
        logit_scale=1.0,
    )
    assert choose(samples, everything, plan, prompts).kind == "zero-shot"


def test_too_few_patients_are_refused() -> None:
    """With the finding, or without it."""
    samples = of(patients=8)
    everything = np.ones(len(samples.study_truth), dtype=np.bool_)
    with pytest.raises(Permanent, match="patients with the finding are too few for 20"):
        choose(samples, everything, Plan(inner=20), None)


ROLES = (Role.TRAIN, Role.TUNE, Role.CALIBRATE, Role.TEST, Role.TRAIN)


@pytest.mark.parametrize("roles", [ROLES, (Role.TRAIN, Role.TEST)])
def test_roles_are_kept(roles: tuple[Role, ...]) -> None:
    """Test patients alone are scored, and their labels decide nothing."""
    made = drawn(patients=100, dimension=12, roles=roles)
    examples = join(made.cohort, made.embeddings)
    samples, fixed = samples_of(examples, 0, "max"), roles_of(examples)

    def scored(some: Samples) -> Outcome:
        return by_role(some, fixed, PLAN, prompts=None, step=lambda: None)

    outcome = scored(samples)
    assert np.isfinite(outcome.scores).tolist() == fixed.test.tolist()
    changed = np.where(fixed.test, 1 - samples.study_truth, samples.study_truth)
    truth = np.where(fixed.test[samples.study], 1 - samples.truth, samples.truth)
    other = scored(
        replace(
            samples, study_truth=changed.astype(np.int8), truth=truth.astype(np.int8)
        )
    )
    assert np.array_equal(outcome.scores, other.scores, equal_nan=True)


def test_roles_need_somebody_to_train_and_to_test() -> None:
    """One without the other is refused."""
    made = drawn(roles=(Role.TRAIN, Role.ATLAS))
    with pytest.raises(Permanent, match="to nobody the role test"):
        roles_of(join(made.cohort, made.embeddings))


class Straight(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision is its input."""

    def predict(self, x: Any) -> Any:
        """Return the class."""
        return self.classes_[(x[:, 0] > 0).astype(int)]

    def fit(self, x: Any, y: Any) -> "Straight":
        """Keep the classes."""
        self.n_features_in_ = x.shape[1]
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: Any) -> Any:
        """Return the input."""
        return x[:, 0]


def overconfident(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return scores that are too sure by a factor of 3, their truth, and folds."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=n) - 0.5
    present = rng.random(n) < sigmoid(logits)
    return sigmoid(3 * logits + 1), present, (np.arange(n) % 4).astype(np.int8)


def test_what_is_too_sure_is_calibrated() -> None:
    """Slope and intercept are those that were taken away; the loss is lower."""
    scores, present, fold = overconfident(20_000)
    found = calibrate(scores, present, fold)
    assert found.method == "platt"
    assert found.parameters["slope"] == pytest.approx(1 / 3, abs=0.02)
    assert found.parameters["intercept"] == pytest.approx(-1 / 3, abs=0.05)
    assert found.losses["platt"] < found.losses["none"]
    assert found.prevalence == pytest.approx(present.mean())
    assert cross_entropy(scores, present) == pytest.approx(
        log_loss(present, np.clip(scores, 1e-6, 1 - 1e-6)), abs=1e-12
    )


def test_platt_is_scikit_learns() -> None:
    """Its smoothed targets included."""
    scores, present, _ = overconfident(60)
    logits = logit(scores)[:, None]
    judge = CalibratedClassifierCV(Straight(), method="sigmoid", ensemble=False)
    judge.fit(logits, present)
    found = platt(scores, present)
    assert found is not None
    spec = CalibrationSpec(
        set="s", method="platt", parameters=dict(found), prevalence=0.5
    )
    expected = judge.predict_proba(logits)[:, 1]
    assert calibrated(spec, scores) == pytest.approx(expected, abs=1e-4)


def test_scores_that_are_probabilities_are_left_alone() -> None:
    """Where nothing lowers the loss, nothing is claimed."""
    rng = np.random.default_rng(2)
    scores = rng.uniform(0.01, 0.99, 5_000)
    present = rng.random(5_000) < scores
    found = calibrate(scores, present, (np.arange(5_000) % 4).astype(np.int8))
    assert found.losses["none"] - min(found.losses.values()) < 1e-3
    applied = found.apply(scores)
    assert np.abs(applied - scores).max() < 0.05


def test_scores_the_wrong_way_round_are_not_turned() -> None:
    """Platt would call a low score likely; it is not even tried."""
    scores, present, fold = overconfident(500)
    found = calibrate(1 - scores, present, fold)
    assert "platt" not in found.losses
