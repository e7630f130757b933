"""Builders for what comes in, and for the packs that look at it.

Studies and instances are counted from 1: the same numbers, the same UIDs. Each returns
a valid value; a test names only what it is about.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from dicom_node.domain import (
    Analysis,
    EncoderKey,
    Exam,
    FrontDoor,
    Header,
    Origin,
    PackCard,
    Priority,
    Received,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)

ROOT = "1.2.826.0.1.3680043.8.498.77"
DX = SopClassUid("1.2.840.10008.5.1.4.1.1.1.1")
SR = SopClassUid("1.2.840.10008.5.1.4.1.1.88.33")
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LS = "1.2.840.10008.1.2.4.80"

T0 = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)


def digest(text: str) -> Sha256:
    """Return a digest that differs from text to text."""
    return Sha256(sha256(text.encode()).hexdigest())


ENCODER = EncoderKey(
    encoder=digest("weights"), preprocessing=digest("policy"), profile="float32"
)
OTHER_ENCODER = EncoderKey(
    encoder=digest("other weights"), preprocessing=digest("policy"), profile="float32"
)
PACK = PackCard(name="chest", version="1.0", device_uid="2.25.1001", encoder=ENCODER)


def later(seconds: float) -> datetime:
    """Return a time that many seconds after `T0`."""
    return T0 + timedelta(seconds=seconds)


def study_uid(study: int = 1) -> StudyUid:
    """Return the UID of the study with this number."""
    return StudyUid(f"{ROOT}.{study}")


def instance_uid(study: int = 1, number: int = 1) -> SopInstanceUid:
    """Return the UID of an instance of that study."""
    return SopInstanceUid(f"{ROOT}.{study}.1.{number}")


def header(study: int = 1, number: int = 1, **changes: Any) -> Header:
    """Return the header of a chest X-ray."""
    values: dict[str, Any] = {
        "study_uid": study_uid(study),
        "series_uid": SeriesUid(f"{ROOT}.{study}.1"),
        "sop_instance_uid": instance_uid(study, number),
        "sop_class_uid": DX,
        "transfer_syntax_uid": EXPLICIT,
        "patient": digest(f"patient of {study}"),
        "attributes": digest(f"attributes of {study}"),
        "frames": 1,
        "instance_number": number,
        "analysis": Analysis.IMAGE,
        "reason": "",
        "priority": Priority.ROUTINE,
    }
    return Header(**{"exam": exam(changes)} | values | changes)


def exam(changes: dict[str, Any]) -> Exam:
    """Return a chest X-ray's exam; what `changes` say of one is taken out of them."""
    own = {f.name: changes.pop(f.name) for f in fields(Exam) if f.name in changes}
    values: dict[str, Any] = {"modality": "DX", "body_part": "CHEST", "view": "PA"}
    return Exam(**values | own)


def received(
    study: int = 1,
    number: int = 1,
    *,
    content: str = "first",
    at: datetime = T0,
    **changes: Any,
) -> Received:
    """Return an instance that lies in the spool.

    Parameters
    ----------
    content
        Stands for its bytes: another content, another digest and place.
    """
    head = header(study, number, **changes)
    sha = digest(f"{head.study_uid}/{head.sop_instance_uid}/{content}")
    return Received(
        header=head,
        origin=Origin(
            door=FrontDoor.DIMSE,
            calling_aet="MODALITY",
            called_aet="PACSIGHT",
            address="127.0.0.1",
        ),
        sha256=sha,
        path=f"{sha[:2]}/{sha}.dcm",
        size=1_000_000,
        at=at,
    )


def series(study: int, count: int, **changes: Any) -> Sequence[Received]:
    """Return the first `count` instances of a study."""
    return [received(study, number, **changes) for number in range(1, count + 1)]


def not_an_image(study: int = 1, number: int = 90, **changes: Any) -> Received:
    """Return a structured report of somebody else."""
    values: dict[str, Any] = {
        "sop_class_uid": SR,
        "analysis": Analysis.NOT_ANALYSED,
        "reason": "a structured report",
        "frames": 0,
        "modality": "SR",
    }
    return received(study, number, **values | changes)


def own_object(study: int = 1, number: int = 95, **changes: Any) -> Received:
    """Return a report of ours that a PACS sent back."""
    values: dict[str, Any] = {
        "analysis": Analysis.OWN,
        "reason": "written by pacsight",
    }
    return not_an_image(study, number, **values | changes)
