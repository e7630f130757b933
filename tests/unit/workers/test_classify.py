"""Embeddings in, findings out: with a score, or with the reason why there is none."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.domain import (
    Completion,
    Finding,
    Flag,
    InputFile,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    Unreadable,
)
from tests.packs import CONFIG
from workers.asked import (
    Accepts,
    CategorySpec,
    EstimateSpec,
    LabelSpec,
    NeighboursHead,
)
from workers.classify import (
    EVIDENCE,
    Conclusion,
    EmbeddedImage,
    Heads,
    aggregate,
    conclude,
    heads_of,
    image_ref,
    labels_of,
    score_frames,
    zero_shot,
)
from workers.geometry import Geometry
from workers.labels import LabelWeights
from workers.manifest import VolumeSpec
from workers.neighbours import References
from workers.pack import LinearWeights, Pack

DIMENSION = CONFIG.embedding
AXIS = np.eye(DIMENSION, dtype=np.float32)


def source(number: int = 1, **changes: Any) -> InputFile:
    """Return a chest radiograph of the study."""
    values: dict[str, Any] = {
        "version": number,
        "path": f"{number}.dcm",
        "sha256": Sha256(f"{number:064x}"),
        "series_uid": SeriesUid("1.2.3"),
        "sop_instance_uid": SopInstanceUid(f"1.2.3.{number}"),
        "sop_class_uid": SopClassUid("1.2.840.10008.5.1.4.1.1.1.1"),
        "modality": "DX",
        "body_part": "CHEST",
        "view": "PA",
        "frames": 1,
        "instance_number": number,
    }
    return InputFile(**values | changes)


def head_slice(number: int) -> InputFile:
    """Return a slice of a head CT."""
    return source(number, modality="CT", body_part="HEAD", view="")


def embedded(file: InputFile, logit: float, frame: int = 0) -> EmbeddedImage:
    """Return a frame to which `HEADS` gives this logit."""
    vector: NDArray[np.float32] = (AXIS[0] * logit).astype(np.float32)
    return EmbeddedImage(source=file, frame=frame, vector=vector)


HEADS: Heads = {
    key: LinearWeights(weight=AXIS[0], bias=0.0)
    for key in ("pneumothorax", "effusion", "haemorrhage")
}


def found(conclusion: Conclusion, key: str) -> Finding:
    """Return one finding of a conclusion."""
    return next(f for f in conclusion.findings if f.key == key)


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-x))."""
    return float(1 / (1 + np.exp(-logit)))


def about(pack: Pack, *frames: EmbeddedImage, **changes: Any) -> Conclusion:
    """Return what the pack concludes of a study that holds just these frames."""
    images = list({f.source.sop_instance_uid: f.source for f in frames}.values())
    return conclude(pack, HEADS, **{"images": images, "frames": frames} | changes)


# ── scores ──────────────────────────────────────────────────────────────────


def test_a_linear_head_is_a_logistic_regression() -> None:
    """sigmoid(w.x + b), without overflow at either end."""
    head = LinearWeights(weight=AXIS[0] * 2, bias=-1.0)
    vectors = np.stack([AXIS[0], AXIS[1], AXIS[0] * 1e6, AXIS[0] * -1e6])
    np.testing.assert_allclose(
        score_frames(head, vectors), [sigmoid(1), sigmoid(-1), 1, 0], atol=1e-12
    )


def test_zero_shot_is_a_softmax_between_two_ensembles() -> None:
    """Prompts are averaged and made unit; the temperature is exp(logit_scale)."""
    positive = np.stack([AXIS[0], AXIS[1]])
    negative = np.stack([AXIS[2]])
    head = zero_shot(positive, negative, logit_scale=np.log(3.0))
    image = (AXIS[0] * 0.6 + AXIS[2] * 0.8)[None]
    logits = 3.0 * np.array([0.6 / np.sqrt(2), 0.8])
    softmax = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(score_frames(head, image), softmax[:1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max", 0.9),
        ("mean", 0.4),
        ("median", 0.3),
        ("top1-mean", 0.9),
        ("top2-mean", 0.7),
        ("top9-mean", 0.4),
    ],
)
def test_aggregation_from_frames_to_study(name: str, value: float) -> None:
    """The highest, the mean, the median, or the mean of the n highest there are."""
    scores = np.array([0.1, 0.9, 0.2, 0.5, 0.3])
    assert aggregate(name, scores) == pytest.approx(value)


class Texts:
    """A text encoder that gives every text an axis of its own."""

    logit_scale = 1.0

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        """Return (N, D) unit vectors."""
        rows = []
        for text in texts:
            rows.append(AXIS[len(self.seen)])
            self.seen.append(text)
        return np.stack(rows)


def test_every_finding_gets_its_head(pack: Pack) -> None:
    """Linear ones from the pack's file, zero-shot ones from its prompts."""
    texts = Texts()
    heads = heads_of(pack, texts)
    assert sorted(heads) == sorted(f.key for f in pack.findings)
    assert heads["pneumothorax"] is pack.heads["pneumothorax"]
    assert texts.seen == [
        "x-ray chest pleural effusion.",
        "x-ray chest no pleural effusion.",
    ]


# ── findings ────────────────────────────────────────────────────────────────


def test_findings_are_those_of_the_pack_in_its_order(pack: Pack) -> None:
    """One each, with its code, its threshold, and what the score rests on."""
    conclusion = about(pack, embedded(source(), 1.0))
    assert [f.key for f in conclusion.findings] == [f.key for f in pack.findings]
    finding = found(conclusion, "pneumothorax")
    assert finding.concept.value == "36118008"
    assert finding.score is not None
    assert finding.score.value == pytest.approx(sigmoid(1))
    assert finding.score.calibration_set == ""
    assert finding.operating_point == pack.operating_point(pack.findings[0])
    assert finding.images_scored == 1
    assert finding.evidence[0].image == image_ref(source())
    assert conclusion.reason == ""
    assert conclusion.completion is Completion.COMPLETE


@pytest.mark.parametrize(
    ("logit", "flag"), [(1.0, Flag.ABOVE), (0.0, Flag.ABOVE), (-1e-6, Flag.BELOW)]
)
def test_a_score_at_the_threshold_is_flagged(
    pack: Pack, logit: float, flag: Flag
) -> None:
    """At or above 0.5; a sigmoid is there at a logit of 0."""
    assert found(about(pack, embedded(source(), logit)), "pneumothorax").flag is flag


@pytest.mark.parametrize(
    ("logit", "flag"),
    [
        (0.1, Flag.ABOVE),
        (0.03, Flag.INDETERMINATE),
        (0.0, Flag.INDETERMINATE),
        (-0.03, Flag.INDETERMINATE),
        (-0.1, Flag.BELOW),
    ],
)
def test_a_score_that_rounding_may_have_moved_is_indeterminate(
    pack: Pack, logit: float, flag: Flag
) -> None:
    """Within the tolerance of a threshold nobody knows which side float32 is on."""
    spec = pack.findings[0]
    point = replace(spec.operating_point, tolerance=0.01)
    manifest = replace(
        pack.manifest,
        findings=(replace(spec, operating_point=point), *pack.findings[1:]),
    )
    rounded = replace(pack, manifest=manifest)
    finding = found(about(rounded, embedded(source(), logit)), "pneumothorax")
    assert finding.flag is flag
    assert finding.operating_point is not None
    assert finding.operating_point.tolerance == 0.01


def test_evidence_is_the_highest_frames_highest_first(pack: Pack) -> None:
    """At most five, with their scores; the study has the aggregated one."""
    logits = [-1, 3, 0, 2, -2, 1, 2.5]
    frames = [embedded(head_slice(n), x) for n, x in enumerate(logits, start=1)]
    finding = found(about(pack, *frames), "haemorrhage")
    assert [e.image.sop_instance_uid[-1] for e in finding.evidence] == list("27463")
    assert len(finding.evidence) == EVIDENCE
    assert finding.score is not None
    top3 = np.mean([sigmoid(3), sigmoid(2.5), sigmoid(2)])
    assert finding.score.value == pytest.approx(top3)
    assert finding.images_scored == 7


def test_frames_of_one_image_count_as_one_image(pack: Pack) -> None:
    """Each frame is scored; the image is looked at once."""
    file = replace(head_slice(1), frames=3)
    finding = found(
        about(pack, *(embedded(file, x, frame) for frame, x in enumerate((0, 2, 1)))),
        "haemorrhage",
    )
    assert [e.frame for e in finding.evidence] == [1, 2, 0]
    assert finding.images_scored == 1


def test_the_order_in_which_frames_came_in_has_no_say(pack: Pack) -> None:
    """Bit for bit the same conclusion, ties in the evidence included."""
    frames = [embedded(head_slice(n), x) for n, x in ((1, 0.3), (2, 0.1), (3, 0.3))]
    conclusions = {about(pack, *order) for order in permutations(frames)}
    assert len({repr(c.findings) for c in conclusions}) == 1


# ── volumes ─────────────────────────────────────────────────────────────────


def lying(
    number: int, logit: float, z: float, uid: str = "1.2.3", **changes: Any
) -> EmbeddedImage:
    """Return a slice of a head at a height."""
    place = {"position": (0.0, 0.0, z), "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
    file = replace(head_slice(number), series_uid=SeriesUid(uid))
    geometry = Geometry(**place | changes)
    return replace(embedded(file, logit), geometry=geometry)


def with_volumes(pack: Pack, aggregation: str, **spec: Any) -> Pack:
    """Return the pack with another aggregation of haemorrhage, and this volume spec."""
    findings = tuple(
        replace(f, aggregation=aggregation) if f.key == "haemorrhage" else f
        for f in pack.findings
    )
    volume = VolumeSpec(**spec) if spec else None
    manifest = replace(pack.manifest, findings=findings, volume=volume)
    return replace(pack, manifest=manifest)


def test_equal_slices_are_shown_in_the_order_in_which_they_lie(pack: Pack) -> None:
    """From below, whatever their numbers."""
    frames = [lying(n, 1.0, z=-10.0 * n) for n in (1, 2, 3)]
    finding = found(about(pack, *frames), "haemorrhage")
    assert [e.image.sop_instance_uid[-1] for e in finding.evidence] == list("321")


def test_a_localiser_has_no_say_where_there_are_slices(pack: Pack) -> None:
    """And the finding says that it was left out."""
    scout = lying(9, 5.0, z=0.0, uid="1.2.9", image_type=("ORIGINAL", "LOCALIZER"))
    frames = [scout, *(lying(n, -1.0, z=n) for n in (1, 2, 3))]
    finding = found(about(pack, *frames), "haemorrhage")
    assert finding.flag is Flag.BELOW
    assert finding.images_scored == 3
    assert finding.selection == "1 localiser image left out"
    alone = found(about(pack, scout), "haemorrhage")
    assert (alone.flag, alone.selection) == (Flag.ABOVE, "")


def test_a_localiser_does_not_stand_in_for_slices_that_cannot_be_read(
    pack: Pack,
) -> None:
    """Silence about the slices must not look like a score."""
    scout = lying(9, -5.0, z=0.0, image_type=("ORIGINAL", "LOCALIZER"))
    slices = head_slice(1)
    conclusion = about(
        pack,
        scout,
        images=[scout.source, slices],
        unreadable=[unreadable(slices)],
    )
    finding = found(conclusion, "haemorrhage")
    assert finding.flag is Flag.NOT_EVALUATED
    assert finding.reason == "of its images, only localisers can be read"
    assert conclusion.completion is Completion.PARTIAL


def test_a_limit_scores_an_even_selection_and_says_so(pack: Pack) -> None:
    """First and last included, by position, not by number."""
    frames = [lying(n, float(n), z=-n) for n in range(1, 10)]
    limited = with_volumes(pack, "mean", limit=3)
    finding = found(about(limited, *frames), "haemorrhage")
    assert finding.selection == "3 of 9 slices, evenly selected"
    assert finding.images_scored == 3
    assert [e.image.sop_instance_uid[-1] for e in finding.evidence] == list("951")
    every = found(about(with_volumes(pack, "mean", limit=9), *frames), "haemorrhage")
    assert (every.selection, every.images_scored) == ("", 9)


@pytest.mark.parametrize(
    ("method", "logit"), [("median", 1.0), ("mean", 2.0), ("unit-mean", 1.0)]
)
def test_the_embedding_of_a_volume_is_scored(
    pack: Pack, method: str, logit: float
) -> None:
    """The highest volume counts; its slices keep their own scores as evidence."""
    high = [lying(n, x, z=n) for n, x in ((1, 0.0), (2, 1.0), (3, 5.0))]
    low = [lying(n, -9.0, z=n, uid="1.2.9") for n in (4, 5)]
    by_volume = with_volumes(pack, f"embedding-{method}")
    finding = found(about(by_volume, *low, *high), "haemorrhage")
    assert finding.score is not None
    assert finding.score.value == pytest.approx(sigmoid(logit))
    assert [e.image.sop_instance_uid[-1] for e in finding.evidence] == list("321")
    assert finding.evidence[0].score == pytest.approx(sigmoid(5))
    assert finding.images_scored == 5


# ── not evaluated ───────────────────────────────────────────────────────────


def test_each_finding_looks_only_at_what_it_accepts(pack: Pack) -> None:
    """A chest says nothing of haemorrhage, and says so."""
    conclusion = about(pack, embedded(source(), 2.0))
    assert found(conclusion, "pneumothorax").flag is Flag.ABOVE
    other = found(conclusion, "haemorrhage")
    assert other.flag is Flag.NOT_EVALUATED
    assert other.score is None
    assert other.operating_point is None
    assert other.reason == (
        "no image of this study is accepted: needs CT of HEAD; found DX of CHEST"
    )
    assert conclusion.reason == ""


def test_a_study_out_of_scope_says_what_was_needed_and_what_was_found(
    pack: Pack,
) -> None:
    """Never a score, always a reason, for each finding and for the whole run."""
    images = [
        source(1, modality="MR", body_part="BRAIN"),
        source(2, modality="US", body_part=""),
    ]
    conclusion = about(pack, *(embedded(image, 5.0) for image in images))
    assert {f.flag for f in conclusion.findings} == {Flag.NOT_EVALUATED}
    assert conclusion.reason == (
        "no image of this study is accepted: needs DX or CR of CHEST, or CT of HEAD; "
        "found MR of BRAIN, US without body part"
    )
    assert {f.reason for f in conclusion.findings} == {conclusion.reason}
    assert conclusion.completion is Completion.COMPLETE


def test_a_study_that_no_finding_takes_has_one_reason(pack: Pack) -> None:
    """The pack takes a CT of the neck, its findings do not: all that they need is said."""
    broad = (*pack.manifest.accepts, Accepts(modality=("CT",)))
    wider = replace(pack, manifest=replace(pack.manifest, accepts=broad))
    conclusion = about(wider, embedded(source(1, modality="CT", body_part="NECK"), 5.0))
    assert conclusion.reason == (
        "no image of this study is accepted: needs DX or CR of CHEST, or CT of HEAD; "
        "found CT of NECK"
    )


def unreadable(file: InputFile, reason: str = "no pixel data") -> Unreadable:
    """Return an image that could not be read."""
    return Unreadable(image=image_ref(file), frame=0, reason=reason)


def test_where_some_images_are_unreadable_the_others_are_evaluated(pack: Pack) -> None:
    """The result is marked as partial."""
    conclusion = about(
        pack,
        embedded(source(1), 2.0),
        images=[source(1), source(2)],
        unreadable=[unreadable(source(2))],
    )
    assert found(conclusion, "pneumothorax").flag is Flag.ABOVE
    assert conclusion.completion is Completion.PARTIAL


def test_where_all_images_are_unreadable_the_reason_is_theirs(pack: Pack) -> None:
    """How many, and the first reason in full."""
    images = [source(n) for n in (1, 2, 3)]
    reasons = ("no pixel data", "no pixel data", "the image has no rows")
    conclusion = about(
        pack,
        images=images,
        unreadable=[unreadable(i, r) for i, r in zip(images, reasons, strict=True)],
    )
    assert found(conclusion, "pneumothorax").reason == (
        "none of the accepted images (3) can be read: no pixel data,"
        " and for 1 other reason"
    )
    assert conclusion.completion is Completion.PARTIAL
    assert "none of the accepted images" in conclusion.reason


def test_an_unreadable_image_out_of_scope_does_not_matter(pack: Pack) -> None:
    """Nothing that the pack would have looked at is missing."""
    other = source(2, modality="US")
    conclusion = about(
        pack,
        embedded(source(1), 2.0),
        images=[source(1), other],
        unreadable=[unreadable(other)],
    )
    assert conclusion.completion is Completion.COMPLETE


def test_accepted_images_that_nobody_embedded_are_no_score(pack: Pack) -> None:
    """Without embeddings there is a reason, not a guess."""
    conclusion = about(pack, images=[source()])
    assert found(conclusion, "pneumothorax").reason == (
        "no accepted image of this study was embedded"
    )


def test_a_score_that_is_no_number_is_no_score(pack: Pack) -> None:
    """A model that went wrong does not flag, and does not clear."""
    finding = found(about(pack, embedded(source(), float("nan"))), "pneumothorax")
    assert finding.flag is Flag.NOT_EVALUATED
    assert finding.reason == "the model gave a score that is no number"


# ── categories and estimates ────────────────────────────────────────────────


def asking(pack: Pack, **changes: Any) -> Pack:
    """Return the pack, asking for a view and an age, too."""
    chest = Accepts(modality=("DX", "CR"), body_part=("CHEST",))
    view = CategorySpec(
        key="view",
        meaning="View",
        code=("111031", "DCM", "Image View"),
        accepts=chest,
        labels=tuple(
            LabelSpec(key=key, meaning=key, code=(key, "99TEST", key), prompts=(key,))
            for key in ("ap", "pa", "lateral")
        ),
    )
    age = EstimateSpec(
        key="age",
        meaning="Age",
        code=("AGE", "99TEST", "Age"),
        unit=("mo", "UCUM", "month"),
        head=NeighboursHead(k=1),
        accepts=chest,
    )
    manifest = replace(pack.manifest, categories=(view,), estimates=(age,))
    known = References(
        embeddings=AXIS[:2], values=np.array([12.0, 24.0], dtype=np.float32)
    )
    values: dict[str, Any] = {"manifest": manifest, "references": {"age": known}}
    return replace(pack, **values | changes)


LABELS = {"view": LabelWeights(texts=AXIS[:3], temperature=4.0)}


def test_every_category_gets_its_head(pack: Pack) -> None:
    """One row for each label, in the order of the labels."""
    texts = Texts()
    found = labels_of(asking(pack), texts)["view"]
    assert texts.seen == ["ap", "pa", "lateral"]
    assert found.texts.tolist() == AXIS[:3].tolist()
    assert found.temperature == pytest.approx(np.e)


def test_a_category_is_the_best_label_and_the_next_one(pack: Pack) -> None:
    """Its score is a share of all labels; the frames that show it most are named."""
    vectors = [AXIS[1], AXIS[1] * 0.8 + AXIS[0] * 0.6]
    frames = [
        EmbeddedImage(source=source(n), frame=0, vector=vector.astype(np.float32))
        for n, vector in enumerate(vectors, start=1)
    ]
    (view,) = about(asking(pack), *frames, labels=LABELS).categories
    assert view.chosen is not None
    assert view.runner_up is not None
    assert (view.chosen.label.value, view.runner_up.label.value) == ("pa", "ap")
    logits = 4.0 * np.array([0.3, 0.9, 0.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert view.chosen.score.value == pytest.approx(expected[1])
    assert view.runner_up.score.value == pytest.approx(expected[0])
    assert view.chosen.score.calibration_set == ""
    assert [e.image.sop_instance_uid[-1] for e in view.evidence] == ["1", "2"]
    assert (view.images_scored, view.labels, view.reason) == (2, 3, "")


def test_an_estimate_is_the_value_of_the_references_nearby(pack: Pack) -> None:
    """In its unit, with what each frame gave, and that nobody has validated it."""
    (age,) = about(asking(pack), embedded(source(), 1.0), labels=LABELS).estimates
    assert (age.value, age.spread, age.unit.value) == (12.0, 0.0, "mo")
    assert (age.references, age.validated, age.images_scored) == (2, False, 1)
    assert [e.score for e in age.evidence] == [12.0]


def test_an_estimate_without_references_says_how_to_supply_them(pack: Pack) -> None:
    """Nothing is guessed."""
    bare = asking(pack, references={})
    (age,) = about(bare, embedded(source(), 1.0), labels=LABELS).estimates
    assert (age.value, age.spread, age.references) == (None, None, 0)
    assert "pacsight pack references" in age.reason
    assert age.unequipped
    (age,) = about(bare, embedded(head_slice(1), 1.0), labels=LABELS).estimates
    assert "no image of this study is accepted" in age.reason
    assert not age.unequipped


def test_outside_of_what_they_accept_nothing_is_chosen_or_estimated(
    pack: Pack,
) -> None:
    """The reason is said for each; findings of other images stay."""
    conclusion = about(asking(pack), embedded(head_slice(1), 2.0), labels=LABELS)
    refused = (
        "no image of this study is accepted: needs DX or CR of CHEST; found CT of HEAD"
    )
    assert [c.reason for c in conclusion.categories] == [refused]
    assert [e.reason for e in conclusion.estimates] == [refused]
    assert conclusion.categories[0].chosen is None
    assert conclusion.reason == ""
    assert found(conclusion, "haemorrhage").flag is Flag.ABOVE


def test_a_vector_that_is_no_number_chooses_nothing(pack: Pack) -> None:
    """Neither a label nor a value is made of it."""
    frame = embedded(source(), float("nan"))
    conclusion = about(asking(pack), frame, labels=LABELS)
    reasons = {conclusion.categories[0].reason, conclusion.estimates[0].reason}
    assert reasons == {"the model gave a score that is no number"}


def test_a_pack_without_findings_has_a_reason_only_where_nothing_is_said(
    pack: Pack,
) -> None:
    """One category that was chosen is an outcome."""
    only = asking(pack)
    only = replace(only, manifest=replace(only.manifest, findings=(), estimates=()))
    said = about(only, embedded(source(), 1.0), labels=LABELS)
    assert (said.findings, said.reason) == ((), "")
    silent = about(only, embedded(head_slice(1), 1.0), labels=LABELS)
    assert "needs DX or CR of CHEST" in silent.reason


def test_the_order_of_frames_has_no_say_in_categories_and_estimates(
    pack: Pack,
) -> None:
    """Bit for bit."""
    frames = [embedded(source(n), x) for n, x in ((1, 0.3), (2, 0.1), (3, 0.7))]
    said = {
        repr((c.categories, c.estimates))
        for c in (about(asking(pack), *o, labels=LABELS) for o in permutations(frames))
    }
    assert len(said) == 1


def test_a_prompt_is_embedded_once_however_many_ask_it(pack: Pack) -> None:
    """Findings share what says that nothing is there: a worker starts sooner."""
    (zero,) = [f for f in pack.findings if f.prompts is not None]
    assert zero.prompts is not None
    other = replace(zero, key="other", prompts=replace(zero.prompts, positive=("x.",)))
    both = replace(pack, manifest=replace(pack.manifest, findings=(zero, other)))
    texts = Texts()
    heads = heads_of(replace(both, heads={}), texts)
    assert texts.seen == [*zero.prompts.positive, *zero.prompts.negative, "x."]
    assert sorted(heads) == ["effusion", "other"]
