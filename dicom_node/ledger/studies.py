"""Move a study from state to state, as `dicom_node.lifecycle` allows."""

from datetime import datetime

from sqlalchemy import Connection, select, update

from dicom_node.ledger.events import note
from dicom_node.ledger.sql import locked
from dicom_node.ledger.tables import study
from dicom_node.lifecycle import Event, State, advance


def happen(
    tx: Connection, study_id: int, event: Event, *, detail: str, at: datetime
) -> State:
    """Let `event` happen to the study and return its new state.

    The journal gets a line where the state changes.

    Raises
    ------
    ImpossibleError
        If the study's state does not allow the event.
    """
    query = select(study.c.state).where(study.c.id == study_id)
    old = State(tx.execute(locked(query)).scalar_one())
    new = advance(old, event)
    if new is old:
        return new
    tx.execute(
        update(study).where(study.c.id == study_id).values(state=new, detail=detail)
    )
    note(tx, at, new.value, detail, study_id=study_id)
    return new
