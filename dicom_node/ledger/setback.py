"""When the clock is set back: what the ledger holds of hours that have not come yet.

Leases, messages, quiet periods and retries are timed by the wall clock, because two
nodes and a restart have to agree on it. Set back by an hour, it would hold all of them
up for an hour.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, update

from dicom_node.ledger import leases
from dicom_node.ledger.leases import BATCHES, JOBS
from dicom_node.ledger.tables import IN_MOTION, delivery, study
from dicom_node.lifecycle import State


def pull_back(tx: Connection, *, now: datetime, lease_s: float) -> int:
    """Let nothing wait for longer than it would have; return how many rows changed.

    What is tried again later is tried again at once.

    Parameters
    ----------
    lease_s
        How long a lease lasts at most.
    """
    soon = now + timedelta(seconds=lease_s)
    changes = [
        update(study)
        .where(study.c.state == State.RECEIVING, study.c.last_at > now)
        .values(last_at=now),
        update(study)
        .where(study.c.state == State.RECEIVING, study.c.waiting_since > now)
        .values(waiting_since=now),
        update(delivery)
        .where(delivery.c.state.in_(IN_MOTION), delivery.c.next_at > now)
        .values(next_at=now),
        update(delivery)
        .where(delivery.c.state.in_(IN_MOTION), delivery.c.sent_at > now)
        .values(sent_at=now),
    ]
    for table in (BATCHES, JOBS):
        unfinished = table.c.state.in_([leases.READY, leases.LEASED])
        changes += [
            update(table)
            .where(unfinished, table.c.dispatched_at > now)
            .values(dispatched_at=None),
            update(table)
            .where(unfinished, table.c.lease_until > soon)
            .values(lease_until=soon),
        ]
    return sum(tx.execute(change).rowcount for change in changes)
