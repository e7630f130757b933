"""What is to be delivered where, and what became of it."""

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
    CANCELLED,
    DEAD,
    DELIVERED,
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
        .where(revision.c.study_id == study_id, ~_of_another_patient(study_id))
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


def in_transaction(tx: Connection, transaction_uid: str) -> list[DueDelivery] | None:
    """Return what a request for storage commitment was about, and is not verified.

    None if there was no such request.
    """
    query = _columns().where(delivery.c.transaction_uid == transaction_uid)
    rows = tx.execute(query).all()
    return [_from(row) for row in rows if row.state == SENT] if rows else None


def _deliveries(destination: str, state: str) -> Select[Any]:
    return _columns().where(
        delivery.c.destination == destination, delivery.c.state == state
    )


def _columns() -> Select[Any]:
    return (
        select(
            *delivery.c,
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


def sent(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination said success; it is to be asked for at once."""
    values = {"sent_at": now, "next_at": now, "transaction_uid": None, "missed": False}
    _settle(tx, key, true(), state=SENT, detail=detail, **values)


def delivered(
    tx: Connection, key: int, *, detail: str, now: datetime, verified: str = ""
) -> None:
    """Note that the destination has the object, and how that was seen."""
    values = {"delivered_at": now, "sent_at": now, "verified": verified}
    _settle(tx, key, true(), state=DELIVERED, detail=detail, **values)


def confirmed(
    tx: Connection, key: int, *, detail: str, now: datetime, verified: str
) -> None:
    """Note what asking for an object that was sent led to: it counts as delivered."""
    _verify(
        tx, key, state=DELIVERED, detail=detail, delivered_at=now, verified=verified
    )


def ask_again(
    tx: Connection,
    key: int,
    *,
    detail: str,
    until: datetime,
    missed: bool = False,
    transaction_uid: str | None = None,
) -> None:
    """Note when to ask for an object again.

    Parameters
    ----------
    missed
        Whether it was not there.
    transaction_uid
        Of a request for storage commitment that was made for it; empty if another
        one is to be made; None to leave what there is.
    """
    values: dict[str, object] = {"detail": detail, "next_at": until}
    if missed:
        values["missed"] = True
    if transaction_uid is not None:
        values["transaction_uid"] = transaction_uid or None
    _verify(tx, key, **values)


def lost(
    tx: Connection, key: int, *, detail: str, now: datetime, until: datetime
) -> None:
    """Note that the destination does not have what it said it stored: send it again.

    What names another patient than its study does by now is not sent again, nor what
    a note has rejected.
    """
    study_id, uid, destination = _named(tx, key)
    wrong = _of(study_id).where(
        _of_another_patient(study_id) | _rejected(), artefact.c.id == _own(key)
    )
    state = CANCELLED if tx.execute(wrong).first() else WAITING
    values = {"next_at": until, "transaction_uid": None}
    if _verify(tx, key, state=state, detail=detail, **values):
        note(tx, now, "lost", f"{destination}: {detail}", study_id=study_id, uid=uid)


def postpone(tx: Connection, key: int, *, detail: str, until: datetime) -> None:
    """Note a try that failed, and when the next one is due.

    Nothing, where the delivery was cancelled meanwhile.
    """
    _settle(tx, key, delivery.c.state == WAITING, detail=detail, next_at=until)


def give_up(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination refused for good.

    Nothing, where the delivery was cancelled or sent meanwhile.
    """
    dead = {"state": DEAD, "detail": detail, "dead_at": now}
    if _settle(tx, key, delivery.c.state == WAITING, **dead):
        _mourn(tx, key, detail=detail, now=now)


def disprove(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    """Note that the destination will not have what it said it stored.

    Nothing, where that was settled meanwhile. A question is no attempt.
    """
    if _verify(tx, key, state=DEAD, detail=detail, dead_at=now):
        _mourn(tx, key, detail=detail, now=now)


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


def resend(
    tx: Connection, study_id: int, *, now: datetime, delivered_too: bool = False
) -> int:
    """Try again, at once, what waits or was given up; return how many objects.

    Parameters
    ----------
    delivered_too
        Also what the destinations had: they may have lost it since.
    """
    right = _of(study_id).where(~_of_another_patient(study_id), ~_rejected())
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


def _mourn(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    study_id, uid, destination = _named(tx, key)
    text = f"{destination}: {detail}"
    note(tx, now, "undeliverable", text, study_id=study_id, uid=uid)


def _of(study_id: int) -> Select[int]:
    return (
        select(artefact.c.id)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study_id)
    )


def _own(key: int) -> Any:
    return select(delivery.c.artefact_id).where(delivery.c.id == key).scalar_subquery()


def _named(tx: Connection, key: int) -> tuple[int, str, str]:
    """Return a delivery's study, SOP Instance UID and destination."""
    row = tx.execute(
        select(revision.c.study_id, artefact.c.sop_instance_uid, delivery.c.destination)
        .join(job, job.c.revision_id == revision.c.id)
        .join(artefact, artefact.c.job_id == job.c.id)
        .join(delivery, delivery.c.artefact_id == artefact.c.id)
        .where(delivery.c.id == key)
    ).one()
    return row.study_id, row.sop_instance_uid, row.destination


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


def _settle(
    tx: Connection, key: int, where: ColumnElement[bool], **values: object
) -> bool:
    settled = (
        update(delivery)
        .where(delivery.c.id == key, where)
        .values(attempts=delivery.c.attempts + 1, **values)
    )
    return tx.execute(settled).rowcount == 1


def _verify(tx: Connection, key: int, **values: object) -> bool:
    """Change a delivery that was sent and is not verified; False if it is none."""
    changed = (
        update(delivery)
        .where(delivery.c.id == key, delivery.c.state == SENT)
        .values(**values)
    )
    return tx.execute(changed).rowcount == 1
