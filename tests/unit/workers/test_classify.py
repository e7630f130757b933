"""Embeddings in, conclusions out: scores, or the reason why there are none."""

from dataclasses import replace

import pytest

from dicom_node.domain import Completion, Flag
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
from workers.accepting import Accepts
from workers.pack import Pack
from workers.study import image_ref


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
    assert conclusion.outside_scope


def test_a_study_that_no_finding_takes_has_one_reason(pack: Pack) -> None:
    """The pack takes a CT of the neck, its findings do not: all that they need is said."""
    broad = (*pack.manifest.accepts, Accepts(modality=("CT",)))
    wider = replace(pack, manifest=replace(pack.manifest, accepts=broad))
    conclusion = about(wider, embedded(source(1, modality="CT", body_part="NECK"), 5.0))
    assert conclusion.reason == (
        "no image of this study is accepted: needs DX or CR of CHEST, or CT of HEAD; "
        "found CT of NECK"
    )


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
    assert not conclusion.outside_scope


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
