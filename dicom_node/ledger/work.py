"""Batches of frames: formed by the node, embedded by a worker."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import (
    Connection,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from dicom_node.batching import NewBatch
from dicom_node.domain import (
    EmbeddedFrame,
    FrameTask,
    Lease,
    PendingFrame,
    Priority,
    Sha256,
)
from dicom_node.ledger import leases
from dicom_node.ledger.events import note
from dicom_node.ledger.quarantine import put_aside
from dicom_node.ledger.tables import batch, embedding, version

PENDING = embedding.c.state == literal_column("'pending'")
"""What the index of waiting frames is for; it needs the word itself, no parameter."""


def pending_frames(
    tx: Connection, priority: Priority, *, limit: int
) -> list[PendingFrame]:
    """Return frames of that priority that wait to be embedded, the oldest first.

    Those of a file that was purged wait until it comes again.
    """
    query = (
        select(embedding.c.id, embedding.c.encoder, embedding.c.alone)
        .join(version, version.c.id == embedding.c.version_id)
        .where(
            PENDING,
            embedding.c.priority == priority,
            version.c.current,
            version.c.purged_at.is_(None),
        )
        .order_by(embedding.c.id)
        .limit(limit)
    )
    return [
        PendingFrame(
            embedding=row.id, encoder=row.encoder, priority=priority, alone=row.alone
        )
        for row in tx.execute(query)
    ]


def batches_in_flight(tx: Connection) -> dict[Priority, int]:
    """Return how many unfinished batches there are of each priority."""
    query = (
        select(batch.c.priority, func.count())
        .where(batch.c.state.in_([leases.READY, leases.LEASED]))
        .group_by(batch.c.priority)
    )
    return {Priority(p): n for p, n in tx.execute(query)}


def add_batches(tx: Connection, batches: Iterable[NewBatch]) -> None:
    """Write the batches; their frames no longer wait.

    A batch whose frames another node has taken meanwhile is left out.
    """
    for new in batches:
        row = {"encoder": new.encoder, "priority": new.priority, **leases.NEW}
        key = tx.execute(insert(batch).values(**row).returning(batch.c.id)).scalar_one()
        mine = embedding.c.id.in_(new.embeddings)
        taken = tx.execute(
            update(embedding)
            .where(mine, embedding.c.state == "pending")
            .values(state="batched", batch_id=key)
        ).rowcount
        if not taken:
            tx.execute(delete(batch).where(batch.c.id == key))


def batch_encoder(tx: Connection, batch_id: int) -> Sha256 | None:
    """Return the digest of the `EncoderKey` that a batch asks for.

    None if there is no such batch: the message came from another ledger.
    """
    query = select(batch.c.encoder).where(batch.c.id == batch_id)
    return tx.execute(query).scalar_one_or_none()


def batch_tasks(tx: Connection, batch_id: int) -> list[FrameTask]:
    """Return the frames of a batch that are still to be embedded."""
    query = (
        select(
            embedding.c.id, embedding.c.version_id, embedding.c.frame, version.c.path
        )
        .join(version, version.c.id == embedding.c.version_id)
        .where(embedding.c.batch_id == batch_id, embedding.c.state == "batched")
        .order_by(embedding.c.id)
    )
    return [
        FrameTask(
            embedding=row.id, version=row.version_id, path=row.path, frame=row.frame
        )
        for row in tx.execute(query)
    ]


def settle_batch(
    tx: Connection, lease: Lease, frames: Sequence[EmbeddedFrame], *, now: datetime
) -> bool:
    """Store what became of a batch's frames; a frame that is not told of waits again.

    Returns
    -------
    bool
        False, with nothing stored, where the lease has passed to another worker.
    """
    if not leases.finish(tx, batch, lease):
        return False
    store_embeddings(tx, frames, now=now)
    tx.execute(
        update(embedding)
        .where(embedding.c.batch_id == lease.work, embedding.c.state == "batched")
        .values(state="pending", batch_id=None)
    )
    return True


def store_embeddings(
    tx: Connection, frames: Sequence[EmbeddedFrame], *, now: datetime
) -> None:
    """Store vectors, pixel digests and geometry, and reasons for having none."""
    if not frames:
        return
    rows = [
        {
            "key": f.embedding,
            "state_": "unreadable" if f.reason else "done",
            "vector_": f.vector or None,
            "pixels_": f.pixels,
            "reason_": f.reason,
            "geometry_": f.geometry or None,
        }
        for f in frames
    ]
    tx.execute(
        update(embedding)
        .where(embedding.c.id == bindparam("key"), embedding.c.state == "batched")
        .values(
            state=bindparam("state_"),
            vector=bindparam("vector_"),
            pixels=bindparam("pixels_"),
            reason=bindparam("reason_"),
            geometry=bindparam("geometry_"),
        ),
        rows,
    )
    for frame in frames:
        if frame.reason and not frame.fatal:
            _note_unreadable(tx, frame, now)
    put_aside(tx, _guilty(tx, frames), now=now)


def frames_done(tx: Connection) -> tuple[int, int]:
    """Return how many frames are settled, and how many there are."""
    settled = func.sum(
        case((embedding.c.state.in_(["done", "unreadable"]), 1), else_=0)
    )
    done, total = tx.execute(select(settled, func.count(embedding.c.id))).one()
    return int(done or 0), int(total)


def _guilty(tx: Connection, frames: Sequence[EmbeddedFrame]) -> dict[int, str]:
    """Return the versions whose files ended who read them, each with a reason."""
    reasons = {f.embedding: f.reason for f in frames if f.fatal}
    query = select(embedding.c.id, embedding.c.version_id).where(
        embedding.c.id.in_(reasons)
    )
    return {row.version_id: reasons[row.id] for row in tx.execute(query)}


def _note_unreadable(tx: Connection, frame: EmbeddedFrame, now: datetime) -> None:
    row = tx.execute(
        select(version.c.study_id, version.c.sop_instance_uid, embedding.c.frame)
        .join(embedding, embedding.c.version_id == version.c.id)
        .where(embedding.c.id == frame.embedding)
    ).first()
    if row is None:
        return  # its study was forgotten meanwhile
    detail = f"frame {row.frame + 1}: {frame.reason}"
    note(tx, now, "unreadable", detail, study_id=row.study_id, uid=row.sop_instance_uid)
