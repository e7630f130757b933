"""One finding: scored, flagged, with the frames that it rests on."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from dicom_node.domain import Category, Completion, Estimate, Flag, SeriesUid
from tests.studies import (
    LABELS,
    about,
    asking,
    embedded,
    found,
    head_slice,
    sigmoid,
    source,
    unreadable,
)
from workers.findings import aggregate
from workers.geometry import Geometry
from workers.manifest import VolumeSpec
from workers.pack import Pack
from workers.study import EVIDENCE, EmbeddedImage


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


def test_a_score_that_is_no_number_is_no_score(pack: Pack) -> None:
    """A model that went wrong does not flag, and does not clear."""
    finding = found(about(pack, embedded(source(), float("nan"))), "pneumothorax")
    assert finding.flag is Flag.NOT_EVALUATED
    assert finding.reason == "the model gave a score that is no number"


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


def test_what_was_left_out_is_said_of_every_answer(pack: Pack) -> None:
    """Categories and estimates rest on the same selection as findings, and say it."""
    wide = asking(pack)
    manifest = replace(
        wide.manifest,
        categories=tuple(replace(c, accepts=None) for c in wide.manifest.categories),
        estimates=tuple(replace(e, accepts=None) for e in wide.manifest.estimates),
    )
    scout = lying(9, 5.0, z=0.0, uid="1.2.9", image_type=("ORIGINAL", "LOCALIZER"))
    frames = [scout, *(lying(n, 1.0, z=n) for n in (1, 2, 3))]
    conclusion = about(replace(wide, manifest=manifest), *frames, labels=LABELS)
    answers: list[Category | Estimate] = [
        *conclusion.categories,
        *conclusion.estimates,
    ]
    assert [one.selection for one in answers] == ["1 localiser image left out"] * 2
    assert [one.images_scored for one in answers] == [3, 3]


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
