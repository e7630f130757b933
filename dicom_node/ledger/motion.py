"""Studies that are on their way: what the handover looks at, each tick."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    select,
    update,
)

from dicom_node.domain import Analysis, StudyUid
from dicom_node.errors import Permanent
from dicom_node.ledger import leases
from dicom_node.ledger.sql import locked
from dicom_node.ledger.tables import (
    IN_MOTION,
    artefact,
    delivery,
    embedding,
    job,
    revision,
    study,
    version,
)
from dicom_node.lifecycle import State


class UnknownStudyError(Permanent):
    """No study with that UID is in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A study that is being received, and what is known of its arrival."""

    key: int
    study_uid: StudyUid
    waiting_since: datetime
    last_at: datetime
    expected: int | None
    asked: bool
    received: int
    last_revision_at: datetime | None


def arriving(tx: Connection) -> list[Arriving]:
    """Return the studies that are being received, most urgent first."""
    received = (
        select(func.count())
        .where(
            version.c.study_id == study.c.id,
            version.c.current,
            version.c.analysis != Analysis.OWN,
        )
        .correlate(study)
        .scalar_subquery()
    )
    query = (
        select(*study.c, received.label("received"), revision.c.at.label("revised_at"))
        .outerjoin(revision, _current)
        .where(study.c.state == State.RECEIVING)
        .order_by(study.c.priority, study.c.id)
    )
    return [
        Arriving(
            key=row.id,
            study_uid=row.study_uid,
            waiting_since=row.waiting_since,
            last_at=row.last_at,
            expected=row.expected,
            asked=row.asked,
            received=row.received,
            last_revision_at=row.revised_at,
        )
        for row in tx.execute(query)
    ]


def arrived_since(tx: Connection, one: Arriving) -> bool:
    """Return whether the study has changed since it was looked at."""
    query = select(study.c.state, study.c.last_at).where(study.c.id == one.key)
    row = tx.execute(locked(query)).one()
    return bool(row.state != State.RECEIVING or row.last_at != one.last_at)


def embedded(tx: Connection, *, now: datetime, key: int | None = None) -> list[int]:
    """Return complete studies whose every frame is embedded or known unreadable.

    With `key`, only that study is looked at. A study of which a worker is concluding
    an older revision has to wait for it; one of which images were purged, until they
    come again: a report needs their headers.
    """
    unsettled = (
        select(embedding.c.id)
        .select_from(embedding.join(version))
        .where(
            version.c.study_id == study.c.id,
            version.c.current,
            embedding.c.state.in_(["pending", "batched"]),
        )
        .correlate(study)
    )
    busy = (
        select(job.c.id)
        .select_from(job.join(revision))
        .where(
            revision.c.study_id == study.c.id,
            job.c.state == leases.LEASED,
            job.c.lease_until >= now,
        )
        .correlate(study)
    )
    gone = purged_images(study.c.id).correlate(study)
    return _keys(
        tx, State.EMBEDDING, key, ~exists(unsettled), ~exists(busy), ~exists(gone)
    )


def purged_images(key: int | ColumnElement[int]) -> Select[int]:
    """Return the query for a study's images that count and whose files were purged."""
    return select(version.c.id).where(
        version.c.study_id == key,
        version.c.current,
        version.c.analysis == Analysis.IMAGE,
        version.c.purged_at.is_not(None),
    )


def missing_images(tx: Connection, key: int) -> str:
    """Return what the study waits for if images were purged; empty if none were."""
    count = len(tx.execute(purged_images(key)).all())
    if not count:
        return ""
    return f"the files of {count} of its images were purged: have it sent again"


def concluded(tx: Connection, *, key: int | None = None) -> list[int]:
    """Return studies of whose current revision every job is done, or has failed."""
    open_jobs = (
        select(job.c.id)
        .select_from(job.join(revision))
        .where(_current, job.c.state.in_([leases.READY, leases.LEASED]))
        .correlate(study)
    )
    return _keys(tx, State.CONCLUDING, key, ~exists(open_jobs))


def delivered(tx: Connection, *, key: int | None = None) -> list[int]:
    """Return studies of whose current revision nothing is left to send or to verify."""
    sent_of = study.alias()  # not correlated: what waits is looked through once
    waiting = (
        select(revision.c.study_id)
        .select_from(delivery.join(artefact).join(job).join(revision))
        .join(
            sent_of,
            and_(
                sent_of.c.id == revision.c.study_id,
                sent_of.c.revision == revision.c.number,
            ),
        )
        .where(delivery.c.state.in_(IN_MOTION))
    )
    if key is not None:
        waiting = waiting.where(revision.c.study_id == key)
    return _keys(tx, State.DELIVERING, key, study.c.id.not_in(waiting))


_current = and_(
    revision.c.study_id == study.c.id, revision.c.number == study.c.revision
)


def _keys(
    tx: Connection, state: State, key: int | None, *conditions: ColumnElement[bool]
) -> list[int]:
    query = (
        select(study.c.id)
        .where(study.c.state == state, *conditions)
        .order_by(study.c.priority, study.c.id)
    )
    if key is not None:
        query = locked(query.where(study.c.id == key))
    return list(tx.execute(query).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A study that somebody named."""

    key: int
    study_uid: StudyUid
    state: State


def find(tx: Connection, name: str) -> Found:
    """Return the study with that Study Instance UID, or with a UID that ends so.

    Raises
    ------
    UnknownStudyError
        If there is no such study, or several.
    """
    columns = (study.c.id, study.c.study_uid, study.c.state)
    exact = tx.execute(select(*columns).where(study.c.study_uid == name)).all()
    ending = study.c.study_uid.endswith(name.lstrip("…"), autoescape=True)
    rows = exact or tx.execute(select(*columns).where(ending).limit(2)).all()
    if not rows:
        raise UnknownStudyError(f"no study {name} is in the ledger")
    if len(rows) > 1:
        raise UnknownStudyError(f"several studies end in {name}: give more of the UID")
    row = rows[0]
    return Found(key=row.id, study_uid=row.study_uid, state=State(row.state))


def revision_of(tx: Connection, key: int) -> int:
    """Return the number of the study's last revision, 0 before the first."""
    query = select(study.c.revision).where(study.c.id == key)
    return int(tx.execute(query).scalar_one())


def any_in(tx: Connection, states: Collection[State]) -> bool:
    """Return whether any study is in one of these states."""
    query = select(study.c.id).where(study.c.state.in_(states)).limit(1)
    return tx.execute(query).first() is not None


def keys_in(tx: Connection, states: Collection[State]) -> list[int]:
    """Return the studies that are in one of these states, the oldest first."""
    query = select(study.c.id).where(study.c.state.in_(states)).order_by(study.c.id)
    return list(tx.execute(query).scalars())


def is_in(tx: Connection, key: int, states: Collection[State]) -> bool:
    """Return whether the study is in one of these states, and hold it there."""
    query = select(study.c.state).where(study.c.id == key)
    return tx.execute(locked(query)).scalar_one() in states


def expect(tx: Connection, key: int, instances: int) -> None:
    """Note how many instances a source says that the study has."""
    tx.execute(update(study).where(study.c.id == key).values(expected=instances))


def ask(tx: Connection, key: int) -> None:
    """Note that somebody said the study is complete."""
    tx.execute(update(study).where(study.c.id == key).values(asked=True))
