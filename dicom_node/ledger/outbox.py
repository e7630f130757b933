"""What is to be delivered where, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    select,
    true,
    update,
)

from dicom_node.domain import (
    Analysis,
    ObjectKind,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.ledger.events import note
from dicom_node.ledger.rejections import recipients
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import (
    artefact,
    delivery,
    job,
    rejection,
    revision,
    revision_input,
    study,
    version,
)
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
    """Put every object of the study into the outbox of every destination.

    An object that names another patient than the study now does is left out, unless
    it was put there before. A rejection note goes only where what it rejects went.
    """
    query = (
        select(artefact.c.id, artefact.c.kind)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study_id, ~_of_another_patient(study_id))
    )
    found = tx.execute(query).all()
    notes = [row.id for row in found if row.kind == ObjectKind.REJECTION]
    notified = recipients(tx, notes)
    rows = [
        {
            "artefact_id": row.id,
            "destination": to.destination,
            "state": WAITING,
            "attempts": 0,
            "next_at": now,
            "detail": "",
        }
        for row in found
        for to in addresses
        if row.kind in to.objects
        and (row.kind != ObjectKind.REJECTION or (row.id, to.destination) in notified)
    ]
    insert_ignore(tx, delivery, rows)


def due(
    tx: Connection, destination: str, *, now: datetime, limit: int
) -> list[DueDelivery]:
    """Return what to send there now, urgent studies first.

    Held studies wait, and rejection notes until what they reject has arrived.
    """
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
            ~_precedes_what_it_rejects(),
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
    _settle(tx, key, true(), state=DELIVERED, detail=detail, delivered_at=now)


def postpone(tx: Connection, key: int, *, detail: str, until: datetime) -> None:
    """Note a try that failed, and when the next one is due.

    Nothing, where the delivery was cancelled meanwhile.
    """
    _settle(tx, key, delivery.c.state == WAITING, detail=detail, next_at=until)


def give_up(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination refused for good.

    Nothing, where the delivery was cancelled meanwhile.
    """
    if not _settle(tx, key, delivery.c.state == WAITING, state=DEAD, detail=detail):
        return
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


def withdraw(tx: Connection, study_id: int, *, detail: str) -> None:
    """Take out of the outbox what names another patient than the study now does."""
    wrong = _of(study_id).where(_of_another_patient(study_id))
    tx.execute(
        update(delivery)
        .where(delivery.c.state == WAITING, delivery.c.artefact_id.in_(wrong))
        .values(state=CANCELLED, detail=detail)
    )


def resend(tx: Connection, study_id: int, *, now: datetime) -> int:
    """Try again, at once, what waits or was given up; return how many objects."""
    right = _of(study_id).where(~_of_another_patient(study_id))
    return tx.execute(
        update(delivery)
        .where(delivery.c.state.in_([WAITING, DEAD]), delivery.c.artefact_id.in_(right))
        .values(state=WAITING, attempts=0, next_at=now)
    ).rowcount


def refusal(tx: Connection, study_id: int) -> str:
    """Return who refused the current revision for good, and why; empty if nobody."""
    current = (
        _of(study_id)
        .join(study, study.c.id == revision.c.study_id)
        .where(revision.c.number == study.c.revision)
    )
    query = (
        select(delivery.c.destination, delivery.c.detail)
        .where(delivery.c.state == DEAD, delivery.c.artefact_id.in_(current))
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


def _of_another_patient(study_id: int) -> ColumnElement[bool]:
    """Return whether a revision was of a patient whom no current image has."""
    patients = select(version.c.patient).where(
        version.c.study_id == study_id,
        version.c.current,
        version.c.analysis == Analysis.IMAGE,
    )
    of_others = (
        exists()
        .where(
            revision_input.c.revision_id == revision.c.id,
            version.c.id == revision_input.c.version_id,
            version.c.patient.not_in(patients),
        )
        .correlate(revision)
    )
    # a note takes back what was wrong already: that stays true
    return and_(of_others, artefact.c.kind != ObjectKind.REJECTION)


def _precedes_what_it_rejects() -> ColumnElement[bool]:
    """Return whether what a note rejects is still on its way to the same place."""
    rejected = delivery.alias()
    return (
        exists()
        .where(
            rejection.c.note_id == delivery.c.artefact_id,
            rejected.c.artefact_id == rejection.c.artefact_id,
            rejected.c.destination == delivery.c.destination,
            rejected.c.state == WAITING,
        )
        .correlate(delivery)
    )


def _settle(
    tx: Connection, key: int, where: ColumnElement[bool], **values: object
) -> bool:
    settled = (
        update(delivery)
        .where(delivery.c.id == key, where)
        .values(attempts=delivery.c.attempts + 1, **values)
    )
    return tx.execute(settled).rowcount == 1
