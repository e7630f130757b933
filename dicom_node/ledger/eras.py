"""Eras of a ledger: since when it is no longer the one that wrote all that is out there.

A ledger from a backup does not know what was concluded after that, nor does one that was
told to forget a study. Would it conclude the same study of the same images, the objects
would have the same UIDs, and other bytes. So outcomes count on from a number that no
former era has reached: other UIDs.
"""

from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, select

from dicom_node.ledger.events import note
from dicom_node.ledger.tables import era

_ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def begin_era(tx: Connection, *, at: datetime, why: str) -> None:
    """Let every result from now on have UIDs that no former one has."""
    minutes = int((at - _ZERO).total_seconds() // 60)
    first = max(minutes, first_outcome(tx) + 1)
    tx.execute(insert(era).values(first_outcome=first, at=at))
    note(tx, at, "new era", why)


def first_outcome(tx: Connection) -> int:
    """Return the least outcome of jobs that are made now; 0 in the first era."""
    return tx.execute(select(func.max(era.c.first_outcome))).scalar_one() or 0
