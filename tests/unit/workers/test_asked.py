"""What a pack asks of a study, and of which images."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dicom_node.domain import Exam
from workers.accepting import Accepts
from workers.asked import AgainstSpec, PointSpec
from workers.calibration import CalibrationSpec
from workers.headspecs import KnnHead, MlpHead
from workers.manifest import AtlasSpec, GateSpec


@pytest.mark.parametrize(
    ("accepts", "modality", "body_part", "covered"),
    [
        (Accepts(modality=("DX",)), "DX", "", True),
        (Accepts(modality=("DX",)), "CT", "", False),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "CHEST", True),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "HAND", False),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "", False),
        (Accepts(modality=("DX",), body_part=("CHEST", "")), "DX", "", True),
    ],
)
def test_what_a_rule_accepts(
    *, accepts: Accepts, modality: str, body_part: str, covered: bool
) -> None:
    """An image that does not say what it shows is accepted only where that is said."""
    assert accepts.covers(Exam(modality=modality, body_part=body_part)) is covered


CHEST = Exam(
    modality="DX", body_part="CHEST", view="PA", age_years=40.0, rows=2000, columns=1500
)


@pytest.mark.parametrize(
    ("accepts", "changes", "objection"),
    [
        (Accepts(modality=("DX",), view=("PA", "AP")), {}, ""),
        (
            Accepts(modality=("DX",), view=("PA",)),
            {"view": "LATERAL"},
            "its ViewPosition is not accepted",
        ),
        (
            Accepts(modality=("DX",), view=("PA",)),
            {"view": ""},
            "it states no ViewPosition",
        ),
        (Accepts(modality=("DX",), view=("PA", "")), {"view": ""}, ""),
        (Accepts(modality=("DX",), age_years=(18, 40)), {}, ""),
        (
            Accepts(modality=("DX",), age_years=(18, 39.5)),
            {},
            "its PatientAge is not from 18 to 39.5 years",
        ),
        (
            Accepts(modality=("DX",), age_years=(18, 90)),
            {"age_years": None},
            "it states no PatientAge",
        ),
        (Accepts(modality=("DX",), min_pixels=1500), {}, ""),
        (
            Accepts(modality=("DX",), min_pixels=1501),
            {},
            "it has fewer than 1501 Rows or Columns",
        ),
        (
            Accepts(modality=("DX",), min_pixels=1),
            {"rows": 0},
            "its Rows and Columns are not known",
        ),
    ],
)
def test_what_a_rule_says_against_an_image(
    accepts: Accepts, changes: dict[str, Any], objection: str
) -> None:
    """View, age and size are named where they do not fit; an age never with its value."""
    exam = replace(CHEST, **changes)
    assert accepts.objection(exam) == objection
    assert accepts.covers(exam) is not bool(objection)
    assert "40" not in accepts.objection(exam)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Accepts(modality=("DX",), age_years=(40, 18)),
        lambda: Accepts(modality=("DX",), min_pixels=0),
        lambda: PointSpec(name="sens", threshold=0.5, rule_out=0.5),
        lambda: PointSpec(name="sens", threshold=0.5, rule_out=float("nan")),
        lambda: AgainstSpec(attribute="PatientSex", expects={}),
        lambda: AgainstSpec(attribute="PatientSex", expects={"f": 1}),
        lambda: KnnHead(references="r", key="k", k=0),
        lambda: KnnHead(references="r", key="k", class_weights=(0, 1)),
        lambda: MlpHead(weights="w", key="k", output=-1),
        lambda: CalibrationSpec(
            set="s", method="platt", parameters={"slope": 1.0}, prevalence=0.5
        ),
        lambda: CalibrationSpec(
            set="s",
            method="platt",
            parameters={"slope": -1.0, "intercept": 0.0},
            prevalence=0.5,
        ),
        lambda: CalibrationSpec(
            set="s",
            method="temperature",
            parameters={"temperature": 0.0},
            prevalence=0.5,
        ),
        lambda: CalibrationSpec(
            set="s",
            method="isotonic",
            parameters={"x": (0.0, 1.0), "y": (0.5, 0.4)},
            prevalence=0.5,
        ),
        lambda: CalibrationSpec(
            set="s",
            method="temperature",
            parameters={"temperature": 1.0},
            prevalence=1.0,
        ),
        lambda: GateSpec(file="g", kind="k", threshold=math.inf, rate=0.02),
        lambda: AtlasSpec(name="a", version="1", digest="d", path="p", k=0),
    ],
)
def test_what_makes_no_sense_is_not_made(made: Callable[[], object]) -> None:
    """A specification is checked when it is made."""
    with pytest.raises(ValueError, match=r"\w"):
        made()
