"""What the two databases spell differently."""

from typing import Any, TypeVarTuple

from sqlalchemy import Connection, Select, Table
from sqlalchemy.dialects import postgresql, sqlite

_Columns = TypeVarTuple("_Columns")


def locked(query: Select[*_Columns]) -> Select[*_Columns]:
    """Return the query so that nobody else changes its rows before the commit.

    Rows that merely refer to them may be written meanwhile. On SQLite there is one
    writer at a time, and nothing to lock.
    """
    return query.with_for_update(key_share=True)


def insert_ignore(tx: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that break no unique key, leave the others out."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    if rows:
        tx.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
