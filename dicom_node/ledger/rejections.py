"""What earlier results left at destinations, and which note takes it back.

IHE IOCM: a rejection note names the instances that no longer count. Each of ours
rejects objects of one patient, and goes where they went.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    exists,
    func,
    or_,
    select,
    tuple_,
)

from dicom_node.domain import (
    ObjectKind,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.ledger.leases import DONE
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import (
    CANCELLED,
    artefact,
    delivery,
    job,
    rejection,
    revision,
    revision_input,
    version,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerObject:
    """An object of an earlier result that a destination has, or may have.

    Parameters
    ----------
    artefact
        The ledger's key.
    path
        Where its file lies, relative to the outbox.
    patient
        Digest of the patient that it was written for.
    superseded
        Whether it is of the pack's last result on this patient: the one that comes
        before the job's.
    purged
        Whether its file is there no more: then no note can be written of it.
    """

    artefact: int
    kind: ObjectKind
    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    path: str
    patient: Sha256
    superseded: bool
    purged: bool = False


def former_objects(
    tx: Connection, job_id: int, patient: Sha256
) -> tuple[FormerObject, ...]:
    """Return what a job's result supersedes or takes back, in the order of writing.

    No note is among it, and nothing that a note rejects already. Objects of a pack that
    is not run any more fall to the first job of the revision that is open.

    Parameters
    ----------
    patient
        Digest of the patient that the job's revision is about.
    """
    rows = _former_rows(tx, _job(tx, job_id))
    own = [row.former for row in rows if row.is_own and row.patient == patient]
    return tuple(
        FormerObject(
            artefact=row.id,
            kind=ObjectKind(row.kind),
            series_uid=row.series_uid,
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            path=row.path,
            patient=row.patient,
            superseded=bool(own) and row.former == max(own),
            purged=row.purged_at is not None,
        )
        for row in rows
    )


def reject(tx: Connection, uid: SopInstanceUid, artefacts: Sequence[int]) -> None:
    """Note which objects the rejection note of that UID takes back."""
    query = select(artefact.c.id).where(artefact.c.sop_instance_uid == uid)
    note = tx.execute(query).scalar_one()
    rows = [{"note_id": note, "artefact_id": key} for key in artefacts]
    insert_ignore(tx, rejection, rows)


def recipients(tx: Connection, notes: Sequence[int]) -> set[tuple[int, str]]:
    """Return which note belongs to which destination: those of what it rejects."""
    query = (
        select(rejection.c.note_id, delivery.c.destination)
        .join(delivery, delivery.c.artefact_id == rejection.c.artefact_id)
        .where(rejection.c.note_id.in_(notes), _may_be_there())
        .distinct()
    )
    return {(row.note_id, row.destination) for row in tx.execute(query)}


def _may_be_there() -> ColumnElement[bool]:
    """Return whether the object lies there, or an attempt may have brought it there."""
    return or_(delivery.c.state != CANCELLED, delivery.c.attempts > 0)


def _former_rows(tx: Connection, this: Any) -> list[Any]:
    is_own = (job.c.pack == this.pack).label("is_own")
    run_here = select(job.c.pack).where(job.c.revision_id == this.revision_id)
    query = (
        select(artefact, job.c.id.label("former"), is_own, _patient().label("patient"))
        .join(job, job.c.id == artefact.c.job_id)
        .join(revision, revision.c.id == job.c.revision_id)
        .where(
            revision.c.study_id == this.study_id,
            tuple_(revision.c.number, job.c.id) < tuple_(this.number, this.id),
            is_own if this.id != this.first else is_own | job.c.pack.not_in(run_here),
            artefact.c.kind != ObjectKind.REJECTION,
            exists().where(delivery.c.artefact_id == artefact.c.id, _may_be_there()),
            ~exists().where(rejection.c.artefact_id == artefact.c.id),
        )
        .order_by(artefact.c.id)
    )
    return list(tx.execute(query).all())


def _job(tx: Connection, job_id: int) -> Any:
    first = job.alias()
    query = (
        select(
            job.c.id,
            job.c.pack,
            job.c.revision_id,
            revision.c.study_id,
            revision.c.number,
            select(func.min(first.c.id))
            .where(first.c.revision_id == job.c.revision_id, first.c.state != DONE)
            .scalar_subquery()
            .label("first"),
        )
        .join(revision, revision.c.id == job.c.revision_id)
        .where(job.c.id == job_id)
    )
    return tx.execute(query).one()


def _patient() -> ScalarSelect[str]:
    """Return whom a revision is about: instances of several patients make none."""
    return (
        select(func.min(version.c.patient))
        .join(revision_input, revision_input.c.version_id == version.c.id)
        .where(revision_input.c.revision_id == revision.c.id)
        .correlate(revision)
        .scalar_subquery()
    )
