"""The frames that packs want to see: which of them wait, and how urgently."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from dicom_node.domain import Analysis, PackCard, Sha256
from dicom_node.ledger import leases
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import (
    batch,
    embedding,
    job,
    quarantine,
    revision,
    study,
    version,
)
from dicom_node.ledger.work import PENDING
from dicom_node.lifecycle import Event, State

EMBEDDED_NOW = (State.RECEIVING, State.EMBEDDING)
"""States in which a study's images wait to be embedded, and nothing is concluded."""


def use_packs(tx: Connection, packs: Sequence[PackCard], *, at: datetime) -> None:
    """Let these packs conclude what is not concluded yet, and no others.

    What only former packs wanted is dropped, because no worker does it any more.
    Studies that waited for it go on with the packs that there are now.
    """
    encoders = {pack.encoder.digest for pack in packs}
    _drop_frames(tx, encoders)
    _drop_jobs(tx, {pack.device_uid for pack in packs}, at)
    unconcluded = study.c.state.in_([*EMBEDDED_NOW, State.HELD])
    for encoder in sorted(encoders):
        await_embeddings(tx, encoder, unconcluded)


def _drop_frames(tx: Connection, encoders: set[Sha256]) -> None:
    unsettled = embedding.c.state.in_(["pending", "batched"])
    tx.execute(delete(embedding).where(unsettled, embedding.c.encoder.not_in(encoders)))
    unfinished = batch.c.state.in_([leases.READY, leases.LEASED])
    tx.execute(
        update(batch)
        .where(unfinished, batch.c.encoder.not_in(encoders))
        .values(state=leases.DROPPED)
    )


def _drop_jobs(tx: Connection, devices: set[str], at: datetime) -> None:
    unfinished = job.c.state.in_([leases.READY, leases.LEASED])
    former = unfinished & job.c.device_uid.not_in(devices)
    waiting = (
        select(study.c.id)
        .distinct()
        .join(revision, revision.c.study_id == study.c.id)
        .join(job, job.c.revision_id == revision.c.id)
        .where(former, study.c.state == State.CONCLUDING)
    )
    detail = "the packs are others now"
    for key in tx.execute(waiting).scalars().all():
        happen(tx, key, Event.INSTANCE, detail=detail, at=at)
    tx.execute(update(job).where(former).values(state=leases.DROPPED, detail=detail))


def hurry(tx: Connection, study_id: int, priority: int) -> None:
    """Let a study, and the frames of it that wait, go before others."""
    tx.execute(update(study).where(study.c.id == study_id).values(priority=priority))
    of_study = select(version.c.id).where(version.c.study_id == study_id)
    waiting = embedding.c.version_id.in_(of_study) & PENDING
    tx.execute(update(embedding).where(waiting).values(priority=priority))


def await_packs(tx: Connection, study_id: int, packs: Sequence[PackCard]) -> None:
    """Let every current image of a study be embedded for each of these packs."""
    for encoder in sorted({pack.encoder.digest for pack in packs}):
        await_embeddings(tx, encoder, study.c.id == study_id)


def await_embeddings(
    tx: Connection, encoder: Sha256, of_studies: ColumnElement[bool]
) -> None:
    """Let every current image of these studies have an embedding by this encoder."""
    present = (
        select(func.count())
        .select_from(embedding)
        .where(embedding.c.version_id == version.c.id, embedding.c.encoder == encoder)
        .scalar_subquery()
    )
    query = (
        select(version.c.id, version.c.frames, study.c.priority)
        .join(study, study.c.id == version.c.study_id)
        .where(
            version.c.current,
            version.c.analysis == Analysis.IMAGE,
            present < version.c.frames,
            of_studies,
        )
        .order_by(study.c.priority, version.c.id)
    )
    rows: list[dict[str, Any]] = []
    for row in tx.execute(query).all():
        rows += embedding_rows(
            row.id, row.frames, encoder=encoder, priority=row.priority
        )
    insert_ignore(tx, embedding, rows)
    _leave_alone(tx, encoder)


def _leave_alone(tx: Connection, encoder: Sha256) -> None:
    """Settle the frames of instances in quarantine: no other encoder reads them either."""
    reason = (
        select(quarantine.c.reason)
        .where(quarantine.c.version_id == embedding.c.version_id)
        .scalar_subquery()
    )
    aside = embedding.c.version_id.in_(select(quarantine.c.version_id))
    tx.execute(
        update(embedding)
        .where(aside, embedding.c.encoder == encoder, embedding.c.state == "pending")
        .values(state="unreadable", reason=reason)
    )


def embedding_rows(
    version_id: int, frames: int, *, encoder: Sha256, priority: int
) -> list[dict[str, Any]]:
    return [
        {
            "version_id": version_id,
            "frame": frame,
            "encoder": encoder,
            "state": "pending",
            "priority": priority,
            "pixels": "",
            "reason": "",
        }
        for frame in range(frames)
    ]
