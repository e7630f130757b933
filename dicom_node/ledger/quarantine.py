"""Instances that ended those who read them: kept, and not read any more.

A decode process that dies, runs out of memory or time twice on a file; a worker that dies
twice on a frame that it had alone. The report calls them unreadable, with the reason. An
operator lets them out again once the decoder was mended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from dicom_node.domain import SopInstanceUid, StudyUid
from dicom_node.errors import Permanent
from dicom_node.ledger.events import note
from dicom_node.ledger.sql import insert_ignore, locked
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import embedding, quarantine, study, version
from dicom_node.lifecycle import CONCLUDED, Event, State


class NotQuarantinedError(Permanent):
    """No instance with that UID is in quarantine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineLine:
    """An instance in quarantine. No patient data."""

    sop_instance_uid: SopInstanceUid
    study_uid: StudyUid
    at: datetime
    reason: str
    path: str


def put_aside(tx: Connection, guilty: Mapping[int, str], *, now: datetime) -> None:
    """Put instance versions into quarantine: none of their frames is read any more.

    Parameters
    ----------
    guilty
        Key of the version to the reason.
    """
    for key, reason in guilty.items():
        insert_ignore(
            tx, quarantine, [{"version_id": key, "at": now, "reason": reason}]
        )
        waiting = embedding.c.state.in_(["pending", "batched"])
        tx.execute(
            update(embedding)
            .where(embedding.c.version_id == key, waiting)
            .values(state="unreadable", reason=reason)
        )
        row = tx.execute(
            select(version.c.study_id, version.c.sop_instance_uid).where(
                version.c.id == key
            )
        ).one()
        uid = row.sop_instance_uid
        note(tx, now, "quarantined", reason, study_id=row.study_id, uid=uid)


def quarantined(tx: Connection) -> list[QuarantineLine]:
    """Return what is in quarantine, the newest first."""
    query = (
        select(
            version.c.sop_instance_uid,
            version.c.path,
            study.c.study_uid,
            quarantine.c.at,
            quarantine.c.reason,
        )
        .select_from(quarantine.join(version).join(study))
        .where(version.c.current)
        .order_by(quarantine.c.at.desc(), version.c.id)
    )
    return [
        QuarantineLine(
            sop_instance_uid=row.sop_instance_uid,
            study_uid=row.study_uid,
            at=row.at,
            reason=row.reason,
            path=row.path,
        )
        for row in tx.execute(query)
    ]


def release(tx: Connection, uid: SopInstanceUid, *, now: datetime) -> StudyUid:
    """Let an instance out: its frames are read again, its study is concluded again.

    Raises
    ------
    NotQuarantinedError
        If it is not in quarantine.
    """
    query = (
        select(version.c.id, study.c.id.label("study"), study.c.study_uid)
        .select_from(quarantine.join(version).join(study))
        .where(version.c.sop_instance_uid == uid, version.c.current)
    )
    row = tx.execute(query).first()
    if row is None:
        raise NotQuarantinedError(f"no instance {uid} is in quarantine")
    query_state = select(study.c.state).where(study.c.id == row.study)
    state = State(tx.execute(locked(query_state)).scalar_one())
    tx.execute(delete(quarantine).where(quarantine.c.version_id == row.id))
    unreadable = embedding.c.state == "unreadable"
    tx.execute(
        update(embedding)
        .where(embedding.c.version_id == row.id, unreadable)
        .values(state="pending", reason="", batch_id=None, alone=True)
    )
    detail = "an operator let it out of quarantine"
    note(tx, now, "released", detail, study_id=row.study, uid=uid)
    if state in CONCLUDED:
        happen(tx, row.study, Event.AGAIN, detail=detail, at=now)
    elif state is State.CONCLUDING:
        happen(tx, row.study, Event.INSTANCE, detail=detail, at=now)
    return StudyUid(row.study_uid)
