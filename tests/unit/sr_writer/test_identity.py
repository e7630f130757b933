"""Derived UIDs: the same work, the same object; other work, another object."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from dicom_node.domain import ObjectKind, Result
from dicom_node.domain.identity import (
    COPIED_KEYWORDS,
    INSTANCE_CREATOR_UID,
    patient_digest,
    study_attributes_digest,
)
from sr_writer.identity import instance_uid, series_uid, tracking_uid
from tests.builders import STUDY_UID, algorithm, digest, finding, image_ref, result

SR = ObjectKind.REPORT


def _uid(**changes: Any) -> str:
    return instance_uid(result(**changes), SR, profile="p")


def test_uids_are_valid_and_told_apart() -> None:
    r = result()
    uids = [
        instance_uid(r, ObjectKind.REPORT, profile="p"),
        instance_uid(r, ObjectKind.CAPTURE, profile="p"),
        instance_uid(r, ObjectKind.REPORT, profile="p", ordinal=1),
        instance_uid(r, ObjectKind.REPORT, profile="q"),
        series_uid(r, ObjectKind.REPORT, profile="p"),
        series_uid(r, ObjectKind.CAPTURE, profile="p"),
        tracking_uid(r, finding()),
        tracking_uid(r, finding(key="nodule")),
        INSTANCE_CREATOR_UID,
    ]
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in uids)
    assert len(set(uids)) == len(uids)


def test_a_uid_never_changes_between_releases() -> None:
    """Archives hold objects under these."""
    assert INSTANCE_CREATOR_UID == "2.25.245348570968668714151228558360751247418"
    assert _uid() == "2.25.47570209309968326042306841562453898829"


def test_the_same_inputs_in_another_order_give_the_same_uid() -> None:
    images = (image_ref(1), image_ref(2), image_ref(3))
    assert _uid(images=images) == _uid(images=images[::-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "Elsewhere"},
        {"study_uid": "1.2.3"},
        {"images": (image_ref(), image_ref(2))},
        {"images": (image_ref(sha256=digest("corrected")),)},
        {"attributes": digest("corrected name")},
        {"algorithm": algorithm(device_uid="2.25.7")},
        {"outcome": 1},
    ],
    ids=lambda c: next(iter(c)),
)
def test_other_work_gives_another_uid(changes: dict[str, Any]) -> None:
    assert _uid(**changes) != _uid()


@pytest.mark.parametrize(
    "changes",
    [
        {"concluded_at": datetime(2030, 1, 1, tzinfo=UTC)},
        {"software": "9.9.9"},
        {"revision": 7},
        {"findings": []},
    ],
    ids=lambda c: next(iter(c)),
)
def test_when_and_by_which_release_it_was_made_does_not_matter(
    changes: dict[str, Any],
) -> None:
    """Of one (inputs, Device UID, outcome number) the first stored result wins."""
    assert _uid(**changes) == _uid()


def test_tracking_uids_survive_reprocessing_and_stay_in_their_study() -> None:
    def uid(**changes: Any) -> str:
        return tracking_uid(result(**changes), finding())

    again = uid(
        images=(image_ref(), image_ref(2)),
        algorithm=algorithm(version="2.0.0", device_uid="2.25.9"),
        revision=2,
    )
    assert again == uid()
    assert uid(study_uid="1.2.3") != uid()


def test_a_patient_is_known_by_id_and_issuer() -> None:
    assert patient_digest("A ", " X") == patient_digest("A", "X")
    assert len({patient_digest(*p) for p in [("A", "X"), ("A", ""), ("AX", "")]}) == 3


def test_absent_and_empty_attributes_are_the_same() -> None:
    bare = study_attributes_digest({"PatientName": "Doe^Jane"})
    assert bare == study_attributes_digest({"PatientName": "Doe^Jane ", "StudyID": ""})
    assert bare == study_attributes_digest({"PatientName": "Doe^Jane", "Rows": "5"})
    assert bare != study_attributes_digest({"PatientName": "Doe^John"})


def test_the_study_is_among_what_is_copied() -> None:
    assert "StudyInstanceUID" in COPIED_KEYWORDS
    assert isinstance(result(), Result)
    assert result().study_uid == STUDY_UID
