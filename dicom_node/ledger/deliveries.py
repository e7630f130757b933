"""What an operator sees of deliveries: where each object stands at each destination."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select

from dicom_node.domain import ObjectKind, SopInstanceUid, StudyUid
from dicom_node.ledger.outbox import outgoing
from dicom_node.ledger.tables import DEAD, artefact, delivery, study


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLine:
    """One object at one destination. No patient data.

    Parameters
    ----------
    verified
        How it was seen that the destination has it; empty if it was not.
    since
        When it came into its state; for what waits, when it is tried next.
    """

    study_uid: StudyUid
    revision: int
    kind: ObjectKind
    sop_instance_uid: SopInstanceUid
    destination: str
    state: str
    verified: str
    attempts: int
    since: datetime
    detail: str


def deliveries(
    tx: Connection, *, study_uid: str | None = None, limit: int = 1000
) -> list[DeliveryLine]:
    """Return the deliveries of a study, or of all, the newest objects first."""
    query = outgoing()
    if study_uid is not None:
        query = query.where(study.c.study_uid == study_uid)
    return _lines(tx, query, limit)


def dead_letters(tx: Connection, *, limit: int = 1000) -> list[DeliveryLine]:
    """Return what was given up and is not sent any more, the newest first."""
    return _lines(tx, outgoing().where(delivery.c.state == DEAD), limit)


def studies_with_dead_letters(tx: Connection) -> list[StudyUid]:
    """Return the studies of which something was given up."""
    query = outgoing().where(delivery.c.state == DEAD)
    uids = tx.execute(query.with_only_columns(study.c.study_uid).distinct())
    return list(uids.scalars())


def _lines(tx: Connection, query: Select[Any], limit: int) -> list[DeliveryLine]:
    newest = query.order_by(artefact.c.id.desc(), delivery.c.id).limit(limit)
    return [
        DeliveryLine(
            study_uid=row.study_uid,
            revision=row.number,
            kind=ObjectKind(row.kind),
            sop_instance_uid=row.sop_instance_uid,
            destination=row.destination,
            state=row.state,
            verified=row.verified,
            attempts=row.attempts,
            since=row.dead_at or row.delivered_at or row.sent_at or row.next_at,
            detail=row.detail,
        )
        for row in tx.execute(newest)
    ]
