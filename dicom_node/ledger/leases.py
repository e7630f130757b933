"""Leases: the right to do a piece of work, with heartbeat, expiry and fencing.

Batches and jobs are leased alike::

    ready ──claim──► leased ──finish──► done
      ▲                │  └───fail───► failed
      └── give back ───┘
                       └── expired: may be claimed again, under a higher token

Whoever holds an older token can no longer write. The queue only carries keys:
a message that comes twice, or too late, finds nothing to claim.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, and_, or_, select, update

from dicom_node.domain import Lease, Priority
from dicom_node.ledger.tables import batch, job

WorkTable = Table
BATCHES, JOBS = batch, job

READY, LEASED, DONE, FAILED = "ready", "leased", "done", "failed"
DROPPED = "dropped"
NEW = {"state": READY, "token": 0, "attempts": 0}


def claim(
    tx: Connection, table: Table, work: int, *, now: datetime, lease_s: float
) -> Lease | None:
    """Return a lease of the work, or None where there is nothing to do."""
    free = or_(
        table.c.state == READY,
        and_(table.c.state == LEASED, table.c.lease_until < now),
    )
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
    """Let the work be dispatched again at once."""
    return _held(tx, table, lease, state=READY, lease_until=None, dispatched_at=None)


def undispatched(
    tx: Connection, table: Table, *, now: datetime, patience_s: float
) -> list[tuple[int, Priority]]:
    """Return work to put on the queue: new, expired, or lost by the broker.

    Parameters
    ----------
    patience_s
        How long a message may wait on the queue before another is sent. A
        second message for the same work does no harm.
    """
    lost = now - timedelta(seconds=patience_s)
    query = (
        select(table.c.id, table.c.priority)
        .where(
            or_(
                and_(
                    table.c.state == READY,
                    or_(table.c.dispatched_at.is_(None), table.c.dispatched_at < lost),
                ),
                and_(
                    table.c.state == LEASED,
                    table.c.lease_until < now,
                    or_(
                        table.c.dispatched_at < table.c.lease_until,
                        table.c.dispatched_at < lost,
                    ),
                ),
            )
        )
        .order_by(table.c.priority, table.c.id)
    )
    return [(row.id, Priority(row.priority)) for row in tx.execute(query)]


def dispatched(tx: Connection, table: Table, work: int, *, now: datetime) -> None:
    """Note that the work was put on the queue."""
    tx.execute(update(table).where(table.c.id == work).values(dispatched_at=now))


def exhausted(
    tx: Connection, table: Table, *, now: datetime, attempts: int
) -> list[int]:
    """Return work whose leases ran out too often to be tried again."""
    query = select(table.c.id).where(
        table.c.attempts >= attempts,
        or_(
            table.c.state == READY,
            and_(table.c.state == LEASED, table.c.lease_until < now),
        ),
    )
    return list(tx.execute(query).scalars())


def _held(tx: Connection, table: Table, lease: Lease, **values: object) -> bool:
    mine = and_(
        table.c.id == lease.work,
        table.c.token == lease.token,
        table.c.state == LEASED,
    )
    return tx.execute(update(table).where(mine).values(**values)).rowcount == 1
