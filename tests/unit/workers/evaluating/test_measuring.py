"""What is measured of studies: figures of scikit-learn, groups, gaps, what is left out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from dicom_node.errors import Permanent
from tests.evaluations import cases, groups, question
from workers.evaluating import Point, compare, evaluate
from workers.evaluating.retrieving import Library, retrieve
from workers.evaluating.words import summary


def test_figures_are_those_of_scikit_learn() -> None:
    """Area, average precision, confusion, Brier score."""
    made = cases(calibrated=True)
    found = evaluate(made, {}).findings[0]
    truth, scores = made.truth[:, 0] == 1, made.scores[:, 0]
    point = found.points[0]
    assert found.area is not None
    assert found.calibration is not None
    assert found.area.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found.average_precision == pytest.approx(
        metrics.average_precision_score(truth, scores)
    )
    assert found.calibration.brier.value == pytest.approx(
        metrics.brier_score_loss(truth, scores)
    )
    assert [
        [point.confusion.clear_negative, point.confusion.flagged_negative],
        [point.confusion.clear_positive, point.confusion.flagged_positive],
    ] == metrics.confusion_matrix(truth, scores >= 0.5).tolist()
    assert point.sensitivity.value == pytest.approx(
        metrics.recall_score(truth, scores >= 0.5)
    )


def test_development_prevalence_comes_first() -> None:
    """Then those that were asked for; without it, that of these data."""
    known, unknown = cases(calibrated=True), cases()
    of_known = evaluate(known, {}, prevalences=(0.02,)).findings[0].points[0].at
    of_unknown = evaluate(unknown, {}, prevalences=(0.02,)).findings[0].points[0].at
    assert [at.prevalence for at in of_known] == [0.2, 0.02]
    assert of_unknown[0].label == "these data"
    assert of_unknown[0].prevalence == float((unknown.truth[:, 0] == 1).mean())


def test_missing_and_uncertain_labels_are_left_out_and_counted() -> None:
    """Never taken for negative; a study that was not evaluated is counted, too."""
    whole = cases()
    truth, scores = whole.truth.copy(), whole.scores.copy()
    truth[:30, 0], truth[30:50, 0] = -1, -2
    scores[50:60, 0] = np.nan
    found = evaluate(replace(whole, truth=truth, scores=scores), {}).findings[0]
    counts = found.counts
    assert (counts.uncertain, counts.missing, counts.not_evaluated) == (30, 20, 10)
    assert counts.positives + counts.negatives == 600 - 60
    assert found.area is not None
    assert found.area.value == pytest.approx(
        metrics.roc_auc_score(whole.truth[60:, 0], whole.scores[60:, 0])
    )


def test_a_group_that_is_too_small_says_nothing() -> None:
    """And the gap to it is not computed; unknown groups are counted."""
    found = evaluate(cases(), groups(600)).findings[0]
    sex, scanner = found.attributes
    rare, usual = scanner.groups
    assert rare.too_few.endswith("too few to say")
    assert rare.area is None
    assert usual.gaps == {}
    assert sex.unknown == sum(not name for name in groups(600)["sex"])
    assert [set(group.gaps) for group in sex.groups] == [
        {"area", "sensitivity", "specificity"}
    ] * 2


def test_a_gap_that_is_there_is_shown() -> None:
    """Scores that say nothing of one half of the studies."""
    made = cases(rows=1200)
    half = np.arange(1200) < 600
    scores = made.scores.copy()
    scores[half, 0] = np.random.default_rng(0).random(600)
    of = {"half": tuple("first" if first else "second" for first in half)}
    found = evaluate(replace(made, scores=scores), of)
    first, second = found.findings[0].attributes[0].groups
    assert first.gaps["area"].shows
    assert first.gaps["area"].value == pytest.approx(-second.gaps["area"].value)
    assert "Groups that differ from the rest: half first" in summary(found)[0]
    assert "No gap between groups is shown." in summary(found)[1]


def test_one_class_only_is_said() -> None:
    """With no figure made up."""
    made = cases()
    truth = made.truth.copy()
    truth[:, 0] = 0
    found = evaluate(replace(made, truth=truth), groups(600))
    assert (
        found.findings[0].why_not == "there are no positives: nothing can be measured"
    )
    assert found.findings[0].area is None
    assert summary(found)[0].startswith("Effusion: there are no positives")


def test_studies_without_any_finding_may_have_a_flag() -> None:
    """Of live findings; one in shadow mode flags nothing."""
    made = cases()
    negative = (made.truth == 0).all(axis=1)
    flagged = (made.scores >= 0.5).any(axis=1)
    found = evaluate(made, {}).any_flag
    assert found is not None
    assert (found.hits, found.n) == ((flagged & negative).sum(), negative.sum())
    shadow = replace(made.questions[0], mode="shadow")
    alone = evaluate(replace(made, questions=(shadow, made.questions[1])), {}).any_flag
    assert alone is not None
    assert alone.n == (made.truth[:, 1] == 0).sum()


def test_a_band_between_two_thresholds_is_neither() -> None:
    """Ruled out below, flagged above, and what is missed for good is stated."""
    made = cases()
    point = Point(name="pair", threshold=0.6, rule_out=0.2)
    asked = replace(made.questions[0], points=(point,))
    found = evaluate(replace(made, questions=(asked, made.questions[1])), {})
    figures = found.findings[0].points[0]
    band = (made.scores[:, 0] >= 0.2) & (made.scores[:, 0] < 0.6)
    confusion = figures.confusion
    assert confusion.undecided_positive + confusion.undecided_negative == band.sum()
    assert figures.ruled_out is not None
    assert figures.ruled_out.hits == confusion.clear_positive


def test_a_quantity_has_its_error_in_its_unit() -> None:
    """By group, with the gap; values that nobody stated are left out."""
    rng = np.random.default_rng(0)
    values = rng.uniform(10, 200, (300, 1))
    values[:20] = np.nan
    made = replace(
        cases(rows=300, findings=("age",)),
        questions=(replace(question("age"), unit="month", points=()),),
        values=values,
        scores=np.nan_to_num(values) + rng.normal(0, 6, (300, 1)),
    )
    found = evaluate(made, groups(300)).quantities[0]
    assert found.mae is not None
    assert found.rows == 280
    assert found.mae.value == pytest.approx(
        metrics.mean_absolute_error(values[20:, 0], made.scores[20:, 0])
    )
    assert set(found.attributes[0].groups[0].gaps) == {"error"}


def test_two_packs_are_compared_in_pairs() -> None:
    """A pack that adds noise is behind; one compared with itself is not."""
    made = cases(rows=1000)
    noisy = replace(
        made, scores=made.scores + np.random.default_rng(1).normal(0, 0.4, (1000, 2))
    )
    ahead = compare(made, noisy, names=("a", "b")).findings[0]
    itself = compare(made, made, names=("a", "a")).findings[0]
    assert ahead.area is not None
    assert ahead.area.low > 0
    assert itself.area is not None
    assert (itself.area.value, itself.area.p) == (0.0, 1.0)
    with pytest.raises(Permanent, match="same studies"):
        compare(made, cases(rows=999), names=("a", "b"))


def test_neighbours_of_the_same_patient_do_not_count() -> None:
    """Two images a patient, equal vectors: only other patients answer."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 8)), 2, axis=0).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = np.repeat(rng.integers(0, 2, (60, 1)), 2, axis=0).astype(np.int8)
    library = Library(
        vectors=vectors, truth=truth, patient=np.arange(120) // 2, level="image"
    )
    (found,) = retrieve(library, (question("finding"),))
    assert found.queries == int((truth == 1).sum())
    assert abs(found.precision[1].value - found.chance) < 0.25
    assert found.precision[1].value < 0.9
