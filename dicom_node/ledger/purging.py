"""Which files are still there, what speaks for keeping them, and that they were purged.

A row that says purged comes before its file goes, so that after a crash there may be a
file too many, never one too few.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from dicom_node.domain import StudyUid
from dicom_node.ledger import leases
from dicom_node.ledger.events import note
from dicom_node.ledger.sql import locked
from dicom_node.ledger.tables import (
    artefact,
    delivery,
    embedding,
    job,
    revision,
    study,
    version,
)
from dicom_node.lifecycle import State


class Shelf(StrEnum):
    """Where files lie that can be purged."""

    SPOOL = "spool"
    """Received instances."""
    OUTBOX = "outbox"
    """Results."""


_TABLES = {Shelf.SPOOL: version, Shelf.OUTBOX: artefact}


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """How one object stands at one destination.

    Parameters
    ----------
    state
        Of its delivery.
    verified
        Whether it was seen that the destination has it.
    """

    destination: str
    state: str
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What speaks for keeping a study's files, or against it.

    Parameters
    ----------
    last_at
        When anything happened last: an arrival, a conclusion, a delivery.
    unfinished
        Frames and jobs that somebody works on, or will.
    journeys
        Of every object that was ever put into the outbox.
    nowhere
        Results of which no object was ever put there.
    """

    key: int
    study_uid: StudyUid
    state: State
    last_at: datetime
    unfinished: int = 0
    journeys: tuple[Journey, ...] = ()
    nowhere: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that is there: the ledger's key, path in its shelf, bytes."""

    key: int
    path: str
    size: int


def holders(
    tx: Connection,
    shelf: Shelf,
    *,
    after: int,
    limit: int,
    states: Iterable[State] = State,
    before: datetime | None = None,
) -> list[int]:
    """Return studies in one of these states that have files there, by rising key.

    Parameters
    ----------
    after
        The key after which to begin.
    before
        Only studies of which nothing has arrived since.
    """
    query = select(study.c.id).where(
        study.c.id > after,
        study.c.state.in_(list(states)),
        _owned(shelf).where(_TABLES[shelf].c.purged_at.is_(None)).exists(),
    )
    if before is not None:
        query = query.where(study.c.last_at <= before)
    return list(tx.execute(query.order_by(study.c.id).limit(limit)).scalars())


def hold(tx: Connection, key: int) -> None:
    """Let nobody move the study on before the commit."""
    tx.execute(locked(select(study.c.id).where(study.c.id == key)))


def standing(tx: Connection, key: int) -> Standing:
    """Return how the study stands."""
    row = tx.execute(select(study).where(study.c.id == key)).one()
    objects = tx.execute(_objects_of(key)).all()
    reached = {o.job_id for o in objects if o.destination is not None}
    times = [row.last_at, *_times(tx, key), *(o.delivered_at for o in objects)]
    return Standing(
        key=key,
        study_uid=StudyUid(row.study_uid),
        state=State(row.state),
        last_at=max(at for at in times if at is not None),
        unfinished=_unfinished(tx, key),
        journeys=tuple(
            Journey(destination=o.destination, state=o.state, verified=bool(o.verified))
            for o in objects
            if o.destination is not None
        ),
        nowhere=len({o.job_id for o in objects} - reached),
    )


def files(tx: Connection, shelf: Shelf, key: int) -> list[KeptFile]:
    """Return the study's files that are there."""
    table = _TABLES[shelf]
    mine = _owned(shelf).where(table.c.purged_at.is_(None), study.c.id == key)
    rows = tx.execute(mine.add_columns(study.c.id).order_by(table.c.id))
    return [KeptFile(key=row.id, path=row.path, size=row.size) for row in rows]


def purged(
    tx: Connection,
    shelf: Shelf,
    key: int,
    gone: Sequence[KeptFile],
    *,
    now: datetime,
) -> None:
    """Note that these files of a study are there no more."""
    table = _TABLES[shelf]
    keys = [file.key for file in gone]
    mine = table.c.id.in_(keys) & table.c.purged_at.is_(None)
    tx.execute(update(table).where(mine).values(purged_at=now))
    size = sum(file.size for file in gone)
    detail = f"{shelf}: {len(gone)} files, {size} bytes, delivered and verified"
    note(tx, now, "purged", detail, study_id=key)


def last_purged(tx: Connection, shelf: Shelf, *, limit: int) -> list[str]:
    """Return the paths of files that were purged last."""
    table = _TABLES[shelf]
    query = select(table.c.path).where(table.c.purged_at.is_not(None))
    newest = query.order_by(table.c.purged_at.desc()).limit(limit)
    return list(tx.execute(newest).scalars())


def found_again(tx: Connection, path: str) -> bool:
    """Note that a file of the spool is there after all; False if it never was purged."""
    back = (version.c.path == path) & version.c.purged_at.is_not(None)
    changed = tx.execute(update(version).where(back).values(purged_at=None))
    return changed.rowcount > 0


def _owned(shelf: Shelf) -> Select[Any]:
    """Return the query for the files on a shelf of a study that is asked for outside."""
    table = _TABLES[shelf]
    columns = select(table.c.id, table.c.path, table.c.size)
    if shelf is Shelf.SPOOL:
        return columns.where(version.c.study_id == study.c.id).correlate(study)
    return (
        columns.join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(revision.c.study_id == study.c.id)
        .correlate(study)
    )


def _objects_of(key: int) -> Select[Any]:
    return (
        select(
            artefact.c.job_id,
            delivery.c.destination,
            delivery.c.state,
            delivery.c.verified,
            delivery.c.delivered_at,
        )
        .select_from(artefact)
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .outerjoin(delivery, delivery.c.artefact_id == artefact.c.id)
        .where(revision.c.study_id == key)
    )


def _times(tx: Connection, key: int) -> Sequence[datetime | None]:
    query = (
        select(func.max(revision.c.at), func.max(job.c.finished_at))
        .select_from(revision.outerjoin(job))
        .where(revision.c.study_id == key)
    )
    return tuple(tx.execute(query).one())


def _unfinished(tx: Connection, key: int) -> int:
    jobs = (
        select(func.count())
        .select_from(job.join(revision))
        .where(
            revision.c.study_id == key, job.c.state.in_([leases.READY, leases.LEASED])
        )
    )
    waiting = (embedding.c.state == "pending") & version.c.current
    frames = (
        select(func.count())
        .select_from(embedding.join(version))
        .where(version.c.study_id == key, waiting | (embedding.c.state == "batched"))
    )
    return int(tx.execute(jobs).scalar_one() + tx.execute(frames).scalar_one())
