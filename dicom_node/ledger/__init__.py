"""The ledger: what the node knows, in SQL. SQLAlchemy Core, no ORM.

``connection`` opens it, ``tables`` is the schema, and the queries stand in files
by subject: ``arrivals``, ``frames``, ``leases``, ``work``, ``motion``,
``results``, ``outbox``, ``overview``. Each is a function of a connection that its caller commits.
"""

from sqlalchemy import Connection as Tx

from dicom_node.ledger.connection import (
    Ledger,
    LedgerBusyError,
    LedgerDamagedError,
    LedgerOutdatedError,
    open_ledger,
)

__all__ = [
    "Ledger",
    "LedgerBusyError",
    "LedgerDamagedError",
    "LedgerOutdatedError",
    "Tx",
    "open_ledger",
]
