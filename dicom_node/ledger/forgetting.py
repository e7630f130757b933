"""What the ledger holds of a patient or a study, and how it is taken out.

Patients are known by a digest alone (`dicom_node.domain.identity.patient_digest`). A
study that has instances of other patients, too, keeps those.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, delete, func, select, update

from dicom_node.domain import Sha256, StudyUid
from dicom_node.ledger.events import note
from dicom_node.ledger.leases import DROPPED, LEASED, READY
from dicom_node.ledger.sql import locked
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import (
    CANCELLED,
    DELIVERED,
    IN_MOTION,
    SENT,
    WAITING,
    artefact,
    delivery,
    embedding,
    event,
    job,
    quarantine,
    rejection,
    revision,
    revision_input,
    study,
    version,
)
from dicom_node.lifecycle import Event, State

AT_ONCE = 500
"""Keys in one statement: every database takes so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the ledger holds of a patient, or of a study.

    Parameters
    ----------
    by_study
        Study Instance UIDs, and how many instances each has of it.
    versions, sop_instance_uids, spooled
        Keys of the instances, their UIDs, and where they lie in the spool.
    kept
        Where every object that was composed of them lies in the outbox.
    moving
        Deliveries that are to be sent, or verified.
    destinations
        Who was sent any of it, or may have been.
    """

    by_study: tuple[tuple[StudyUid, int], ...] = ()
    versions: tuple[int, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
    spooled: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    embeddings: int = 0
    results: int = 0
    deliveries: int = 0
    moving: int = 0
    destinations: tuple[str, ...] = ()

    @property
    def studies(self) -> tuple[StudyUid, ...]:
        """Return the studies that any of it is in."""
        return tuple(uid for uid, _ in self.by_study)


def held_of_patient(tx: Connection, patient: Sha256) -> Held:
    """Return what there is of the patient with that digest."""
    return _held(tx, _instances().where(version.c.patient == patient))


def held_of_study(tx: Connection, key: int) -> Held:
    """Return what there is of a study, whosoever it is."""
    found = _held(tx, _instances().where(version.c.study_id == key))
    if found.studies:
        return found
    uid = tx.execute(select(study.c.study_uid).where(study.c.id == key)).scalar_one()
    return Held(by_study=((StudyUid(uid), 0),))


def known_files(tx: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """Return the paths in the spool, and those in the outbox, that the ledger knows."""
    spooled = tx.execute(select(version.c.path)).scalars()
    return frozenset(spooled), frozenset(tx.execute(select(artefact.c.path)).scalars())


def stop(tx: Connection, held: Held) -> None:
    """Take what is held from everybody who works on it or sends it.

    Its instances count no longer: nothing new is composed of them.
    """
    for some in _portions(held.studies):
        query = select(study.c.id).where(study.c.study_uid.in_(some))
        tx.execute(locked(query.order_by(study.c.id))).all()
    for some in _portions(held.versions):
        tx.execute(update(version).where(version.c.id.in_(some)).values(current=False))
    composed = _composed(tx, held.versions)
    for some in _portions(composed.jobs):
        unfinished = job.c.state.in_([READY, LEASED])
        mine = job.c.id.in_(some) & unfinished
        tx.execute(update(job).where(mine).values(state=DROPPED))
    for some in _portions(composed.artefacts):
        moving = delivery.c.artefact_id.in_(some) & delivery.c.state.in_(IN_MOTION)
        tx.execute(update(delivery).where(moving).values(state=CANCELLED))


def remove(tx: Connection, held: Held, *, at: datetime) -> None:
    """Delete every row of what is held, and say in the journal how much it was."""
    composed = _composed(tx, held.versions)
    _delete(tx, delivery.c.artefact_id, composed.artefacts)
    _delete(tx, rejection.c.artefact_id, composed.artefacts)
    _delete(tx, rejection.c.note_id, composed.artefacts)
    _delete(tx, artefact.c.id, composed.artefacts)
    _delete(tx, job.c.id, composed.jobs)
    _delete(tx, revision_input.c.revision_id, composed.revisions)
    _delete(tx, revision.c.id, composed.revisions)
    _delete(tx, embedding.c.version_id, held.versions)
    _delete(tx, quarantine.c.version_id, held.versions)
    _delete(tx, version.c.id, held.versions)
    _delete(tx, event.c.sop_instance_uid, held.sop_instance_uids)
    for uid in held.studies:
        _let_go(tx, uid, at)
    detail = f"{len(held.studies)} studies, {len(held.versions)} instances"
    note(tx, at, "forgotten", detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Composed:
    revisions: Sequence[int]
    jobs: Sequence[int]
    artefacts: Sequence[int]


def _instances() -> Select[Any]:
    return (
        select(
            version.c.id, version.c.sop_instance_uid, version.c.path, study.c.study_uid
        )
        .join(study, study.c.id == version.c.study_id)
        .order_by(study.c.study_uid, version.c.id)
    )


def _held(tx: Connection, instances: Select[Any]) -> Held:
    rows = tx.execute(instances).all()
    keys = [row.id for row in rows]
    composed = _composed(tx, keys)
    states = [
        row
        for some in _portions(composed.artefacts)
        for row in tx.execute(select(delivery).where(delivery.c.artefact_id.in_(some)))
    ]
    sent = {
        row.destination
        for row in states
        if row.state in {SENT, DELIVERED} or row.attempts
    }
    return Held(
        by_study=tuple(Counter(StudyUid(row.study_uid) for row in rows).items()),
        versions=tuple(keys),
        sop_instance_uids=tuple(dict.fromkeys(row.sop_instance_uid for row in rows)),
        spooled=tuple(row.path for row in rows),
        kept=tuple(_values(tx, artefact.c.path, artefact.c.id, composed.artefacts)),
        embeddings=_count(tx, embedding.c.version_id, keys),
        results=len(composed.jobs),
        deliveries=len(states),
        moving=sum(row.state in {WAITING, SENT} for row in states),
        destinations=tuple(sorted(sent)),
    )


def _composed(tx: Connection, versions: Collection[int]) -> _Composed:
    """Return what was concluded of these instances, and composed of that.

    Also the notes that reject any of it: they lie in the same chart.
    """
    inputs, of_input = revision_input.c.revision_id, revision_input.c.version_id
    revisions = sorted(set(_values(tx, inputs, of_input, versions)))
    jobs = list(_values(tx, job.c.id, job.c.revision_id, revisions))
    objects = list(_values(tx, artefact.c.id, artefact.c.job_id, jobs))
    notes = _values(tx, rejection.c.note_id, rejection.c.artefact_id, objects)
    return _Composed(
        revisions=revisions, jobs=jobs, artefacts=sorted({*objects, *notes})
    )


def _let_go(tx: Connection, uid: StudyUid, at: datetime) -> None:
    """Delete the study where nothing of it is left; else let it go on with the rest."""
    query = select(study.c.id, study.c.state).where(study.c.study_uid == uid)
    row = tx.execute(locked(query)).first()
    if row is None:
        return
    of_it = version.c.study_id == row.id
    left = tx.execute(select(version.c.id).where(of_it).limit(1)).first()
    if left is None:
        _delete_study(tx, row.id)
        return
    mine = revision.c.study_id == row.id
    last = tx.execute(select(func.max(revision.c.number)).where(mine)).scalar_one()
    tx.execute(update(study).where(study.c.id == row.id).values(revision=last or 0))
    _go_on(tx, row.id, State(row.state), at)


def _delete_study(tx: Connection, key: int) -> None:
    """Delete a study without instances: only what has none may be left of it."""
    revisions = list(_values(tx, revision.c.id, revision.c.study_id, [key]))
    jobs = list(_values(tx, job.c.id, job.c.revision_id, revisions))
    _delete(tx, job.c.id, jobs)
    _delete(tx, revision.c.id, revisions)
    _delete(tx, event.c.study_id, [key])
    _delete(tx, study.c.id, [key])


def _go_on(tx: Connection, key: int, state: State, at: datetime) -> None:
    detail = "instances of it were forgotten"
    current = select(version.c.patient).where(
        version.c.study_id == key, version.c.current
    )
    patients = set(tx.execute(current).scalars())
    if state is State.HELD and len(patients) <= 1:
        happen(tx, key, Event.AGREED, detail=detail, at=at)
    elif state is not State.HELD and patients:
        happen(tx, key, Event.INSTANCE, detail=detail, at=at)


def _values(
    tx: Connection, wanted: Column[Any], column: Column[Any], keys: Collection[Any]
) -> Iterator[Any]:
    for some in _portions(keys):
        yield from tx.execute(select(wanted).where(column.in_(some))).scalars()


def _count(tx: Connection, column: Column[Any], keys: Collection[Any]) -> int:
    return sum(
        tx.execute(
            select(func.count()).select_from(column.table).where(column.in_(some))
        ).scalar_one()
        for some in _portions(keys)
    )


def _delete(tx: Connection, column: Column[Any], keys: Collection[Any]) -> None:
    for some in _portions(keys):
        tx.execute(delete(column.table).where(column.in_(some)))


def _portions(keys: Collection[Any]) -> Iterator[Sequence[Any]]:
    every = list(keys)
    yield from (every[at : at + AT_ONCE] for at in range(0, len(every), AT_ONCE))
