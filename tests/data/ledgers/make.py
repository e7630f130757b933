"""Write what a ledger of a former version held, as JSON: rows by table.

Run by that version's own code, with its tree first on the path, from its root::

    PYTHONPATH=. python -P make.py 0003.json

Studies by their numbers: 1 is done, 2 has a report on its way, 3 is held, 4 is being
received, 5 waits for a pack, 6 was given up by its destination.
"""

import base64
import json
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from sqlalchemy import select, text

from dicom_node.ledger import Ledger, open_ledger
from dicom_node.ledger.events import note
from dicom_node.ledger.tables import metadata
from tests.arrivals import T0, digest, not_an_image, received, series
from tests.ledgers import (
    complete,
    conclude,
    deliver,
    embed,
    open_revision,
    record,
    standing,
)


def fill(ledger: Ledger) -> None:
    """Take studies as far as each should come."""
    for number in (1, 2, 6):
        record(ledger, *series(number, 2), not_an_image(number))
        embed(ledger)
        complete(ledger, number)
        open_revision(ledger, number)
        conclude(ledger, number)
    deliver(ledger, 1)
    with ledger.write() as tx:
        key = standing(ledger, 6).key
        waiting = text(
            "UPDATE delivery SET state = 'dead', attempts = 3, detail = 'refused'"
            " WHERE artefact_id IN (SELECT artefact.id FROM artefact JOIN job ON"
            " job.id = job_id JOIN revision ON revision.id = revision_id"
            " WHERE study_id = :key)"
        )
        tx.execute(waiting, {"key": key})
        tx.execute(
            text("UPDATE study SET state = 'undelivered' WHERE id = :key"), {"key": key}
        )
        note(tx, T0, "refused", "0xA900 not the command's", uid="1.2.3")
    record(ledger, received(3, 1), received(3, 2, patient=digest("another")))
    record(ledger, received(5))
    embed(ledger)
    complete(ledger, 5)
    open_revision(ledger, 5)
    record(ledger, *series(4, 2))


def plain(value: object) -> object:
    """Return a value as JSON has it."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"time": value.replace(tzinfo=None).isoformat()}
    return value


def main(out: Path) -> None:
    """Fill a new ledger, and write down its rows."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=True)
        fill(ledger)
        with ledger.read() as tx:
            rows = {
                table.name: [
                    {key: plain(value) for key, value in row._mapping.items()}
                    for row in tx.execute(select(table))
                ]
                for table in metadata.sorted_tables
            }
        ledger.close()
    lines = [
        f" {json.dumps(name)}: [\n  "
        + ",\n  ".join(json.dumps(r) for r in table)
        + "\n ]"
        for name, table in rows.items()
        if table
    ]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


main(Path(sys.argv[1]))
