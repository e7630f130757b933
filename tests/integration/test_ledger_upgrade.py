"""A ledger of each former version, with data in it, goes on under this one.

The rows were written by those versions' own code: see ``tests/data/ledgers/make.py``.
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, insert, select, text

import dicom_node
from dicom_node.ledger import Ledger, Tx, open_ledger, overview
from dicom_node.ledger.deliveries import dead_letters, deliveries
from dicom_node.ledger.tables import delivery, version
from tests.arrivals import T0, received, study_uid
from tests.integration.test_ledger_schema import differences
from tests.ledgers import (
    complete,
    conclude,
    deliver,
    embed,
    job_input,
    jobs,
    open_revision,
    record,
    state,
)

FORMER = Path(__file__).parents[1] / "data" / "ledgers"
SCHEMAS = sorted(path.stem for path in FORMER.glob("*.json"))
UNRELEASED = {"0006", "0007", "0008", "0009", "0010"}
"""What comes with the next version."""


def scripts() -> Config:
    """Return the migrations."""
    config = Config()
    folder = Path(dicom_node.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    return config


def fill(url: str, schema: str) -> None:
    """Make the ledger that a version with this schema left."""
    engine = create_engine(url)
    config = scripts()
    with engine.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, schema)
    tables = MetaData()
    tables.reflect(engine)
    rows = json.loads((FORMER / f"{schema}.json").read_text())
    with engine.begin() as tx:
        for table in tables.sorted_tables:
            for row in rows.get(table.name, ()):
                values = {key: value_of(value) for key, value in row.items()}
                tx.execute(insert(table).values(**values))
            if table.name in rows and "id" in table.c:
                go_on_counting(tx, table.name)
    engine.dispose()


def value_of(value: Any) -> Any:
    """Return what JSON stands for."""
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return base64.b64decode(value["bytes"])
    return datetime.fromisoformat(value["time"])


def go_on_counting(tx: Tx, name: str) -> None:
    """Let PostgreSQL go on behind the keys that were given."""
    if tx.dialect.name == "postgresql":
        counter = f"pg_get_serial_sequence('{name}', 'id')"
        tx.execute(text(f"SELECT setval({counter}, max(id)) FROM {name}"))  # noqa: S608


@pytest.fixture(params=SCHEMAS)
def upgraded(request: pytest.FixtureRequest, empty_url: str) -> Iterator[Ledger]:
    """Return a former version's ledger, as this version's node opened it."""
    fill(empty_url, request.param)
    ledger = open_ledger(empty_url, migrate=True)
    yield ledger
    ledger.close()


def test_every_released_schema_is_among_them() -> None:
    """A schema that a version had is tried with that version's rows."""
    walked = ScriptDirectory.from_config(scripts()).walk_revisions()
    released = {script.revision for script in walked}

    assert released - UNRELEASED == set(SCHEMAS)


def test_a_former_versions_studies_go_on(upgraded: Ledger) -> None:
    """Done stays done, reports are sent, packs are run, frames embedded, images taken."""
    assert differences(upgraded) == []
    assert [state(upgraded, n) for n in range(1, 7)] == [
        "done",
        "delivering",
        "held",
        "receiving",
        "concluding",
        "undelivered",
    ]

    assert deliver(upgraded, 2) == 2
    conclude(upgraded, 5)
    assert deliver(upgraded, 5) == 2
    assert embed(upgraded) == 2
    complete(upgraded, 4)
    assert open_revision(upgraded, 4) == 1
    conclude(upgraded, 4)
    assert deliver(upgraded, 4) == 2

    assert [state(upgraded, n) for n in (2, 5, 4)] == ["done"] * 3
    with upgraded.read() as tx:
        listed = {line.study_uid for line in overview.studies(tx)}
        assert listed == {study_uid(n) for n in range(1, 7)}
        assert [line.kind for line in overview.journal(tx, None, limit=9)] == [
            "refused"
        ]
        assert len(deliveries(tx)) == 10
        assert len(dead_letters(tx)) == 2


def test_a_late_image_supersedes_a_former_versions_report(upgraded: Ledger) -> None:
    """The new revision's report names the one that the former version delivered."""
    record(upgraded, received(1, 3))
    embed(upgraded)
    complete(upgraded, 1)
    assert open_revision(upgraded, 1) == 2

    first, second = jobs(upgraded, 1)
    about = job_input(upgraded, second.id)
    with upgraded.read() as tx:
        reports = [
            line.sop_instance_uid
            for line in deliveries(tx, study_uid=study_uid(1))
            if line.kind == "SR"
        ]
    assert first.state == "done"
    assert [one.sop_instance_uid for one in about.predecessors] == reports
    assert len(about.embeddings) == 3


def test_what_a_version_before_verification_delivered_stays(empty_url: str) -> None:
    """What was delivered or given up stays so, since when; nothing counts as verified."""
    fill(empty_url, "0002")
    ledger = open_ledger(empty_url, migrate=True)
    query = select(delivery.c.state, delivery.c.verified, delivery.c.dead_at)
    with ledger.read() as tx:
        rows = tx.execute(query.distinct().order_by(delivery.c.state)).all()
    assert [tuple(row) for row in rows] == [
        ("dead", "", T0),
        ("delivered", "", None),
        ("waiting", "", None),
    ]
    ledger.close()


def test_a_key_is_not_given_twice(ledger: Ledger) -> None:
    """What was removed may still be in a worker's hand: nothing else gets its key."""
    keys = []
    for number in (1, 2):
        record(ledger, received(number))
        with ledger.write() as tx:
            keys.append(tx.execute(select(version.c.id)).scalar_one())
            for name in ("embedding", "version", "study"):
                tx.execute(text(f"DELETE FROM {name}"))  # noqa: S608 - our own names

    assert keys[0] < keys[1]
