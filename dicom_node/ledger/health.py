"""A look at the ledger that neither changes it nor waits for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import and_, func, or_, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from dicom_node.errors import Permanent
from dicom_node.ledger.connection import Ledger, open_ledger
from dicom_node.ledger.tables import DEAD, IN_MOTION, delivery, study


@dataclass(frozen=True, slots=True, kw_only=True)
class Debts:
    """What a destination owes, by the deliveries to it.

    Parameters
    ----------
    missed
        Objects that it said it stored and did not have, and that it still is to have.
    dead
        Objects that were given up.
    detail
        Why, of the last one that was given up.
    """

    missed: int = 0
    dead: int = 0
    detail: str = ""


def file_of(url: str) -> Path | None:
    """Return the file of a SQLite ledger, None where there is none to be.

    Raises
    ------
    Permanent
        If the URL is none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Permanent("ledger_url is no URL of a database") from None
    embedded = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(parsed.database or "") if embedded else None


@contextmanager
def looked_at(url: str, *, patience_s: float) -> Iterator[Ledger]:
    """Yield the ledger, for somebody who does not wait long.

    Raises
    ------
    LedgerBusyError, LedgerOutdatedError
        As `open_ledger`.
    """
    ledger = open_ledger(url, migrate=False, patience_s=patience_s)
    try:
        yield ledger
    finally:
        ledger.close()


def try_to_write(ledger: Ledger, *, patience_s: float) -> None:
    """Take the right to write, and give it back; nothing is written.

    Raises
    ------
    LedgerBusyError
        If somebody else keeps it for longer than the patience.
    """
    with ledger.write() as tx:
        if tx.dialect.name == "postgresql":
            wait = text("SELECT set_config('lock_timeout', :ms, true)")
            tx.execute(wait, {"ms": str(int(1000 * patience_s))})
            tx.execute(text(f"LOCK TABLE {study} IN ROW EXCLUSIVE MODE"))


def debts(ledger: Ledger, destination: str) -> Debts:
    """Return what a destination owes."""
    lost = and_(delivery.c.missed, delivery.c.state.in_(IN_MOTION))
    to_it = delivery.c.destination == destination
    counted = select(
        func.count().filter(lost), func.count().filter(delivery.c.state == DEAD)
    ).where(to_it, or_(lost, delivery.c.state == DEAD))
    last = (
        select(delivery.c.detail)
        .where(to_it, delivery.c.state == DEAD)
        .order_by(delivery.c.dead_at.desc())
        .limit(1)
    )
    with ledger.read() as tx:
        missed, dead = tx.execute(counted).one()
        return Debts(missed=missed, dead=dead, detail=tx.scalar(last) or "")
