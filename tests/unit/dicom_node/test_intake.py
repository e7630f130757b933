"""The one way in: what is answered, kept, recorded; and taken in again after a crash."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.admission import Expected
from dicom_node.domain import Analysis, FrontDoor, Origin, Received, StudyUid
from dicom_node.errors import (
    CANNOT_UNDERSTAND,
    DATASET_MISMATCH,
    OUT_OF_RESOURCES,
    Rejected,
)
from dicom_node.intake import Intake
from dicom_node.recovery import recover
from dicom_node.spool import Spool
from tests.receiving import (
    STUDY,
    T0,
    Books,
    House,
    data_set_of,
    house,
    part10,
)

ORIGIN = Origin(
    door=FrontDoor.DIMSE, calling_aet="CT_ER", called_aet="PACSIGHT", address="10.1.2.3"
)


@pytest.fixture
def at_home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


def take(home: House, content: bytes, session: object = "s") -> Received:
    """Return an instance with this content, taken in."""
    return home.intake.take(home.put(content), ORIGIN, session=session)


def refusal_of(home: House, content: bytes) -> int:
    """Return the status with which the content is refused."""
    with pytest.raises(Rejected) as caught:
        take(home, content)
    return caught.value.status


def test_an_instance_is_kept_then_recorded(at_home: House) -> None:
    """What is recorded is what lies in the spool."""
    content = part10()
    received = take(at_home, content)
    assert at_home.books.received == [received]
    assert at_home.kept == [received.path]
    assert received.sha256 == hashlib.sha256(data_set_of(content)).hexdigest()
    assert received.size == len(content)
    assert (received.origin, received.at) == (ORIGIN, T0)
    assert received.header.analysis == Analysis.IMAGE


def test_the_same_bytes_twice(at_home: House) -> None:
    """One file, the same digest and place: the ledger sees that nothing is new."""
    first, second = take(at_home, part10()), take(at_home, part10())
    assert first == second
    assert at_home.kept == [first.path]


def test_the_same_uid_with_other_bytes(at_home: House) -> None:
    """Both versions are kept."""
    first = take(at_home, part10())
    second = take(at_home, part10(PatientName="Doe^Janet"))
    assert first.header.sop_instance_uid == second.header.sop_instance_uid
    assert at_home.kept == sorted([first.path, second.path])


def test_two_patients_in_one_study(at_home: House) -> None:
    """Both are taken in; their patients differ, and the ledger decides."""
    first = take(at_home, part10(1))
    second = take(at_home, part10(2, PatientID="PAT-0002"))
    assert first.header.study_uid == second.header.study_uid
    assert first.header.patient != second.header.patient
    assert len(at_home.kept) == 2


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4" * 40, part10()[:-3]])
def test_what_cannot_be_understood_leaves_a_line_and_no_file(
    at_home: House, content: bytes
) -> None:
    """Not DICOM, or truncated: 0xC000."""
    assert refusal_of(at_home, content) == CANNOT_UNDERSTAND
    assert at_home.books.statuses == [CANNOT_UNDERSTAND]
    assert (at_home.kept, at_home.incoming) == ([], [])


def test_not_what_the_command_said(at_home: House) -> None:
    """0xA900, and the refusal names the instance that came."""
    expected = Expected(sop_class_uid="1.2", sop_instance_uid="1.2.3")
    with pytest.raises(Rejected):
        at_home.intake.take(
            at_home.put(part10()), ORIGIN, session="s", expected=expected
        )
    (refusal,) = at_home.books.refused
    assert refusal.status == DATASET_MISMATCH
    assert refusal.sop_instance_uid == f"{STUDY}.1.1"
    assert refusal.origin == ORIGIN


def test_no_room(tmp_path: Path) -> None:
    """A disk that is nearly full: 0xA700, before anything is read."""
    full = house(tmp_path, min_free_bytes=1 << 60)
    assert refusal_of(full, part10()) == OUT_OF_RESOURCES
    assert full.incoming == []


def test_a_ledger_that_does_not_keep_up(at_home: House) -> None:
    """0xA700; the file stays, and is the same when it is sent again."""
    at_home.books.full = True
    assert refusal_of(at_home, part10()) == OUT_OF_RESOURCES
    at_home.books.full = False
    assert at_home.kept == [take(at_home, part10()).path]


def test_a_session_holds_the_study_that_it_is_sending(at_home: House) -> None:
    """Open while its last instance was of it, until the session is closed."""
    intake = at_home.intake
    intake.opened("s")
    assert intake.open_studies() == frozenset()
    take(at_home, part10())
    assert intake.open_studies() == {STUDY}
    take(at_home, part10(2, StudyInstanceUID="1.2.3"))
    assert intake.open_studies() == {StudyUid("1.2.3")}
    intake.closed("s")
    take(at_home, part10(3))
    assert intake.open_studies() == frozenset()


def test_what_the_ledger_does_not_know_is_taken_in_again(at_home: House) -> None:
    """After a crash: everything but the time of arrival is as it was."""
    known = take(at_home, part10(1))
    lost = take(at_home, part10(2))
    later = Books()
    spool = Spool(at_home.spool.incoming().parents[1])
    spool.open()
    intake = Intake(spool=spool, recorder=later, rules=(), clock=lambda: T0)
    path = known.path
    found = recover(spool, lambda _: [path], intake, catch_up=lambda: None)
    assert found == 1
    (again,) = later.received
    assert again.header == lost.header
    assert (again.path, again.sha256, again.size) == (lost.path, lost.sha256, lost.size)
    assert again.origin == ORIGIN
    age = datetime.now(UTC) - again.at
    assert 0 <= age.total_seconds() < 60


def test_what_is_being_recorded_is_not_taken_in_again(at_home: House) -> None:
    """The search meets a file that has just come in, and whose row is on its way."""
    path = take(at_home, part10()).path
    rows: list[str] = []
    later = Books()
    intake = Intake(spool=at_home.spool, recorder=later, rules=(), clock=lambda: T0)
    found = recover(
        at_home.spool, lambda _: rows, intake, catch_up=lambda: rows.append(path)
    )
    assert (found, later.received) == (0, [])


def test_a_damaged_file_is_not_taken_in_again(at_home: House) -> None:
    """A file that is not what its name says stays where it is, and is told."""
    lost = take(at_home, part10())
    file = at_home.spool.path(lost.path)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    later = Books()
    intake = Intake(spool=at_home.spool, recorder=later, rules=(), clock=lambda: T0)
    found = recover(at_home.spool, lambda _: [], intake, catch_up=lambda: None)
    assert found == 0
    assert later.received == []
    assert at_home.kept == [lost.path]
