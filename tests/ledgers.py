"""What a node and a worker do to a ledger, in steps that a test can take one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from dicom_node.batching import NewBatch
from dicom_node.domain import (
    ALWAYS_COMPOSED,
    EmbeddedFrame,
    Lease,
    ObjectKind,
    PackCard,
    PendingFrame,
    Priority,
    Received,
    Result,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.ledger import (
    Ledger,
    arrivals,
    leases,
    motion,
    outbox,
    outcomes,
    results,
    revisions,
    work,
)
from dicom_node.ledger.leases import BATCHES, JOBS, WorkTable
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.results import JobInput, StoredObject
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import job, revision, study
from dicom_node.lifecycle import Event, State
from tests import builders
from tests.arrivals import ENCODER, PACK, T0, digest, study_uid

PACS = Address(destination="PACS", objects=frozenset(ALWAYS_COMPOSED))
LEASE_S = 15.0
VECTOR = b"\0\0\x80?" * 4


class Clock:
    """A clock that only a test moves on."""

    def __init__(self, now: datetime = T0) -> None:
        self._now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self._now

    def pass_s(self, seconds: float) -> None:
        """Let so many seconds go by."""
        self._now += timedelta(seconds=seconds)


def record(
    ledger: Ledger, *received: Received, encoders: Sequence[Sha256] = (ENCODER.digest,)
) -> None:
    """Write what came in, in one transaction."""
    with ledger.write() as tx:
        arrivals.record(tx, received, encoders=encoders)


def pending(ledger: Ledger) -> list[PendingFrame]:
    """Return every frame that waits, in the order in which batches are formed."""
    with ledger.read() as tx:
        return [f for p in Priority for f in work.pending_frames(tx, p, limit=10_000)]


def batch(ledger: Ledger, frames: Sequence[PendingFrame]) -> int:
    """Put frames into a new batch and return its key."""
    new = NewBatch(
        priority=frames[0].priority,
        encoder=frames[0].encoder,
        embeddings=tuple(f.embedding for f in frames),
    )
    with ledger.write() as tx:
        work.add_batches(tx, [new])
        key = tx.execute(select(BATCHES.c.id).order_by(BATCHES.c.id.desc())).scalar()
    assert isinstance(key, int)
    return key


def claim(
    ledger: Ledger, table: WorkTable, key: int, *, now: datetime = T0
) -> Lease | None:
    """Return a lease of the work, or None."""
    with ledger.write() as tx:
        return leases.claim(tx, table, key, now=now, lease_s=LEASE_S)


def leased(ledger: Ledger, table: WorkTable, key: int, *, now: datetime = T0) -> Lease:
    """Return a lease of work that is free."""
    lease = claim(ledger, table, key, now=now)
    assert lease is not None
    return lease


Picture = Callable[[str], str]
"""Returns the digest of the pixels in the file at a path; empty: unreadable."""


def embed(ledger: Ledger, *, picture: Picture = digest, now: datetime = T0) -> int:
    """Embed every frame that waits, as workers would, and return how many there were."""
    frames = pending(ledger)
    by_encoder: dict[Sha256, list[PendingFrame]] = {}
    for frame in frames:
        by_encoder.setdefault(frame.encoder, []).append(frame)
    for group in by_encoder.values():
        key = batch(ledger, group)
        settle_batch(ledger, leased(ledger, BATCHES, key, now=now), picture=picture)
    return len(frames)


def settle_batch(
    ledger: Ledger, lease: Lease, *, picture: Picture = digest, now: datetime = T0
) -> bool:
    """Store vectors for a leased batch; return whether the lease allowed it."""
    with ledger.read() as tx:
        tasks = work.batch_tasks(tx, lease.work)
    frames = []
    for task in tasks:
        shown = picture(f"{task.path}")
        frames.append(
            EmbeddedFrame(
                embedding=task.embedding,
                vector=VECTOR if shown else b"",
                pixels=shown,
                reason="" if shown else "no codec can decode it",
            )
        )
    with ledger.write() as tx:
        return work.settle_batch(tx, lease, frames, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger shows of a study."""

    key: int
    state: State
    detail: str
    priority: int
    revision: int


def standing(ledger: Ledger, number: int = 1) -> Standing:
    """Return how the study with this number stands."""
    columns = (study.c.id, study.c.state, study.c.detail, study.c.priority)
    query = select(*columns, study.c.revision)
    with ledger.read() as tx:
        row = tx.execute(query.where(study.c.study_uid == study_uid(number))).one()
    return Standing(
        key=row.id,
        state=State(row.state),
        detail=row.detail,
        priority=row.priority,
        revision=row.revision,
    )


def state(ledger: Ledger, number: int = 1) -> str:
    """Return the state of the study with this number."""
    return standing(ledger, number).state.value


def complete(ledger: Ledger, number: int = 1, *, now: datetime = T0) -> None:
    """Say that the study is complete."""
    with ledger.write() as tx:
        happen(tx, standing(ledger, number).key, Event.COMPLETE, detail="said", at=now)


def open_revision(
    ledger: Ledger,
    number: int = 1,
    *,
    packs: Sequence[PackCard] = (PACK,),
    now: datetime = T0,
) -> int:
    """Let a complete study that is embedded be concluded; return the revision."""
    key = standing(ledger, number).key
    with ledger.write() as tx:
        opened = revisions.open_revision(tx, key, packs, now=now)
        happen(tx, key, Event.EMBEDDED, detail=f"revision {opened}", at=now)
    return opened


def jobs(ledger: Ledger, number: int = 1) -> list[Any]:
    """Return the study's jobs, the oldest first."""
    query = (
        select(job, revision.c.number)
        .join(revision, revision.c.id == job.c.revision_id)
        .join(study, study.c.id == revision.c.study_id)
        .where(study.c.study_uid == study_uid(number))
        .order_by(job.c.id)
    )
    with ledger.read() as tx:
        return list(tx.execute(query).all())


def job_input(ledger: Ledger, key: int) -> JobInput:
    """Return what a job is about."""
    with ledger.read() as tx:
        return results.job_input(tx, key, encoder=ENCODER.digest)


def stored(key: int, kind: ObjectKind, *, outcome: str = "") -> StoredObject:
    """Return an object that lies in the outbox folder."""
    name = f"{kind}/{key}/{outcome}"
    sha = digest(name)
    return StoredObject(
        kind=kind,
        series_uid=SeriesUid(f"2.25.{int(sha[:12], 16)}"),
        sop_class_uid=SopClassUid("1.2.840.10008.5.1.4.1.1.88.34"),
        sop_instance_uid=SopInstanceUid(f"2.25.{int(sha[:24], 16)}"),
        sha256=sha,
        path=f"{sha[:2]}/{sha}.dcm",
        size=20_000,
    )


def settle_job(
    ledger: Ledger,
    lease: Lease,
    result: Result | None = None,
    *,
    notes: Sequence[StoredObject] = (),
    now: datetime = T0,
) -> bool:
    """Store a result with report and capture; return whether the lease allowed it."""
    objects = [*(stored(lease.work, kind) for kind in ALWAYS_COMPOSED), *notes]
    with ledger.write() as tx:
        return results.settle_job(
            tx, lease, result or builders.result(), objects, now=now
        )


def conclude(
    ledger: Ledger,
    number: int = 1,
    *,
    result: Result | None = None,
    addresses: Sequence[Address] = (PACS,),
    now: datetime = T0,
) -> None:
    """Do every job of the study that is ready, and put the objects in the outbox."""
    for row in jobs(ledger, number):
        if row.state == leases.READY:
            lease = leased(ledger, JOBS, row.id, now=now)
            assert settle_job(ledger, lease, result, now=now)
    key = standing(ledger, number).key
    with ledger.write() as tx:
        assert motion.concluded(tx, key=key) == [key]
        outbox.address(tx, key, addresses, now=now)
        happen(tx, key, Event.CONCLUDED, detail="", at=now)


def due(ledger: Ledger, *, now: datetime = T0) -> list[outbox.DueDelivery]:
    """Return what is to be sent to the PACS now."""
    with ledger.read() as tx:
        return outbox.due(tx, PACS.destination, now=now, limit=1000)


def deliver(ledger: Ledger, number: int = 1, *, now: datetime = T0) -> int:
    """Deliver what is due of the study, end its journey, and return how many it was."""
    mine = [d for d in due(ledger, now=now) if d.study_uid == study_uid(number)]
    key = standing(ledger, number).key
    with ledger.write() as tx:
        for one in mine:
            outcomes.delivered(tx, one.delivery, detail="stored", now=now)
        happen(tx, key, Event.DELIVERED, detail="", at=now)
    return len(mine)


def concluded_study(
    ledger: Ledger, *received: Received, result: Result | None = None
) -> None:
    """Take a study from its arrival to the outbox."""
    record(ledger, *received)
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    conclude(ledger, result=result)
