"""What is to be delivered where, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, select, update

from dicom_node.domain import ObjectKind, Sha256, SopClassUid, SopInstanceUid, StudyUid
from dicom_node.ledger.events import note
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import artefact, delivery, job, revision, study
from dicom_node.lifecycle import State

WAITING, DELIVERED, DEAD, CANCELLED = "waiting", "delivered", "dead", "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A destination, and the kinds of object that it wants."""

    destination: str
    objects: frozenset[ObjectKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """An object that should be sent now."""

    delivery: int
    destination: str
    attempts: int
    study_uid: StudyUid
    kind: ObjectKind
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    path: str


def address(
    tx: Connection, study_id: int, addresses: Sequence[Address], *, now: datetime
) -> None:
    """Put every object of the study into the outbox of every destination."""
    query = (
        select(artefact.c.id, artefact.c.kind)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study_id)
    )
    rows = [
        {
            "artefact_id": row.id,
            "destination": to.destination,
            "state": WAITING,
            "attempts": 0,
            "next_at": now,
            "detail": "",
        }
        for row in tx.execute(query).all()
        for to in addresses
        if row.kind in to.objects
    ]
    insert_ignore(tx, delivery, rows)


def due(
    tx: Connection, destination: str, *, now: datetime, limit: int
) -> list[DueDelivery]:
    """Return what to send there now, urgent studies first; held studies wait."""
    query = (
        select(
            delivery.c.id,
            delivery.c.destination,
            delivery.c.attempts,
            artefact.c.kind,
            artefact.c.sop_class_uid,
            artefact.c.sop_instance_uid,
            artefact.c.sha256,
            artefact.c.path,
            study.c.study_uid,
        )
        .join(artefact, artefact.c.id == delivery.c.artefact_id)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .join(study, study.c.id == revision.c.study_id)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == WAITING,
            delivery.c.next_at <= now,
            study.c.state != State.HELD,
        )
        .order_by(study.c.priority, artefact.c.job_id, delivery.c.id)
        .limit(limit)
    )
    return [
        DueDelivery(
            delivery=row.id,
            destination=row.destination,
            attempts=row.attempts,
            study_uid=row.study_uid,
            kind=ObjectKind(row.kind),
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            sha256=row.sha256,
            path=row.path,
        )
        for row in tx.execute(query)
    ]


def delivered(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination has the object."""
    _settle(tx, key, state=DELIVERED, detail=detail, delivered_at=now)


def postpone(tx: Connection, key: int, *, detail: str, until: datetime) -> None:
    """Note a try that failed, and when the next one is due."""
    _settle(tx, key, state=WAITING, detail=detail, next_at=until)


def give_up(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination refused for good."""
    _settle(tx, key, state=DEAD, detail=detail)
    row = tx.execute(
        select(revision.c.study_id, artefact.c.sop_instance_uid, delivery.c.destination)
        .join(job, job.c.revision_id == revision.c.id)
        .join(artefact, artefact.c.job_id == job.c.id)
        .join(delivery, delivery.c.artefact_id == artefact.c.id)
        .where(delivery.c.id == key)
    ).one()
    text = f"{row.destination}: {detail}"
    note(
        tx,
        now,
        "undeliverable",
        text,
        study_id=row.study_id,
        uid=row.sop_instance_uid,
    )


def cancel(tx: Connection, study_id: int, *, detail: str) -> None:
    """Take what waits of the study out of the outbox."""
    tx.execute(
        update(delivery)
        .where(delivery.c.state == WAITING, delivery.c.artefact_id.in_(_of(study_id)))
        .values(state=CANCELLED, detail=detail)
    )


def resend(tx: Connection, study_id: int, *, now: datetime) -> int:
    """Try again, at once, what waits or was given up; return how many objects."""
    return tx.execute(
        update(delivery)
        .where(
            delivery.c.state.in_([WAITING, DEAD]),
            delivery.c.artefact_id.in_(_of(study_id)),
        )
        .values(state=WAITING, attempts=0, next_at=now)
    ).rowcount


def refusal(tx: Connection, study_id: int) -> str:
    """Return what the last destination said that refused for good."""
    query = (
        select(delivery.c.destination, delivery.c.detail)
        .where(delivery.c.state == DEAD, delivery.c.artefact_id.in_(_of(study_id)))
        .order_by(delivery.c.id.desc())
    )
    row = tx.execute(query).first()
    return f"{row.destination}: {row.detail}" if row else ""


def _of(study_id: int) -> Select[int]:
    return (
        select(artefact.c.id)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study_id)
    )


def _settle(tx: Connection, key: int, **values: object) -> None:
    tx.execute(
        update(delivery)
        .where(delivery.c.id == key)
        .values(attempts=delivery.c.attempts + 1, **values)
    )
