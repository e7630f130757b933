"""What came in is told once for each study, when its association ends or before."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.domain import AuditEvent, FrontDoor, InstancesReceived, Origin
from dicom_node.errors import Rejected
from dicom_node.intake import Intake
from dicom_node.spool import Spool
from dicom_node.tally import LONGEST, MOST_INSTANCES, ReceivedTally
from tests.receiving import STUDY, T0, Books, part10

FROM_CT = Origin(
    door=FrontDoor.DIMSE, calling_aet="CT1", called_aet="PACSIGHT", address="10.1.2.3"
)
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Watched:
    """An intake whose clock a test sets, and what it told."""

    folder: Path
    now = T0
    told: list[AuditEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        spool = Spool(self.folder / "spool")
        spool.open()
        self.intake = Intake(
            spool=spool,
            recorder=Books(),
            rules=(),
            clock=lambda: self.now,
            note=self.told.append,
        )

    def take(self, content: bytes, session: object = "association") -> None:
        """Take an instance in, as a front door does."""
        path = self.intake.spool.incoming() / "file.part"
        path.write_bytes(content)
        self.intake.take(path, FROM_CT, session=session)

    def counted(self) -> list[tuple[str, str, dict[str, int]]]:
        """Return study, Patient ID and the instances by class of each event."""
        received = [e for e in self.told if isinstance(e, InstancesReceived)]
        assert received == self.told
        return [
            (
                e.study_uid,
                e.patient_id,
                {c.sop_class_uid: c.instances for c in e.sop_classes},
            )
            for e in received
        ]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Return an intake with room."""
    return Watched(tmp_path)


def test_an_association_is_told_at_its_end(watched: Watched) -> None:
    """Once for each study, with its instances by SOP class, and who sent them."""
    watched.intake.opened("association")
    watched.take(part10(1))
    watched.take(part10(2))
    watched.take(part10(3, SOPClassUID=MR))
    watched.take(part10(4, StudyInstanceUID="1.2.3", PatientID="PAT-0002"))
    before = list(watched.told)
    watched.intake.closed("association")
    watched.intake.closed("association")

    assert before == []
    assert watched.counted() == [
        (STUDY, "PAT-0001", {CT: 2, MR: 1}),
        ("1.2.3", "PAT-0002", {CT: 1}),
    ]
    (first, _) = watched.told
    assert isinstance(first, InstancesReceived)
    assert first.origin == FROM_CT


def test_an_endless_association_is_told_now_and_then(watched: Watched) -> None:
    """What was counted for some seconds is told, even if nothing more comes."""
    watched.intake.opened("association")
    watched.take(part10(1))
    watched.now += LONGEST - timedelta(seconds=1)
    watched.take(part10(2))
    watched.intake.tally.tell_old()
    early = list(watched.told)
    watched.now += timedelta(seconds=1)
    watched.intake.tally.tell_old()
    watched.take(part10(3))
    watched.intake.closed("association")

    assert early == []
    assert watched.counted() == [
        (STUDY, "PAT-0001", {CT: 2}),
        (STUDY, "PAT-0001", {CT: 1}),
    ]


def test_a_user_is_told(watched: Watched) -> None:
    """Who showed a token is named with what came in his request, and not after it."""
    watched.intake.opened("request", user="anna")
    watched.take(part10(1), "request")
    watched.intake.closed("request")
    watched.take(part10(2), "request")
    watched.intake.closed("request")

    users = [e.user for e in watched.told if isinstance(e, InstancesReceived)]
    assert users == ["anna", ""]


def test_what_was_refused_is_not_told_as_received(watched: Watched) -> None:
    """It stands in the ledger's journal."""
    with pytest.raises(Rejected):
        watched.take(part10(1, StudyInstanceUID=None))
    watched.intake.closed("association")

    assert watched.told == []


def test_much_is_told_at_once(watched: Watched) -> None:
    """A thousand instances are a message of their own."""
    watched.take(part10(1))
    (path,) = watched.intake.spool.files()
    header = watched.intake.take_again(path).header
    tally = ReceivedTally(watched.told.append, lambda: watched.now)
    for _ in range(MOST_INSTANCES + 1):
        tally.add("association", header, FROM_CT)
    tally.tell_all()

    assert [counts for _, _, counts in watched.counted()] == [{CT: 1000}, {CT: 1}]


def test_what_is_recovered_is_told(watched: Watched) -> None:
    """After a crash nobody knows whether it was."""
    watched.take(part10(1))
    watched.intake.closed("association")
    (path,) = watched.intake.spool.files()
    watched.intake.take_again(path)
    watched.intake.tally.tell_all()

    assert watched.counted() == [(STUDY, "PAT-0001", {CT: 1})] * 2
