"""Leases: the right to do a piece of work, with heartbeat, expiry and fencing.

Batches and jobs are leased alike::

    ready ──claim──► leased ──finish──► done
      ▲                │  └───fail───► failed
      └── give back ───┘
                       └── expired: may be claimed again, under a higher token

Whoever holds an older token can no longer write. The queue only carries keys:
a message that comes twice, or too late, finds nothing to claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    or_,
    select,
    update,
)

from dicom_node.domain import Lease, Priority
from dicom_node.ledger.tables import batch, job

WorkTable = Table
BATCHES, JOBS = batch, job

READY, LEASED, DONE, FAILED = "ready", "leased", "done", "failed"
DROPPED = "dropped"
NEW = {"state": READY, "token": 0, "attempts": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Work to be put on the queue.

    Parameters
    ----------
    token
        Of the last lease that was given for it.
    """

    work: int
    token: int
    priority: Priority


def claim(
    tx: Connection, table: Table, work: int, *, now: datetime, lease_s: float
) -> Lease | None:
    """Return a lease of the work, or None where there is nothing to do."""
    free = or_(table.c.state == READY, expired(table, now))
    taken = tx.execute(
        update(table)
        .where(table.c.id == work, free)
        .values(
            state=LEASED,
            token=table.c.token + 1,
            attempts=table.c.attempts + 1,
            lease_until=now + timedelta(seconds=lease_s),
        )
        .returning(table.c.token)
    ).first()
    return None if taken is None else Lease(work=work, token=taken.token)


def renew(
    tx: Connection, table: Table, lease: Lease, *, now: datetime, lease_s: float
) -> bool:
    """Extend the lease; return False where somebody else has the work now."""
    until = now + timedelta(seconds=lease_s)
    return _held(tx, table, lease, lease_until=until)


def finish(tx: Connection, table: Table, lease: Lease, *, state: str = DONE) -> bool:
    """Settle the work; return False, and change nothing, under an older token."""
    return _held(tx, table, lease, state=state, lease_until=None)


def give_back(tx: Connection, table: Table, lease: Lease) -> bool:
    """Let the work be dispatched again at once; it does not count as an attempt."""
    return _held(
        tx,
        table,
        lease,
        state=READY,
        attempts=table.c.attempts - 1,
        lease_until=None,
        dispatched_at=None,
    )


def undispatched(
    tx: Connection, table: Table, *, now: datetime, patience_s: float, limit: int
) -> list[Waiting]:
    """Return work to put on the queue, urgent first: new, expired, or lost there.

    Parameters
    ----------
    patience_s
        How long a message may wait on the queue before another is sent. A
        second message for the same work does no harm.
    """
    lost = now - timedelta(seconds=patience_s)
    unsent = or_(table.c.dispatched_at.is_(None), table.c.dispatched_at < lost)
    sent_for_the_expired = table.c.dispatched_at >= table.c.lease_until
    query = (
        select(table.c.id, table.c.token, table.c.priority)
        .where(
            or_(
                and_(table.c.state == READY, unsent),
                and_(expired(table, now), or_(unsent, ~sent_for_the_expired)),
            )
        )
        .order_by(table.c.priority, table.c.id)
        .limit(limit)
    )
    return [
        Waiting(work=row.id, token=row.token, priority=Priority(row.priority))
        for row in tx.execute(query)
    ]


def dispatched(
    tx: Connection, table: Table, sent: Sequence[Waiting], *, now: datetime
) -> None:
    """Note that the work was put on the queue, where nobody has leased it since."""
    if sent:
        tx.execute(
            update(table)
            .where(table.c.id == bindparam("work"), table.c.token == bindparam("seen"))
            .values(dispatched_at=now),
            [{"work": one.work, "seen": one.token} for one in sent],
        )


def forget_dispatch(tx: Connection, table: Table) -> int:
    """Let all unfinished work count as not on the queue; return how much there is."""
    unfinished = table.c.state.in_([READY, LEASED])
    return tx.execute(
        update(table).where(unfinished).values(dispatched_at=None)
    ).rowcount


def exhausted(
    tx: Connection, table: Table, *, now: datetime, attempts: int
) -> list[int]:
    """Return work whose leases ran out too often to be tried again."""
    query = select(table.c.id).where(_exhausted(table, now, attempts))
    return list(tx.execute(query).scalars())


def give_up(tx: Connection, table: Table, *, now: datetime, attempts: int) -> list[int]:
    """Fail the work whose leases ran out too often, and return its keys."""
    worn = update(table).where(_exhausted(table, now, attempts))
    failed = worn.values(state=FAILED, lease_until=None).returning(table.c.id)
    return list(tx.execute(failed).scalars())


def _exhausted(table: Table, now: datetime, attempts: int) -> ColumnElement[bool]:
    free = or_(table.c.state == READY, expired(table, now))
    return and_(table.c.attempts >= attempts, free)


def expired(table: Table, now: datetime) -> ColumnElement[bool]:
    """Return whether somebody holds the work, and has been silent for too long."""
    return and_(table.c.state == LEASED, table.c.lease_until < now)


def _held(tx: Connection, table: Table, lease: Lease, **values: object) -> bool:
    mine = and_(
        table.c.id == lease.work,
        table.c.token == lease.token,
        table.c.state == LEASED,
    )
    return tx.execute(update(table).where(mine).values(**values)).rowcount == 1
