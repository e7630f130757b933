"""What is to be delivered where: put in, taken out, sent again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    or_,
    select,
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
from dicom_node.ledger.rejections import recipients
from dicom_node.ledger.sql import insert_ignore, locked
from dicom_node.ledger.tables import (
    CANCELLED,
    DEAD,
    DELIVERED,
    IN_MOTION,
    SENT,
    WAITING,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A destination, and the kinds of object that it wants."""

    destination: str
    objects: frozenset[ObjectKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """An object that should be sent now, or asked for.

    Parameters
    ----------
    sent_at
        When the destination said that it stored it; None before.
    asked
        Whether it was asked to commit to it, and has not reported.
    missed
        Whether it said since that it does not have it.
    """

    delivery: int
    destination: str
    attempts: int
    study_uid: StudyUid
    kind: ObjectKind
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    path: str
    sent_at: datetime | None = None
    asked: bool = False
    missed: bool = False


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
        .where(
            revision.c.study_id == study_id,
            ~_of_another_patient(study_id),
            artefact.c.purged_at.is_(None),
        )
        .order_by(artefact.c.id)
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
    query = _deliveries(destination, WAITING).where(
        study.c.state != State.HELD, ~_precedes_what_it_rejects()
    )
    return _due(tx, query, now=now, limit=limit)


def unverified(
    tx: Connection, destination: str, *, now: datetime, limit: int
) -> list[DueDelivery]:
    """Return what was sent there and is to be asked for now, urgent studies first."""
    return _due(tx, _deliveries(destination, SENT), now=now, limit=limit)


def hold(
    tx: Connection, due: Sequence[DueDelivery], *, now: datetime, until: datetime
) -> list[DueDelivery]:
    """Return those that are still due, and let nobody else see them before `until`.

    Of two nodes that look at the same moment one gets each.
    """
    keys = [one.delivery for one in due]
    taken = tx.execute(
        update(delivery)
        .where(
            delivery.c.id.in_(keys),
            delivery.c.next_at <= now,
            delivery.c.state.in_(IN_MOTION),
        )
        .values(next_at=until)
        .returning(delivery.c.id)
    )
    held = set(taken.scalars())
    return [one for one in due if one.delivery in held]


def in_transaction(tx: Connection, transaction_uid: str) -> list[DueDelivery] | None:
    """Return what a request for storage commitment was about, and is not verified.

    None if there was no such request.
    """
    query = outgoing().where(delivery.c.transaction_uid == transaction_uid)
    rows = tx.execute(query).all()
    return [_from(row) for row in rows if row.state == SENT] if rows else None


def _deliveries(destination: str, state: str) -> Select[Any]:
    return outgoing().where(
        delivery.c.destination == destination, delivery.c.state == state
    )


def outgoing() -> Select[Any]:
    """Return the query for deliveries, each with its object, revision and study."""
    return (
        select(
            *delivery.c,
            artefact.c.kind,
            artefact.c.sop_class_uid,
            artefact.c.sop_instance_uid,
            artefact.c.sha256,
            artefact.c.path,
            revision.c.number,
            study.c.study_uid,
        )
        .join(artefact, artefact.c.id == delivery.c.artefact_id)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .join(study, study.c.id == revision.c.study_id)
    )


def _due(
    tx: Connection, query: Select[Any], *, now: datetime, limit: int
) -> list[DueDelivery]:
    due_now = (
        query.where(delivery.c.next_at <= now)
        .order_by(study.c.priority, artefact.c.job_id, delivery.c.id)
        .limit(limit)
    )
    return [_from(row) for row in tx.execute(due_now)]


def _from(row: Any) -> DueDelivery:
    return DueDelivery(
        delivery=row.id,
        destination=row.destination,
        attempts=row.attempts,
        study_uid=row.study_uid,
        kind=ObjectKind(row.kind),
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        sha256=row.sha256,
        path=row.path,
        sent_at=row.sent_at,
        asked=bool(row.transaction_uid),
        missed=row.missed,
    )


def cancel(tx: Connection, study_id: int, *, detail: str) -> None:
    """Take what waits of the study out of the outbox."""
    tx.execute(
        update(delivery)
        .where(
            delivery.c.state == WAITING,
            delivery.c.artefact_id.in_(artefacts_of(study_id)),
        )
        .values(state=CANCELLED, detail=detail)
    )


def withdraw(tx: Connection, study_id: int, *, detail: str) -> None:
    """Take out of the outbox what names another patient than the study now does."""
    wrong = artefacts_of(study_id).where(_of_another_patient(study_id))
    tx.execute(
        update(delivery)
        .where(delivery.c.state == WAITING, delivery.c.artefact_id.in_(wrong))
        .values(state=CANCELLED, detail=detail)
    )


def resend(
    tx: Connection, study_id: int, *, now: datetime, delivered_too: bool = False
) -> int:
    """Try again, at once, what waits or was given up; return how many objects.

    What was purged cannot be sent.

    Parameters
    ----------
    delivered_too
        Also what the destinations had: they may have lost it since.
    """
    # nothing of the study is purged before this is committed
    tx.execute(locked(select(study.c.id).where(study.c.id == study_id)))
    right = artefacts_of(study_id).where(
        ~not_to_be_sent(study_id), artefact.c.purged_at.is_(None)
    )
    states = [WAITING, DEAD, *([SENT, DELIVERED] if delivered_too else [])]
    return tx.execute(
        update(delivery)
        .where(delivery.c.state.in_(states), delivery.c.artefact_id.in_(right))
        .values(
            state=WAITING,
            attempts=0,
            next_at=now,
            dead_at=None,
            delivered_at=None,
            verified="",
            transaction_uid=None,
        )
    ).rowcount


def refusal(tx: Connection, study_id: int) -> str:
    """Return who refused the current revision for good, and why; empty if nobody."""
    current = (
        artefacts_of(study_id)
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


def artefacts_of(study_id: int) -> Select[int]:
    """Return the keys of everything that was ever composed of a study."""
    return (
        select(artefact.c.id)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study_id)
    )


def not_to_be_sent(study_id: int) -> ColumnElement[bool]:
    """Return whether an object is another patient's by now, or was rejected."""
    return or_(_of_another_patient(study_id), _rejected())


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


def _rejected() -> ColumnElement[bool]:
    """Return whether a note takes the object back."""
    return exists().where(rejection.c.artefact_id == artefact.c.id).correlate(artefact)


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
