"""What became of objects on their way: each attempt, each question, as it is noted.

What follows from an answer is decided elsewhere (`dicom_node.settling`); here it
becomes a state of the delivery, unless that was settled meanwhile.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, true, update

from dicom_node.ledger.events import note
from dicom_node.ledger.outbox import artefacts_of, not_to_be_sent
from dicom_node.ledger.tables import (
    CANCELLED,
    DEAD,
    DELIVERED,
    SENT,
    WAITING,
    artefact,
    delivery,
    job,
    revision,
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
    wrong = artefacts_of(study_id).where(
        not_to_be_sent(study_id), artefact.c.id == _own(key)
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


def _mourn(tx: Connection, key: int, *, detail: str, now: datetime) -> None:
    study_id, uid, destination = _named(tx, key)
    text = f"{destination}: {detail}"
    note(tx, now, "undeliverable", text, study_id=study_id, uid=uid)


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
