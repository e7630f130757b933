"""What an operator sees: studies in triage order, and what happened to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from dicom_node.domain import Flag, Priority, StudyUid
from dicom_node.ledger.revisions import ROUTINE_RANK
from dicom_node.ledger.tables import (
    DELIVERED,
    artefact,
    delivery,
    event,
    job,
    quarantine,
    revision,
    study,
    version,
)
from dicom_node.lifecycle import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One study and one pack's word on it. No patient data.

    Parameters
    ----------
    quarantined
        How many of the instances ended who read them.
    seconds
        From the last image of the revision to the moment when its last destination
        had said that it stored the report, or None until that is verified.
    """

    study_uid: StudyUid
    state: State
    detail: str
    priority: Priority
    modalities: tuple[str, ...]
    instances: int
    quarantined: int = 0
    revision: int
    received_at: datetime
    pack: str
    flag: Flag | None
    finding: str
    score: float | None
    threshold: float | None
    urgency: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line of what happened."""

    at: datetime
    kind: str
    detail: str
    sop_instance_uid: str


def studies(
    tx: Connection, *, limit: int = 1000, study_uid: str | None = None
) -> list[StudyLine]:
    """Return the studies in triage order: flagged and urgent first, then the newest."""
    query = (
        select(
            *study.c,
            revision.c.last_image_at,
            job.c.id.label("job"),
            job.c.pack,
            job.c.flag,
            job.c.urgency,
            job.c.top_finding,
            job.c.top_score,
            job.c.top_threshold,
        )
        .outerjoin(
            revision,
            and_(
                revision.c.study_id == study.c.id,
                revision.c.number == study.c.revision,
            ),
        )
        .outerjoin(job, job.c.revision_id == revision.c.id)
        .order_by(
            case((job.c.flag == Flag.ABOVE, 0), else_=1),
            func.coalesce(job.c.urgency, ROUTINE_RANK),
            study.c.priority,
            study.c.last_at.desc(),
            study.c.id,
        )
        .limit(limit)
    )
    if study_uid is not None:
        query = query.where(study.c.study_uid == study_uid)
    rows = tx.execute(query).all()
    contents = _contents(tx, [row.id for row in rows])
    aside = _quarantined(tx, [row.id for row in rows])
    delivered = _last_deliveries(tx, [row.job for row in rows if row.job])
    return [
        _line(
            row,
            *contents.get(row.id, ((), 0)),
            quarantined=aside.get(row.id, 0),
            delivered_at=delivered.get(row.job),
        )
        for row in rows
    ]


def journal(tx: Connection, study_uid: str | None, *, limit: int) -> list[JournalLine]:
    """Return what happened to a study, or to data sets of no study, newest first."""
    query = select(event).order_by(event.c.id.desc()).limit(limit)
    if study_uid is None:
        query = query.where(event.c.study_id.is_(None))
    else:
        query = query.join(study).where(study.c.study_uid == study_uid)
    return [
        JournalLine(
            at=row.at,
            kind=row.kind,
            detail=row.detail,
            sop_instance_uid=row.sop_instance_uid,
        )
        for row in tx.execute(query)
    ]


def _last_deliveries(tx: Connection, jobs: Sequence[int]) -> dict[int, datetime]:
    query = (
        select(
            artefact.c.job_id,
            func.max(func.coalesce(delivery.c.sent_at, delivery.c.delivered_at)),
        )
        .join(artefact, artefact.c.id == delivery.c.artefact_id)
        .where(artefact.c.job_id.in_(jobs), delivery.c.state == DELIVERED)
        .group_by(artefact.c.job_id)
    )
    return {row[0]: row[1] for row in tx.execute(query)}


def _quarantined(tx: Connection, keys: Sequence[int]) -> dict[int, int]:
    """Return how many instances of a study are in quarantine, where there are any."""
    query = (
        select(version.c.study_id, func.count())
        .select_from(quarantine.join(version))
        .where(version.c.study_id.in_(keys), version.c.current)
        .group_by(version.c.study_id)
    )
    return {row[0]: row[1] for row in tx.execute(query)}


def _contents(
    tx: Connection, keys: Sequence[int]
) -> dict[int, tuple[tuple[str, ...], int]]:
    query = (
        select(version.c.study_id, version.c.modality, func.count())
        .where(version.c.study_id.in_(keys), version.c.current)
        .group_by(version.c.study_id, version.c.modality)
        .order_by(version.c.study_id, version.c.modality)
    )
    found: dict[int, tuple[tuple[str, ...], int]] = {}
    for key, modality, count in tx.execute(query):
        names, total = found.get(key, ((), 0))
        found[key] = ((*names, modality), total + count)
    return found


def _line(
    row: Any,
    modalities: tuple[str, ...],
    instances: int,
    *,
    quarantined: int,
    delivered_at: datetime | None,
) -> StudyLine:
    seconds = None
    if delivered_at is not None:
        seconds = (delivered_at - row.last_image_at).total_seconds()
    return StudyLine(
        study_uid=row.study_uid,
        state=State(row.state),
        detail=row.detail,
        priority=Priority(row.priority),
        modalities=modalities,
        instances=instances,
        quarantined=quarantined,
        revision=row.revision,
        received_at=row.last_at,
        pack=row.pack or "",
        flag=Flag(row.flag) if row.flag else None,
        finding=row.top_finding or "",
        score=row.top_score,
        threshold=row.top_threshold,
        urgency=ROUTINE_RANK if row.urgency is None else row.urgency,
        seconds=seconds,
    )
