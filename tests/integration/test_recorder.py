"""The recorder: what the front doors received reaches the ledger, whatever happens."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from dicom_node.domain import FrontDoor, Origin, Refusal
from dicom_node.ledger import Ledger
from dicom_node.ledger.overview import journal, studies
from dicom_node.recorder import LedgerRecorder
from tests.arrivals import ENCODER, T0, received, study_uid
from tests.ledgers import pending

NO_NUMBER = "no number"


@pytest.fixture
def woken() -> Event:
    """Return what is set once something was written."""
    return Event()


@pytest.fixture
def recorder(ledger: Ledger, woken: Event) -> Iterator[LedgerRecorder]:
    """Return a recorder that writes."""
    writing = LedgerRecorder(ledger, encoders=[ENCODER.digest], wake=woken.set)
    writing.start()
    yield writing
    writing.stop()


def instances(ledger: Ledger) -> dict[str, int]:
    """Return how many instances each study has."""
    with ledger.read() as tx:
        return {line.study_uid: line.instances for line in studies(tx)}


def test_what_was_received_is_in_the_ledger_after_a_flush(
    ledger: Ledger, recorder: LedgerRecorder, woken: Event
) -> None:
    """And the node is woken, so that work begins at once."""
    for number in range(1, 4):
        recorder.record(received(number=number))
    recorder.flush()
    assert instances(ledger) == {study_uid(): 3}
    assert len(pending(ledger)) == 3
    assert woken.is_set()
    assert recorder.pending_studies() == frozenset()


def test_many_doors_record_at_once(ledger: Ledger, recorder: LedgerRecorder) -> None:
    """Nothing is lost or doubled, whoever comes first."""

    def door(number: int) -> None:
        for instance in range(1, 51):
            recorder.record(received(number, instance))

    with ThreadPoolExecutor(4) as doors:
        list(doors.map(door, range(1, 5)))
    recorder.flush()
    assert instances(ledger) == {study_uid(n): 50 for n in range(1, 5)}


def test_what_waits_is_known_as_pending(ledger: Ledger) -> None:
    """A study of which an instance is on its way is not complete."""
    waiting = LedgerRecorder(ledger, encoders=[], wake=lambda: None)
    waiting.record(received(3))
    assert waiting.pending_studies() == frozenset({study_uid(3)})
    waiting.start()
    waiting.stop()
    assert instances(ledger) == {study_uid(3): 1}


def test_a_refusal_is_in_the_journal(ledger: Ledger, recorder: LedgerRecorder) -> None:
    """With the status that the sender was told."""
    refusal = Refusal(
        origin=Origin(door=FrontDoor.DIMSE),
        at=T0,
        status=0xC000,
        comment="truncated",
        sop_instance_uid="1.2.3",
    )
    recorder.refuse(refusal)
    recorder.flush()
    with ledger.read() as tx:
        (line,) = journal(tx, None, limit=9)
    assert (line.kind, line.detail, line.sop_instance_uid) == (
        "refused",
        "0xC000 truncated",
        "1.2.3",
    )


def test_one_that_the_ledger_cannot_hold_holds_up_no_other(
    ledger: Ledger, recorder: LedgerRecorder
) -> None:
    """It is noted; those before and after it are recorded."""
    recorder.record(received(number=1))
    recorder.record(received(number=2, frames=NO_NUMBER))
    recorder.record(received(number=3))
    recorder.flush()
    recorder.record(received(number=4))
    recorder.flush()
    assert instances(ledger) == {study_uid(): 3}
    with ledger.read() as tx:
        (line,) = journal(tx, None, limit=9)
    assert (line.kind, line.detail) == (
        "not recorded",
        "it stays in the spool: TypeError",
    )


def test_a_ledger_that_is_busy_is_waited_for(sqlite_ledger: Ledger) -> None:
    """Another process holds the database for a moment."""
    database = sqlite_ledger.engine.url.database
    assert database is not None
    blocker = sqlite3.connect(database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    patient = LedgerRecorder(sqlite_ledger, encoders=[], wake=lambda: None)
    patient.start()
    patient.record(received(7001))
    assert patient.pending_studies() == frozenset({study_uid(7001)})
    blocker.execute("ROLLBACK")
    blocker.close()
    patient.stop()
    assert instances(sqlite_ledger)[study_uid(7001)] == 1
