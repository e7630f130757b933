"""Which workers there are: each has a row, and renews it while it lives."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.ledger.tables import worker

FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """A worker, and when it was seen last.

    Parameters
    ----------
    name
        Its host and process, and a word that no other has.
    device
        Where its models run: ``cpu`` or ``cuda``.
    packs
        Names and versions of the packs that it holds.
    """

    name: str
    device: str
    packs: tuple[str, ...]
    started_at: datetime
    seen_at: datetime


def appear(tx: Connection, line: WorkerLine) -> None:
    """Enter a worker; those that are long gone are left out from now on."""
    long_gone = worker.c.seen_at < line.seen_at - FORGOTTEN_AFTER
    tx.execute(delete(worker).where(long_gone))
    tx.execute(
        insert(worker).values(
            name=line.name,
            device=line.device,
            packs=json.dumps(line.packs),
            started_at=line.started_at,
            seen_at=line.seen_at,
        )
    )


def stay(tx: Connection, name: str, *, at: datetime) -> bool:
    """Say that a worker lives; False where it has no row any more."""
    renewed = update(worker).where(worker.c.name == name).values(seen_at=at)
    return tx.execute(renewed).rowcount > 0


def leave(tx: Connection, name: str) -> None:
    """Take a worker's row away: it ended as it should."""
    tx.execute(delete(worker).where(worker.c.name == name))


def workers(tx: Connection) -> list[WorkerLine]:
    """Return every worker of the last day that did not say goodbye, by name."""
    return [
        WorkerLine(
            name=row.name,
            device=row.device,
            packs=tuple(json.loads(row.packs)),
            started_at=row.started_at,
            seen_at=row.seen_at,
        )
        for row in tx.execute(select(worker).order_by(worker.c.name))
    ]
