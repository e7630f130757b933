"""Batches whose workers died: the frames are tried alone, and the guilty ones given up.

A worker that is killed says nothing of why. So a batch whose lease ran out is dissolved,
and each of its frames gets a batch of its own. Where a worker dies on that, too, it was
perhaps the frame; where it happens again, and other work was done meanwhile, it was.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from dicom_node.ledger import leases
from dicom_node.ledger.quarantine import put_aside
from dicom_node.ledger.tables import batch, embedding

DEATHS = 2
"""So many workers a frame may end that it had alone, where workers are well otherwise."""
REASON = "workers died again and again while they had it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of batches whose workers died.

    Parameters
    ----------
    shared
        Batches to be dissolved.
    guilty
        Versions to be put into quarantine, and their batches.
    """

    shared: tuple[int, ...]
    guilty: dict[int, tuple[int, ...]]

    def __bool__(self) -> bool:
        return bool(self.shared or self.guilty)


def judge(tx: Connection, *, now: datetime, attempts: int) -> Verdict:
    """Return what becomes of the batches whose leases ran out.

    Parameters
    ----------
    attempts
        After so many deaths a frame is given up even where no other work was done: then
        nothing tells whether it is the frame or the workers.
    """
    frames: dict[int, list[Any]] = defaultdict(list)
    query = (
        select(batch.c.id, batch.c.attempts, embedding.c.version_id)
        .join(embedding, embedding.c.batch_id == batch.c.id)
        .where(leases.expired(batch, now), embedding.c.state == "batched")
        .order_by(batch.c.id)
    )
    for row in tx.execute(query):
        frames[row.id].append(row)
    lone: dict[int, list[Any]] = defaultdict(list)
    for rows in frames.values():
        if len(rows) == 1:
            lone[rows[0].version_id].append(rows[0])
    last_done = _last_done(tx) if lone else 0
    guilty = {}
    for version, rows in lone.items():
        deaths = sum(row.attempts for row in rows)
        others_do_well = deaths >= DEATHS and last_done > rows[0].id
        if others_do_well or deaths >= attempts:
            guilty[version] = tuple(row.id for row in rows)
    shared = tuple(key for key, rows in frames.items() if len(rows) > 1)
    return Verdict(shared=shared, guilty=guilty)


def execute(tx: Connection, verdict: Verdict, *, now: datetime) -> None:
    """Dissolve the shared batches, and put the guilty versions into quarantine.

    What a worker has claimed meanwhile is left to it.
    """
    dissolved = _end(tx, verdict.shared, leases.DROPPED, now)
    tx.execute(
        update(embedding)
        .where(embedding.c.batch_id.in_(dissolved), embedding.c.state == "batched")
        .values(state="pending", batch_id=None, alone=True)
    )
    failed = {
        version: REASON
        for version, keys in verdict.guilty.items()
        if _end(tx, keys, leases.FAILED, now)
    }
    put_aside(tx, failed, now=now)


def _end(tx: Connection, keys: tuple[int, ...], state: str, now: datetime) -> list[int]:
    """Return which of the batches are ended; their leases ran out still."""
    ended = (
        update(batch)
        .where(batch.c.id.in_(keys), leases.expired(batch, now))
        .values(state=state, lease_until=None)
        .returning(batch.c.id)
    )
    return list(tx.execute(ended).scalars())


def _last_done(tx: Connection) -> int:
    query = select(func.max(batch.c.id)).where(batch.c.state == leases.DONE)
    return tx.execute(query).scalar_one() or 0
