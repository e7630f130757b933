"""The one statement that the two databases spell differently."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_ignore(tx: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that break no unique key, leave the others out."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    if rows:
        tx.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
