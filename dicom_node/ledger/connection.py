"""Open the ledger's database: SQLite in WAL mode, or PostgreSQL by its URL."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from dicom_node.errors import Permanent, Transient
from dicom_node.files import make_folder

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
SETTLE_S = 10.0
LOOK_S = 0.1
_DAMAGED = ("malformed", "not a database")
_PASSING = (OperationalError, InterfaceError, sqlite3.OperationalError)
MIGRATION_LOCK = 0x70616373


class LedgerBusyError(Transient):
    """The database did not answer, or stayed locked; the work is tried again."""


class LedgerDamagedError(Permanent):
    """The database's file is broken; it can be rebuilt from spool and outbox."""


class LedgerOutdatedError(Permanent):
    """The database's schema is not the one this version works with."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The database that remembers everything; a handle to be passed around.

    Queries live beside the tables they ask (``arrivals``, ``work``, ``results``,
    ``outbox``, ``overview``) as functions of a connection.
    """

    engine: Engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a transaction that writes; committed at the end, or not at all.

        Raises
        ------
        LedgerBusyError
            If the database could not be reached or stayed locked.
        """
        with _patiently(), self.engine.begin() as tx:
            if tx.dialect.name == "sqlite":
                tx.exec_driver_sql("BEGIN IMMEDIATE")
            yield tx

    @contextmanager
    def remake(self) -> Iterator[Connection]:
        """Run a transaction that may drop a table which others refer to.

        SQLite copies a table to change it.
        """
        with _patiently(), self.engine.connect() as tx:
            if tx.dialect.name != "sqlite":
                with tx.begin():
                    yield tx
                return
            raw = tx.connection
            raw.execute("PRAGMA foreign_keys=OFF")  # nothing, once one has begun
            try:
                with tx.begin():
                    tx.exec_driver_sql("BEGIN IMMEDIATE")
                    yield tx
            finally:
                raw.execute("PRAGMA foreign_keys=ON")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a transaction that only reads, on one snapshot.

        Raises
        ------
        LedgerBusyError
            If the database could not be reached.
        """
        engine = self.engine
        if engine.dialect.name != "sqlite":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with _patiently(), engine.begin() as tx:
            if tx.dialect.name == "sqlite":
                tx.exec_driver_sql("BEGIN")
            yield tx

    def settle(self) -> bool:
        """Bring SQLite's write-ahead log into the database, and empty it.

        What was deleted is in neither then. Returns False where somebody reads all
        the time; on PostgreSQL there is nothing to do.
        """
        if self.engine.dialect.name != "sqlite":
            return True
        deadline = time.monotonic() + SETTLE_S
        while True:
            with self.engine.connect() as tx:
                busy = tx.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
            if not busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.1)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_ledger(
    url: str, *, migrate: bool, patience_s: float | None = None, retry_s: float = 0.0
) -> Ledger:
    """Return the ledger at `url`, its schema brought up to date or checked.

    Parameters
    ----------
    url
        ``sqlite:////path/ledger.sqlite`` or ``postgresql+psycopg://...``.
    migrate
        True for the node, which owns the schema; workers only check it.
    patience_s
        How long to wait for a connection, and for who writes; None for as long as
        work can wait.
    retry_s
        How long to try again where the database does not answer: whatever starts a
        machine starts everything at once.

    On SQLite, what a worker or a person writes is on the disk once it is committed: a
    result, a decision. What the node wrote last may be lost with the power, because it
    can be had again: from the spool, by another tick, by asking the destination.

    Raises
    ------
    LedgerOutdatedError
        If the schema is a newer version's, or not this one's and `migrate` is false.
    LedgerBusyError
        If the database cannot be reached.
    """
    deadline = time.monotonic() + retry_s
    while True:
        try:
            return _opened(url, migrate=migrate, patience_s=patience_s)
        except LedgerBusyError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)


def _opened(url: str, *, migrate: bool, patience_s: float | None) -> Ledger:
    synchronous = "NORMAL" if migrate else "FULL"
    ledger = Ledger(_engine(url, synchronous=synchronous, patience_s=patience_s))
    try:
        if migrate:
            _migrate(ledger)
        else:
            _check(ledger)
    except BaseException:
        ledger.close()
        raise
    return ledger


@contextmanager
def _patiently() -> Iterator[None]:
    """Say of a database that does not answer that it may answer later."""
    try:
        yield
    except (DatabaseError, InterfaceError, sqlite3.DatabaseError) as error:
        said = str(getattr(error, "orig", error))
        if any(words in said for words in _DAMAGED):
            raise LedgerDamagedError(
                f"the ledger is damaged ({said}): see docs/operate/lost-ledger.md"
            ) from error
        if not isinstance(error, _PASSING):
            raise
        raise LedgerBusyError(f"the ledger is not available: {said}") from error
    except PoolTimeoutError as error:
        raise LedgerBusyError("too much asks the ledger at once") from error


def _check_references(tx: Connection) -> None:
    """Raise where a row refers to one that is not there."""
    lost = tx.exec_driver_sql("PRAGMA foreign_key_check").first()
    if lost is not None:
        raise Permanent(
            f"the ledger is damaged: rows of {lost[0]} miss their {lost[2]}"
        )


def _engine(url: str, *, synchronous: str, patience_s: float | None) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        # libpq counts whole seconds, two at least
        waiting = {"connect_timeout": max(2, int(patience_s or CONNECT_TIMEOUT_S))}
        return create_engine(parsed, pool_pre_ping=True, connect_args=waiting)
    if parsed.database and parsed.database != ":memory:":
        make_folder(Path(parsed.database).parent)
        _keep_private(Path(parsed.database))
    engine = create_engine(
        parsed,
        poolclass=QueuePool,
        connect_args={
            "timeout": patience_s or BUSY_TIMEOUT_S,
            "check_same_thread": False,
        },
    )

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten

    event.listen(engine, "connect", connected)
    return engine


def _keep_private(database: Path) -> None:
    """Let nobody else read the file; SQLite gives its companions the same mode."""
    with suppress(PermissionError):  # another account's: it is not ours to change
        database.touch(mode=0o600)
        database.chmod(0o600)


def _scripts() -> Config:
    config = Config()
    folder = Path(__file__).parent.parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _migrate(ledger: Ledger) -> None:
    config = _scripts()
    with ledger.remake() as tx:
        if tx.dialect.name == "postgresql":
            tx.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
            )
        config.attributes["connection"] = tx
        former = MigrationContext.configure(tx).get_current_revision()
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerOutdatedError(
                f"the ledger was made by a newer version: {error}"
            ) from error
        if tx.dialect.name == "sqlite":
            now = MigrationContext.configure(tx).get_current_revision()
            if now != former:
                _check_references(tx)


def _check(ledger: Ledger) -> None:
    head = ScriptDirectory.from_config(_scripts()).get_current_head()
    with ledger.read() as tx:
        found = MigrationContext.configure(tx).get_current_revision()
    if found != head:
        raise LedgerOutdatedError(
            f"the ledger's schema is {found or 'empty'}, this version needs {head}: "
            "start the node first, it brings the schema up to date"
        )
