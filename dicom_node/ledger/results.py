"""Jobs, each one revision of a study under one pack, and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    Connection,
    select,
    update,
)

from dicom_node.domain import (
    Flag,
    InputFile,
    Lease,
    ObjectKind,
    Predecessor,
    Result,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
    Urgency,
)
from dicom_node.ledger import leases
from dicom_node.ledger.events import note
from dicom_node.ledger.exams import exam_of_row
from dicom_node.ledger.rejections import FormerObject, former_objects, reject
from dicom_node.ledger.revisions import ROUTINE_RANK
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import (
    artefact,
    embedding,
    job,
    revision,
    revision_input,
    study,
    version,
)

_RESULT = TypeAdapter(Result)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEmbedding:
    """What the ledger holds of one frame: a vector, or why there is none.

    Parameters
    ----------
    geometry
        As the worker wrote it; empty for what was embedded before it was kept.
    """

    version: int
    frame: int
    vector: bytes
    reason: str
    geometry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """All that a worker needs to conclude one revision with one pack.

    Parameters
    ----------
    objects
        The kinds of object that destinations want.
    former
        What earlier results left at destinations, and no note has rejected.
    """

    study_uid: StudyUid
    revision: int
    outcome: int
    device_uid: str
    patient: Sha256
    attributes: Sha256
    files: tuple[InputFile, ...]
    embeddings: tuple[StoredEmbedding, ...]
    predecessors: tuple[Predecessor, ...]
    objects: frozenset[ObjectKind]
    former: tuple[FormerObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An encoded object that lies in the outbox folder.

    Parameters
    ----------
    rejects
        The ledger's keys of the former objects that it takes back.
    """

    kind: ObjectKind
    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    path: str
    size: int
    rejects: tuple[int, ...] = ()


def job_device(tx: Connection, job_id: int) -> str | None:
    """Return the Device UID of the pack that a job asks for.

    None if there is no such job: the message came from another ledger.
    """
    query = select(job.c.device_uid).where(job.c.id == job_id)
    return tx.execute(query).scalar_one_or_none()


def job_input(tx: Connection, job_id: int, *, encoder: Sha256) -> JobInput:
    """Return what a job is about.

    Parameters
    ----------
    encoder
        Digest of the `EncoderKey` whose embeddings the pack needs.
    """
    query = (
        select(job, revision.c.number, revision.c.study_id, study.c.study_uid)
        .join(revision, revision.c.id == job.c.revision_id)
        .join(study, study.c.id == revision.c.study_id)
        .where(job.c.id == job_id)
    )
    row = tx.execute(query).one()
    inputs = _inputs(tx, row.revision_id)
    former = former_objects(tx, job_id, inputs[0].patient)
    return JobInput(
        study_uid=row.study_uid,
        revision=row.number,
        outcome=row.outcome,
        device_uid=row.device_uid,
        patient=inputs[0].patient,
        attributes=_joint_digest(inputs),
        files=tuple(_input_file(i) for i in inputs),
        embeddings=_embeddings(tx, row.revision_id, encoder),
        predecessors=_predecessors(former),
        objects=frozenset(ObjectKind(kind) for kind in row.objects.split(",")),
        former=former,
    )


def settle_job(
    tx: Connection,
    lease: Lease,
    result: Result,
    objects: Sequence[StoredObject],
    *,
    now: datetime,
) -> bool:
    """Store a job's result and its objects; the first result stored wins.

    Returns
    -------
    bool
        False, with nothing stored, where the lease has passed to another worker
        or the job was dropped.
    """
    if not leases.finish(tx, job, lease):
        return False
    tx.execute(
        update(job)
        .where(job.c.id == lease.work)
        .values(
            result=_RESULT.dump_json(result).decode(),
            finished_at=now,
            **_summary(result),
        )
    )
    rows = [
        {
            "job_id": lease.work,
            "kind": o.kind,
            "series_uid": o.series_uid,
            "sop_class_uid": o.sop_class_uid,
            "sop_instance_uid": o.sop_instance_uid,
            "sha256": o.sha256,
            "path": o.path,
            "size": o.size,
        }
        for o in objects
    ]
    insert_ignore(tx, artefact, rows)
    for one in (o for o in objects if o.rejects):
        reject(tx, one.sop_instance_uid, one.rejects)
    if not objects:
        detail = f"{result.algorithm.name}: {result.reason}"
        note(tx, now, "not reported", detail, study_id=_study_of(tx, lease.work))
    return True


def note_purged(tx: Connection, job_id: int, count: int, *, now: datetime) -> None:
    """Tell that former objects should be rejected, and that none of them is left."""
    detail = (
        f"{count} former objects no longer count; their files were purged, so no note"
        " rejects them: take them back at the destinations"
    )
    note(tx, now, "not rejected", detail, study_id=_study_of(tx, job_id))


def fail_job(tx: Connection, lease: Lease, *, detail: str, now: datetime) -> bool:
    """Record that the job cannot be done; False if somebody else has it now."""
    if not leases.finish(tx, job, lease, state=leases.FAILED):
        return False
    fail_jobs(tx, [lease.work], detail=detail, now=now)
    return True


def fail_jobs(
    tx: Connection, jobs: Sequence[int], *, detail: str, now: datetime
) -> None:
    """Record that the jobs cannot be done, and why."""
    tx.execute(
        update(job)
        .where(job.c.id.in_(jobs))
        .values(state=leases.FAILED, detail=detail, lease_until=None, finished_at=now)
    )


def retry_jobs(tx: Connection, study_id: int) -> None:
    """Let failed jobs of the study be begun again."""
    mine = select(revision.c.id).where(revision.c.study_id == study_id)
    tx.execute(
        update(job)
        .where(job.c.revision_id.in_(mine), job.c.state == leases.FAILED)
        .values(**{**leases.NEW, "token": job.c.token}, dispatched_at=None, detail="")
    )


def stored_result(tx: Connection, job_id: int) -> Result | None:
    """Return the job's result, or None where it has none yet."""
    text = tx.execute(select(job.c.result).where(job.c.id == job_id)).scalar_one()
    return None if text is None else _RESULT.validate_json(text)


def failure(tx: Connection, study_id: int) -> str:
    """Return what a failed job of the current revision says; empty if none failed."""
    query = (
        select(job.c.detail)
        .select_from(job.join(revision).join(study))
        .where(
            study.c.id == study_id,
            revision.c.number == study.c.revision,
            job.c.state == leases.FAILED,
        )
        .order_by(job.c.id.desc())
    )
    return tx.execute(query).scalars().first() or ""


def _study_of(tx: Connection, job_id: int) -> int:
    query = select(revision.c.study_id).select_from(job.join(revision))
    return int(tx.execute(query.where(job.c.id == job_id)).scalar_one())


def _inputs(tx: Connection, revision_id: int) -> list[Any]:
    query = (
        select(version)
        .join(revision_input, revision_input.c.version_id == version.c.id)
        .where(revision_input.c.revision_id == revision_id)
        .order_by(
            version.c.series_uid,
            version.c.instance_number.nulls_last(),
            version.c.sop_instance_uid,
        )
    )
    return list(tx.execute(query).all())


def _joint_digest(inputs: Sequence[Any]) -> Sha256:
    distinct = sorted({i.attributes for i in inputs})
    if len(distinct) == 1:
        return Sha256(distinct[0])
    return Sha256(sha256("/".join(distinct).encode()).hexdigest())


def _input_file(row: Any) -> InputFile:
    return InputFile(
        version=row.id,
        path=row.path,
        sha256=row.sha256,
        series_uid=row.series_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        exam=exam_of_row(row),
        frames=row.frames,
        instance_number=row.instance_number,
    )


def _embeddings(
    tx: Connection, revision_id: int, encoder: Sha256
) -> tuple[StoredEmbedding, ...]:
    query = (
        select(embedding)
        .join(revision_input, revision_input.c.version_id == embedding.c.version_id)
        .where(
            revision_input.c.revision_id == revision_id, embedding.c.encoder == encoder
        )
        .order_by(embedding.c.version_id, embedding.c.frame)
    )
    return tuple(
        StoredEmbedding(
            version=row.version_id,
            frame=row.frame,
            vector=row.vector or b"",
            reason=row.reason,
            geometry=row.geometry or "",
        )
        for row in tx.execute(query)
    )


def _predecessors(former: Sequence[FormerObject]) -> tuple[Predecessor, ...]:
    """Return the report that a job's report supersedes: the pack's last one.

    A report that no destination was to have, because the study was held then, is
    none: nobody could follow the reference. Nor is one on another patient.
    """
    return tuple(
        Predecessor(
            series_uid=one.series_uid,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            patient=one.patient,
        )
        for one in former
        if one.superseded and one.kind is ObjectKind.REPORT
    )


def _summary(result: Result) -> dict[str, Any]:
    """Return the line that the worklist shows: the top finding and its flag."""
    flagged = result.flagged
    scored = [f for f in result.findings if f.score and f.operating_point]
    top = flagged[0] if flagged else max(scored, key=_margin, default=None)
    if top is None and result.answers:  # labels and values have no threshold: no flag
        return {"flag": "", "top_finding": ", ".join(result.answers)}
    if top is None or top.score is None or top.operating_point is None:
        return {"flag": Flag.NOT_EVALUATED, "detail": result.reason}
    return {
        "flag": top.flag,
        "urgency": list(Urgency).index(top.urgency) if flagged else ROUTINE_RANK,
        "top_finding": top.concept.meaning,
        "top_score": top.score.value,
        "top_threshold": top.operating_point.threshold,
    }


def _margin(finding: Any) -> float:
    return float(finding.score.value - finding.operating_point.threshold)
