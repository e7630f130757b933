"""What probes find goes into the report: beside the model, on rows that have labels."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evaluations import cases
from workers.cohort import Truth
from workers.evaluating import Cases, probed
from workers.evaluating.beside import Beside, with_headers
from workers.shortcuts.attributes import Attributes

pytestmark = pytest.mark.slow

ROWS = 160


@pytest.fixture(scope="module")
def studies() -> Cases:
    """Return studies of one finding that a score tells, some of them without a label."""
    made = cases(rows=ROWS, findings=("nodule",), seed=3)
    truth = made.truth.copy()
    truth[:7] = Truth.MISSING
    return replace(made, truth=truth)


def beside(studies: Cases, *, telling: bool) -> Beside:
    """Return views that tell the finding, or nothing; textures that tell nothing."""
    rng = np.random.default_rng(0)
    said = studies.truth[:, 0] == 1 if telling else rng.random(ROWS) < 0.5
    nothing = np.full((ROWS, 2), np.nan)
    return Beside(
        attributes=Attributes(
            names=tuple(f"1.2.{row}" for row in range(ROWS)),
            sex=("",) * ROWS,
            age_years=nothing[:, 0],
            view=tuple(np.where(said, "AP", "PA").tolist()),
            body_part=("CHEST",) * ROWS,
            scanner=("",) * ROWS,
            site=("",) * ROWS,
            size_px=nothing,
            spacing_mm=nothing,
        ),
        texture=rng.normal(size=(ROWS, 8)).astype(np.float32),
    )


def test_the_model_stands_first_and_then_the_best_probe(studies: Cases) -> None:
    """On the labelled rows, in folds of the probes' own where the scores have none."""
    held_out = np.full(ROWS, -1, np.int8)
    (found,) = probed(studies, held_out, beside(studies, telling=True))
    names = [one.name for one in found.alone]
    assert names[0] == "the model"
    assert names[-3:] == ["plain baseline", "view", "header together"]
    said = (found.finding, found.shadow, found.verdict)
    assert said == ("nodule", True, "shadow mode")
    assert found.detail is not None
    assert found.detail.own_folds
    assert any("in folds of their own" in one for one in found.sentences)
    assert found.detail.raw.positives + found.detail.raw.negatives == ROWS - 7
    assert found.baseline is not None
    assert found.baseline.gap.value == pytest.approx(
        found.detail.raw.value - found.baseline.area.value
    )


def test_probes_use_the_folds_of_the_scores(studies: Cases) -> None:
    """As far as the scores are out of fold."""
    fold = (studies.patient % 5).astype(np.int8)
    (found,) = probed(studies, fold, beside(studies, telling=False))
    assert found.detail is not None
    assert not found.detail.own_folds


def test_of_few_patients_no_probe_is_measured(studies: Cases) -> None:
    """The rule asks for shadow mode then, and the report says why."""
    truth = np.where(np.arange(ROWS)[:, None] < 5, 1, 0).astype(np.int8)
    few = replace(studies, truth=truth)
    (found,) = probed(few, np.full(ROWS, -1, np.int8), beside(studies, telling=False))
    assert (found.shadow, found.detail) == (True, None)
    assert "too few to say" in found.sentences[0]


def test_headers_tell_groups_that_the_table_does_not(studies: Cases) -> None:
    """What is the same everywhere is no group; what was given stays."""
    attributes = beside(studies, telling=False).attributes
    given = {"sex": ("F",) * ROWS}
    assert with_headers(given, attributes) == {**given, "view": attributes.view}
    assert with_headers({"view": ("x",) * ROWS}, attributes) == {"view": ("x",) * ROWS}
