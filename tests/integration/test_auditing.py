"""A node that runs tells its audit trail what happens to it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.access import Role, ServiceToken, digest_of
from dicom_node.audit.folder import AuditFolder
from dicom_node.auditing import alarmed, audited, patient_pseudonyms
from dicom_node.config import Settings
from dicom_node.config.doors import Dicom, Http
from dicom_node.config.tables import Audit
from dicom_node.domain import UserAuthenticated
from dicom_node.errors import Permanent, SettingsError
from dicom_node.peers import Peer, Tls
from dicom_node.service import Node
from tests.audits import parsed
from tests.receiving import BOUNDARY, STUDY, multipart, part10

TOKEN = "pacsight_of-a-router"  # noqa: S105 - a router's, in this test
ROUTER = ServiceToken(
    name="router", sha256=digest_of(TOKEN), roles=frozenset({Role.SEND})
)


def settings(folder: Path, **audit: Any) -> Settings:
    """Return settings of a node that hears one modality, and no broker yet."""
    return Settings(
        data_dir=folder / "data",
        broker_url="redis://127.0.0.1:1/0",
        audit=Audit(**audit),
        dicom=Dicom(port=0, accept_unknown_peers=False),
        http=Http(port=0, tokens=(ROUTER,)),
        peers=(Peer(name="ct", aet="CT1"),),
    )


def test_a_node_tells_what_happens(tmp_path: Path) -> None:
    """Start, both front doors, who was turned away, who came in, stop: no patient's name."""
    given = settings(tmp_path)
    node = Node(given, [])
    node.start()
    try:
        _store("CT1", node.dicom_port)
        assert not _associates("STRANGER", node.dicom_port)
        _post(node.http_port)
    finally:
        node.stop()
    messages = list(AuditFolder(path=tmp_path / "data" / "audit").messages())
    trees = [parsed(message) for message in messages]
    pseudonym = patient_pseudonyms(given).of("PAT-0001")

    assert [_event(tree) for tree in trees] == [
        ("110100", "pacsight node", ""),
        ("110104", "CT1", STUDY),
        ("110113", "pacsight node", "127.0.0.1"),
        ("110114", "router", ""),
        ("110104", "127.0.0.1", STUDY),
        ("110100", "pacsight node", ""),
    ]
    assert trees[4].findall("ActiveParticipant")[-1].get("UserID") == "router"
    named = [tree for tree in trees if pseudonym in _patients(tree)]
    assert named == [trees[1], trees[4]]
    assert not [m for m in messages if b"PAT-0001" in m or b"Doe" in m]


def test_a_pack_that_does_not_verify_is_an_alert(tmp_path: Path) -> None:
    """The node does not start; the trail says why. A typing error is none."""
    given = settings(tmp_path)
    with pytest.raises(Permanent), alarmed(given, "node"):
        raise Permanent("the pack was changed")
    with pytest.raises(SettingsError), alarmed(given, "node"):
        raise SettingsError("dicom.prot is no setting")
    trees = [parsed(m) for m in AuditFolder(path=given.audit_dir).messages()]
    happening = trees[1].find("EventIdentification")

    assert [_event(tree)[0] for tree in trees] == ["110100", "110113", "110100"]
    assert happening.find("EventTypeCode").get("csd-code") == "110131"
    assert "the pack was changed" in happening.findtext("EventOutcomeDescription")


def test_a_site_may_keep_no_trail(tmp_path: Path) -> None:
    """Nothing is written, and what is told is dropped."""
    given = settings(tmp_path, enabled=False)
    with audited(given, "node") as note:
        note(UserAuthenticated(user="anna", address="10.1.2.3", accepted=True))

    assert not given.data_dir.exists()


def test_a_collector_needs_files_that_can_be_used() -> None:
    """A certificate that is not there is a fault of the settings, said at once."""
    with pytest.raises(SettingsError, match=r"audit: tls\.ca: there is no file /no/ca"):
        Settings(audit=Audit(syslog_host="log.example", tls=Tls(ca=Path("/no/ca"))))


def _store(aet: str, port: int) -> None:
    ae = AE(ae_title=aet)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="PACSIGHT")
    dataset = dcmread(BytesIO(part10(1)))
    assert association.send_c_store(dataset).Status == 0
    association.release()


def _associates(aet: str, port: int) -> bool:
    ae = AE(ae_title=aet)
    ae.add_requested_context(CTImageStorage)
    return bool(ae.associate("127.0.0.1", port, ae_title="PACSIGHT").is_established)


def _post(port: int) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/dicom-web/studies",
        content=multipart([part10(2)]),
        headers={
            "Content-Type": 'multipart/related; type="application/dicom";'
            f' boundary="{BOUNDARY}"',
            "Authorization": f"Bearer {TOKEN}",
        },
    )
    assert answer.status_code == 200


def _event(tree: Any) -> tuple[str, str, str]:
    """Return the code, who came first, and what it was done to."""
    code = tree.find("EventIdentification/EventID").get("csd-code")
    first = tree.find("ActiveParticipant")
    subject = tree.find("ParticipantObjectIdentification")
    return (
        code,
        first.get("UserName") or first.get("UserID"),
        "" if subject is None else subject.get("ParticipantObjectID"),
    )


def _patients(tree: Any) -> list[str]:
    return [
        subject.get("ParticipantObjectID")
        for subject in tree.findall("ParticipantObjectIdentification")
        if subject.get("ParticipantObjectTypeCodeRole") == "1"
    ]
