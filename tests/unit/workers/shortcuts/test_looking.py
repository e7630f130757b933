"""Looking for shortcuts: planted ones are found, and none where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.shortcuts.areas import area
from workers.shortcuts.attributes import Attributes, Traces
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.nested import Rowed, patientwise_folds
from workers.shortcuts.strata import strata
from workers.shortcuts.traces import BORDER, COMPRESSIBILITY
from workers.shortcuts.verdict import RULE, Verdict

pytestmark = pytest.mark.slow

PATIENTS, EACH = 110, 2
COUNT = PATIENTS * EACH
PATIENT = np.repeat(np.arange(PATIENTS), EACH)


def people(seed: int) -> tuple[np.random.Generator, Rowed]:
    """Return the drawing, and rows of patients who are ill or not."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(PATIENTS) < 0.5)[PATIENT]
    fold = patientwise_folds(truth, PATIENT, count=5, seed=seed)
    return rng, Rowed(truth=truth, patient=PATIENT, fold=fold)


def images(rng: np.random.Generator, view: NDArray[np.bool_]) -> Attributes:
    """Return attributes that tell nothing but the view, which is given."""
    nothing = np.full((COUNT, 2), 320.0)
    return Attributes(
        names=tuple(f"1.2.{row}" for row in range(COUNT)),
        sex=tuple(np.where(rng.random(COUNT) < 0.5, "M", "F").tolist()),
        age_years=rng.integers(20, 90, COUNT).astype(np.float64),
        view=tuple(np.where(view, "AP", "PA").tolist()),
        body_part=("CHEST",) * COUNT,
        scanner=tuple(np.where(rng.random(COUNT) < 0.5, "A", "B").tolist()),
        site=("",) * COUNT,
        size_px=nothing,
        spacing_mm=nothing * np.nan,
        traces=Traces(
            histogram=rng.normal(size=(COUNT, 4)).astype(np.float32),
            compressibility=rng.normal(size=(COUNT, COMPRESSIBILITY)).astype(
                np.float32
            ),
            border=rng.normal(size=(COUNT, BORDER))[:, :6].astype(np.float32),
        ),
    )


def planted(seed: int = 0) -> Found:
    """Return what is found of a model that looks at the view, which tells the label."""
    rng, rowed = people(seed)
    view = rowed.truth ^ (rng.random(COUNT) < 0.15)
    scores = view + rng.normal(size=COUNT) / 3
    return look(scores, rowed, images(rng, view), Looked(finding="Pneumonia"))


def clean(seed: int, *, tells: float = 1.5) -> Found:
    """Return what is found of a model of anatomy: attributes tell nothing."""
    rng, rowed = people(seed)
    scores = rng.normal(size=COUNT) + tells * rowed.truth
    attributes = images(rng, rng.random(COUNT) < 0.5)
    return look(scores, rowed, attributes, Looked(finding="Pneumonia"))


@pytest.fixture(scope="module")
def shortcut() -> Found:
    """Return what is found where a shortcut was planted."""
    return planted()


def test_a_planted_shortcut_is_found(shortcut: Found) -> None:
    """The probe of the view is the strongest, and the finding goes to shadow mode."""
    report = shortcut.report
    assert report.strongest in ("view", "header together")
    areas = {told.name: told.area for told in report.probes}
    assert areas["view"] is not None
    assert areas["view"].low > 0.7
    assert report.verdict is Verdict.SHADOW
    assert "lower limit exceeds 0.65" in report.reasons[0]


def test_nothing_is_left_of_a_shortcut_on_matched_samples(shortcut: Found) -> None:
    """The probe and the model that lives on it both fall to a half."""
    left = shortcut.report.matched
    assert left is not None
    assert left.balance is not None
    assert left.area is not None
    assert left.lost is not None
    assert abs(left.balance.value - 0.5) < 0.03
    assert abs(left.area.value - 0.5) < 0.15
    assert left.lost.low > 0.1


def test_nothing_is_left_of_a_shortcut_within_strata(shortcut: Found) -> None:
    """Within each view, and adjusted for it, the model knows nothing."""
    (view,) = (s for s in shortcut.report.strata if s.attribute == "view")
    assert [stratum.name for stratum in view.strata] == ["AP", "PA"]
    assert view.adjusted is not None
    assert abs(view.adjusted.value - 0.5) < 0.15
    assert shortcut.report.raw.low > 0.7


def test_pairs_within_strata_are_of_one_fold() -> None:
    """Scores that tell nothing but the fold are worth nothing, however folds differ."""
    rng, rowed = people(5)
    tells = rowed.fold + rng.normal(size=COUNT) * 1e-3
    (view,) = [strata("view", ("AP",) * COUNT, tells, rowed)]
    fold = np.full(COUNT, -1)
    together = strata("view", ("AP",) * COUNT, tells, replace(rowed, fold=fold))
    assert view.adjusted is not None
    assert together.adjusted is not None
    inside = [(tells[rowed.fold == n], rowed.truth[rowed.fold == n]) for n in range(5)]
    right = [(s[t][:, None] > s[~t]).sum() for s, t in inside]
    pairs = [t.sum() * (~t).sum() for _, t in inside]
    assert view.adjusted.value == pytest.approx(sum(right) / sum(pairs))
    assert together.adjusted.value == pytest.approx(
        area(tells, rowed.truth, PATIENT).value
    )


def test_what_is_the_same_everywhere_is_not_fitted(shortcut: Found) -> None:
    """Body part and matrix do not vary, spacing is not known: said, not measured."""
    silent = {told.name: told.reason for told in shortcut.report.probes if told.reason}
    assert silent == {
        "site": "not known of any image",
        "body part": "the same in every image",
        "matrix": "the same in every image",
        "spacing": "not known of any image",
    }


def test_a_model_of_anatomy_may_be_flagged() -> None:
    """Where attributes tell nothing, its area stays, and the verdict is clean."""
    report = clean(1).report
    assert (report.verdict, report.reasons) == (Verdict.CLEAN, ())
    assert report.matched is not None
    assert report.matched.area is not None
    assert report.matched.area.low > 0.65


def test_the_same_input_gives_the_same_report(shortcut: Found) -> None:
    """To the last byte of its JSON, and the same rows."""
    again = planted()
    assert again.report.to_json() == shortcut.report.to_json()
    assert again.rows.tolist() == shortcut.rows.tolist()


def test_a_report_is_json_and_sentences(shortcut: Found) -> None:
    """The rule stands in it as it was written beforehand."""
    content = json.loads(shortcut.report.to_json())
    assert content["rule"] == RULE
    assert content["verdict"] == "shadow mode"
    assert content["sentences"] == list(shortcut.report.sentences)
    assert "Verdict: shadow mode." in content["sentences"]
    assert "NaN" not in shortcut.report.to_json()


def test_rows_that_were_not_evaluated_are_left_out() -> None:
    """They are counted; matched rows are numbers of the given ones."""
    rng, rowed = people(3)
    scores = rng.normal(size=COUNT)
    scores[: COUNT // 4] = np.nan
    attributes = replace(images(rng, rng.random(COUNT) < 0.5), traces=None)
    found = look(scores, rowed, attributes, Looked(finding="Pneumonia"))
    assert found.report.left_out == COUNT // 4
    assert found.rows.min() >= COUNT // 4


def test_held_out_rows_get_folds_of_the_probes_own() -> None:
    """A model tested once has no folds: the report says whose they are."""
    rng, rowed = people(4)
    scores = rng.normal(size=COUNT) + rowed.truth
    attributes = replace(images(rng, rng.random(COUNT) < 0.5), traces=None)
    held_out = Rowed(truth=rowed.truth, patient=PATIENT, fold=np.full(COUNT, -1))
    found = look(scores, held_out, attributes, Looked(finding="Pneumonia"))
    assert found.report.own_folds
    assert {told.name for told in found.report.probes} >= {"view", "scanner"}
