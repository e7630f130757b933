"""The ledger's schema: made by migrations, checked by workers, the same everywhere."""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.schema import SchemaItem

import dicom_node
from dicom_node.domain import Exam
from dicom_node.ledger import (
    Ledger,
    LedgerBusyError,
    LedgerOutdatedError,
    arrivals,
    open_ledger,
)
from dicom_node.ledger.exams import exam_of_row
from dicom_node.ledger.tables import metadata, version
from tests.arrivals import ENCODER, received
from tests.postgres import Cluster

MIGRATIONS = Path(dicom_node.__file__).parent / "migrations"


def differences(ledger: Ledger) -> Sequence[object]:
    """Return what the migrated database has and the tables say otherwise."""
    with ledger.read() as tx:
        context = MigrationContext.configure(
            tx, opts={"compare_type": True, "include_object": _is_ours}
        )
        return list(compare_metadata(context, metadata))


def _is_ours(
    _item: SchemaItem, name: str | None, kind: str, *_: object, **__: object
) -> bool:
    return (kind, name) != ("table", "alembic_version")


def test_the_migrated_schema_is_the_one_that_the_tables_describe(
    ledger: Ledger,
) -> None:
    """After all migrations, Alembic finds nothing left to change."""
    assert differences(ledger) == []


def test_a_ledger_is_migrated_twice_without_harm(empty_url: str) -> None:
    """A node that starts again keeps its schema and what is in it."""
    for number in (1, 2):
        ledger = open_ledger(empty_url, migrate=True)
        with ledger.write() as tx:
            arrivals.record(tx, [received(number)], encoders=[])
        ledger.close()
    again = open_ledger(empty_url, migrate=False)
    with again.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM study")).scalar_one() == 2
    again.close()


def migrate_back(url: str, revision: str) -> None:
    """Bring a ledger to the schema of an older version, as its operator would."""
    former = open_ledger(url, migrate=False)
    scripts = Config()
    scripts.set_main_option("script_location", str(MIGRATIONS))
    with former.remake() as tx:
        scripts.attributes["connection"] = tx
        command.downgrade(scripts, revision)
    former.close()


def test_a_ledger_from_before_geometries_is_migrated(ledger_url: str) -> None:
    """What it holds stays; its frames have no geometry."""
    migrate_back(ledger_url, "0001")
    ledger = open_ledger(ledger_url, migrate=True)
    assert differences(ledger) == []
    with ledger.write() as tx:
        arrivals.record(tx, [received(1)], encoders=[ENCODER.digest])
        geometries = tx.execute(text("SELECT geometry FROM embedding")).scalars()
        assert set(geometries) == {None}
    ledger.close()


def test_a_ledger_from_before_exams_is_migrated(ledger_url: str) -> None:
    """Of what it holds, modality, body part and view are known; of the rest, nothing."""
    migrate_back(ledger_url, "0004")
    ledger = open_ledger(ledger_url, migrate=True)
    assert differences(ledger) == []
    exam = Exam(modality="DX", body_part="CHEST", view="PA", sex="F", rows=2000)
    with ledger.write() as tx:
        arrivals.record(tx, [received(1, exam=exam)], encoders=[])
        row = tx.execute(select(version)).one()
        assert exam_of_row(row) == exam
        tx.execute(text("UPDATE version SET exam = NULL"))
        row = tx.execute(select(version)).one()
        assert exam_of_row(row) == Exam(modality="DX", body_part="CHEST", view="PA")
    ledger.close()


def test_many_nodes_may_start_at_once(empty_url: str) -> None:
    """Whoever comes first migrates; the others find the work done."""

    def start(_number: int) -> None:
        open_ledger(empty_url, migrate=True).close()

    with ThreadPoolExecutor(4) as nodes:
        list(nodes.map(start, range(4)))
    ledger = open_ledger(empty_url, migrate=False)
    assert differences(ledger) == []
    ledger.close()


def test_a_worker_refuses_a_ledger_without_schema(empty_url: str) -> None:
    """Workers never change the schema: they say who does."""
    with pytest.raises(LedgerOutdatedError, match="start the node first"):
        open_ledger(empty_url, migrate=False)


def test_a_worker_refuses_an_older_schema(ledger_url: str) -> None:
    """A schema of another version is not worked with."""
    _stamp(ledger_url, "0000")
    with pytest.raises(LedgerOutdatedError, match="schema is 0000"):
        open_ledger(ledger_url, migrate=False)


def test_a_node_refuses_a_newer_schema(ledger_url: str) -> None:
    """An older version that is started by mistake leaves the ledger alone."""
    _stamp(ledger_url, "9999")
    with pytest.raises(LedgerOutdatedError, match="newer"):
        open_ledger(ledger_url, migrate=True)


def test_a_database_that_cannot_be_reached_is_busy(tmp_path: Path) -> None:
    """Who starts before the database does tries again."""
    url = f"postgresql+psycopg://nobody@/none?host={tmp_path}"
    with pytest.raises(LedgerBusyError, match="not available"):
        open_ledger(url, migrate=True)


def test_a_database_that_is_just_starting_is_waited_for(postgres: Cluster) -> None:
    """Whatever starts a machine starts everything at once."""

    def make() -> None:
        where = f"host={postgres.folder} user=pacsight dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute("CREATE DATABASE later")

    later = threading.Timer(0.3, make)
    later.start()
    open_ledger(postgres.url("later"), migrate=True, retry_s=20).close()
    later.join()
    postgres.drop("later")


@pytest.mark.parametrize(("migrate", "level"), [(True, 1), (False, 2)])
def test_what_a_worker_commits_survives_a_power_cut(
    migrated_sqlite: Path,
    tmp_path: Path,
    migrate: bool,  # noqa: FBT001
    level: int,
) -> None:
    """SQLite syncs each commit of a worker, and those of the node with the next."""
    path = tmp_path / "ledger.sqlite"
    shutil.copyfile(migrated_sqlite, path)
    ledger = open_ledger(f"sqlite:///{path}", migrate=migrate)
    with ledger.read() as tx:
        assert tx.execute(text("PRAGMA synchronous")).scalar_one() == level
        assert tx.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert tx.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    ledger.close()


def _stamp(url: str, revision: str) -> None:
    ledger = open_ledger(url, migrate=False)
    with ledger.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": revision})
    ledger.close()
