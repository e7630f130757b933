"""C-FIND at the node's own door, from the wire: DCMTK's findscu, and our own SCU."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.domain.audited import Alarm, AuditEvent, Queried, SecurityAlert
from dicom_node.find_scp import FindScp
from dicom_node.hearing import Listener
from dicom_node.ledger import open_ledger
from dicom_node.peers import Inquiry, Peer, Right
from dicom_node.query import STUDY_ROOT_FIND, Level, archive
from dicom_node.scp import StorageScp
from tests.arrivals import received, series, study_uid
from tests.ledgers import record
from tests.peers import QUICK
from tests.receiving import house, running

FINDSCU = "/usr/bin/findscu"

pytestmark = pytest.mark.skipif(
    not Path(FINDSCU).exists(), reason="DCMTK is not installed"
)


@dataclass(frozen=True)
class Asked:
    """A node with two studies that the title ASKER may ask about."""

    port: int
    told: list[AuditEvent]

    def find(self, *keys: str, calling: str = "ASKER") -> str:
        """Return what findscu prints of a question at the level of studies."""
        all_keys = ("QueryRetrieveLevel=STUDY", *keys)
        words = [word for key in all_keys for word in ("-k", key)]
        done = subprocess.run(
            [FINDSCU, "-v", "-S", "-aet", calling, "127.0.0.1", str(self.port), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.stdout + done.stderr


@pytest.fixture
def node(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Asked]:
    """Return a running node."""
    shutil.copyfile(migrated_sqlite, tmp_path / "ledger.sqlite")
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", migrate=False)
    record(ledger, *series(1, 2), received(2))
    told: list[AuditEvent] = []
    scp = FindScp(ledger=ledger, askers=frozenset({"ASKER"}), note=told.append)
    listener = Listener(
        callers={"MODALITY": frozenset()}, askers={"ASKER": frozenset()}
    )
    server = StorageScp(
        listener, house(tmp_path).intake, responds=scp.respond, note=told.append
    )
    with running(server):
        yield Asked(port=server.port, told=told)
    ledger.close()


def test_studies_are_found_by_their_modality(node: Asked) -> None:
    """With their numbers of instances; patient attributes come back empty."""
    said = node.find("ModalitiesInStudy=DX", "NumberOfStudyRelatedInstances")
    assert said.count("(Pending)") == 2
    assert study_uid(1) in said
    assert said.count("NumberOfStudyRelatedInstances") >= 2
    assert node.told == [
        Queried(by="ASKER", of="", address="127.0.0.1", sop_class_uid=STUDY_ROOT_FIND)
    ]


def test_one_study_is_asked_for_by_its_uid(node: Asked) -> None:
    """The audit trail is told which."""
    said = node.find(f"StudyInstanceUID={study_uid(2)}")
    assert said.count("(Pending)") == 1
    (event,) = node.told
    assert isinstance(event, Queried)
    assert event.study_uid == study_uid(2)


def test_what_cannot_be_matched_is_refused(node: Asked) -> None:
    """A name is no key here: A900, and nobody's studies."""
    said = node.find("PatientName=DOE*")
    assert "Pending" not in said
    assert "Error: DataSetDoesNotMatchSOPClass" in said


def test_who_has_no_right_to_query_is_refused(node: Asked) -> None:
    """A modality that may send: 0124, and an alert."""
    said = node.find("StudyInstanceUID", calling="MODALITY")
    assert "Pending" not in said
    (alert,) = node.told
    assert isinstance(alert, SecurityAlert)
    assert alert.alarm is Alarm.USE_OF_RESTRICTED_FUNCTION
    assert (alert.who, alert.reason) == ("MODALITY", "this peer has no right to query")


def test_who_may_query_has_an_association_and_no_right_to_send(node: Asked) -> None:
    """A stranger has none."""
    ae = AE(ae_title="ASKER")
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", node.port, ae_title="PACSIGHT")
    assert association.is_established
    association.release()
    ae.ae_title = "STRANGER"
    assert ae.associate("127.0.0.1", node.port, ae_title="PACSIGHT").is_rejected


def test_our_own_scu_understands_it(node: Asked) -> None:
    """One pacsight can ask another one: instances of a study, by its series."""
    other = Peer(
        name="other",
        aet="PACSIGHT",
        host="127.0.0.1",
        port=node.port,
        calling_aet="ASKER",
        rights=frozenset({Right.QUERY}),
    )
    with archive(other, Inquiry.CFIND, QUICK) as asked:
        (study,) = asked.find(
            Level.STUDY,
            {"StudyInstanceUID": study_uid(1)},
            ["NumberOfStudyRelatedInstances"],
        )
    assert study.NumberOfStudyRelatedInstances == 2
