"""What happened, line by line: the ledger's journal."""

from datetime import datetime

from sqlalchemy import Connection, insert

from dicom_node.ledger.tables import event


def note(
    tx: Connection,
    at: datetime,
    kind: str,
    detail: str,
    *,
    study_id: int | None = None,
    uid: str = "",
) -> None:
    """Write one line of the journal.

    Parameters
    ----------
    kind
        A few words that stay the same, e.g. ``refused``, ``new version``.
    detail
        A sentence without patient data.
    """
    tx.execute(
        insert(event).values(
            at=at, kind=kind, detail=detail, study_id=study_id, sop_instance_uid=uid
        )
    )
