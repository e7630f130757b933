"""What of a finding is reported, and what is not: bands, probabilities, shadow, gate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.domain import (
    AtlasSearch,
    Exam,
    Finding,
    Flag,
    InputFile,
    Sha256,
    StudyUid,
)
from tests.studies import AXIS, about, embedded, found, head_slice, sigmoid, source
from workers.asked import AgainstSpec, FindingSpec
from workers.calibration import CalibrationSpec
from workers.classify import ALL_IN_SHADOW
from workers.pack import Pack
from workers.similar import similar_cases
from workers.study import EmbeddedImage

KEY = "pneumothorax"
CALIBRATION = CalibrationSpec(
    set="cal-1",
    method="platt",
    parameters={"slope": 2.0, "intercept": 1.0},
    prevalence=0.3,
)
SEX = AgainstSpec(attribute="PatientSex", expects={"M": 1, "F": -1})


def changed(pack: Pack, key: str = KEY, **changes: Any) -> Pack:
    """Return the pack with one of its findings changed."""
    findings = tuple(
        replace(spec, **changes) if spec.key == key else spec for spec in pack.findings
    )
    return replace(pack, manifest=replace(pack.manifest, findings=findings))


def point_of(pack: Pack, **changes: Any) -> dict[str, Any]:
    """Return the finding's operating point, changed."""
    spec: FindingSpec = next(s for s in pack.findings if s.key == KEY)
    return {"operating_point": replace(spec.operating_point, **changes)}


@pytest.mark.parametrize(
    ("logit", "flag"),
    [
        (1.0, Flag.ABOVE),
        (-1e-6, Flag.INDETERMINATE),
        (-1.0, Flag.INDETERMINATE),
        (-3.0, Flag.BELOW),
    ],
)
def test_between_rule_out_and_threshold_a_score_is_indeterminate(
    pack: Pack, logit: float, flag: Flag
) -> None:
    """Ruled in from 0.5 on, ruled out below 0.2."""
    banded = changed(pack, **point_of(pack, rule_out=0.2))
    one = found(about(banded, embedded(source(), logit)), KEY)
    assert one.flag is flag
    assert one.operating_point is not None
    assert one.operating_point.rule_out == 0.2


def test_a_calibrated_score_is_a_probability(pack: Pack) -> None:
    """Of the study: the scores of its frames stay what the head gave."""
    one = found(
        about(
            changed(pack, calibration=CALIBRATION),
            embedded(source(1), 0.5),
            embedded(source(2), -2.0),
        ),
        KEY,
    )
    assert one.score is not None
    assert one.score.calibration_set == "cal-1"
    assert one.score.value == pytest.approx(sigmoid(2 * 0.5 + 1))
    frames = [frame.score for frame in one.evidence]
    assert frames == pytest.approx([sigmoid(0.5), sigmoid(-2.0)])
    assert len(one.decisive) == 1


@pytest.mark.parametrize(
    ("sex", "logit", "score"),
    [
        ("M", 2.0, sigmoid(-2.0)),  # shows a man, as the header says
        ("M", -2.0, sigmoid(2.0)),
        ("F", 2.0, sigmoid(2.0)),  # shows a man; the header says a woman
        ("F", -2.0, sigmoid(-2.0)),
    ],
)
def test_a_check_scores_what_contradicts_the_header(
    pack: Pack, sex: str, logit: float, score: float
) -> None:
    """1 - p where the positive class is expected, p where the other one is."""
    frame = embedded(source(sex=sex), logit)
    one = found(about(changed(pack, against=SEX), frame), KEY)
    assert one.score is not None
    assert one.score.value == pytest.approx(score)
    assert one.evidence[0].score == pytest.approx(score)


def test_a_calibrated_check_turns_the_probability(pack: Pack) -> None:
    """What was calibrated is how sure the head is of its positive class."""
    checked = changed(pack, against=SEX, calibration=CALIBRATION)
    one = found(about(checked, embedded(source(sex="M"), -2.0)), KEY)
    assert one.score is not None
    assert one.score.value == pytest.approx(1 - sigmoid(2 * -2.0 + 1))


@pytest.mark.parametrize("sex", ["O", ""])
def test_what_the_header_does_not_say_is_not_checked(pack: Pack, sex: str) -> None:
    """The reason names the attribute, and never the value."""
    one = found(about(changed(pack, against=SEX), embedded(source(sex=sex), 2.0)), KEY)
    assert one.flag is Flag.NOT_EVALUATED
    assert one.reason == (
        "the header's PatientSex is absent, or none of the values that this check "
        "compares with the image"
    )


def test_images_whose_header_says_nothing_are_left_out_of_a_check(pack: Pack) -> None:
    """The others are checked, each against its own header; the worst one counts."""
    view = AgainstSpec(attribute="ViewPosition", expects={"PA": 1, "LL": -1})
    one = found(
        about(
            changed(pack, against=view),
            embedded(source(1, view="PA"), 3.0),
            embedded(source(2, view="LL"), 1.0),
            embedded(source(3, view=""), -9.0),
        ),
        KEY,
    )
    assert one.score is not None
    assert one.score.value == pytest.approx(sigmoid(1.0))
    assert one.images_scored == 2
    assert one.selection == "1 of 3 images without a ViewPosition to check"


def test_a_finding_in_shadow_mode_is_kept_apart(pack: Pack) -> None:
    """It is computed as ever; what is reported is as if nobody had asked for it."""
    frame = embedded(source(), 3.0)
    conclusion = about(changed(pack, mode="shadow"), frame)
    assert [one.key for one in conclusion.findings] == ["effusion", "haemorrhage"]
    assert conclusion.shadow == (found(about(pack, frame), KEY),)
    assert conclusion.reason == ""


def test_a_pack_that_reports_nothing_says_why(pack: Pack) -> None:
    """Everything in shadow mode: that is no negative result."""
    quiet = pack
    for spec in pack.findings:
        quiet = changed(quiet, spec.key, mode="shadow")
    conclusion = about(quiet, embedded(source(), 3.0))
    assert (conclusion.findings, len(conclusion.shadow)) == ((), 3)
    assert conclusion.reason == ALL_IN_SHADOW


class NegativesOutside:
    """A gate that lets no vector through whose first number is negative."""

    def outside_volume(self, vectors: NDArray[np.float32], modality: str) -> str:
        """Return a reason for them."""
        return f"no {modality} like it" if np.median(vectors[:, 0]) < 0 else ""


def gated(pack: Pack, *frames: EmbeddedImage) -> Finding:
    """Return the finding where such a gate stands before it."""
    return found(about(pack, *frames, gate=NegativesOutside()), KEY)


def test_an_image_outside_the_gate_is_left_out(pack: Pack) -> None:
    """The others are scored; the report says what was left out, and why."""
    one = gated(pack, embedded(source(1), 0.2), embedded(source(2), -4.0))
    assert one.images_scored == 1
    assert one.score is not None
    assert one.score.value == pytest.approx(sigmoid(0.2))
    assert (
        one.selection == "1 image left out, outside the validated range: no DX like it"
    )


def test_a_study_outside_the_gate_is_not_evaluated(pack: Pack) -> None:
    """No score, and the reason; but what is asked in spite of the gate is answered."""
    frames = [embedded(source(1), -4.0), embedded(source(2), -5.0)]
    one = gated(pack, *frames)
    assert one.flag is Flag.NOT_EVALUATED
    assert one.reason == (
        "all 2 images left out, outside the validated range: no DX like it"
    )
    assert gated(changed(pack, ungated=True), *frames).score is not None


def test_a_volume_is_in_or_out_as_a_whole(pack: Pack) -> None:
    """The gate sees the slices that belong together."""
    slices = [
        embedded(head_slice(n), logit) for n, logit in enumerate((-9.0, 1.0, 1.0))
    ]
    whole = about(pack, *slices, gate=NegativesOutside())
    assert found(whole, "haemorrhage").images_scored == 3


def test_no_number_passes_the_gate_and_gets_no_score(pack: Pack) -> None:
    """The fault is named as what it is."""
    one = gated(pack, embedded(source(), float("nan")))
    assert one.reason == "the model gave a score that is no number"


class Shelf:
    """An atlas that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Exam, int, str, str]] = []

    def nearest(
        self,
        runs: Sequence[NDArray[np.float32]],
        exam: Exam,
        k: int,
        *,
        study: StudyUid,
        patient: Sha256,
    ) -> AtlasSearch | None:
        """Return no cases, of an atlas that has a name."""
        self.asked.append((len(runs), exam, k, study, patient))
        return AtlasSearch(
            atlas="a", version="1", digest=Sha256("0" * 64), metric="cosine", cases=()
        )


def test_an_atlas_is_asked_with_the_images_of_one_kind() -> None:
    """Those of the kind that most images are; nothing where there is no number."""

    def frame(file: InputFile) -> EmbeddedImage:
        return EmbeddedImage(source=file, frame=0, vector=AXIS[0])

    shelf = Shelf()
    chests = [[frame(source(1))], [frame(source(2))]]
    who: Any = {"study": StudyUid("1.2"), "patient": Sha256("p")}
    assert similar_cases(shelf, [[frame(head_slice(3))], *chests], 5, **who) is not None
    assert shelf.asked == [(2, source(1).exam, 5, "1.2", "p")]
    assert similar_cases(shelf, [[embedded(source(), float("nan"))]], 5, **who) is None
