"""The main job: a study sent to the node comes back to the PACS as SR and capture.

Everything is real: ``pacsight up`` with its Redis, node and worker, the demo pack,
DCMTK's dcmsend as the modality, Orthanc as the PACS.
"""

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import RLELossless

from dicom_node.audit.folder import AuditFolder
from tests.audits import parsed
from tests.integration.conftest import Orthanc, free_port
from tests.running import PACSIGHT, Running, descendants, is_alive
from workers.phantoms import datasets, phantom

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"
KINDS = ("Application Start", "Application Stop")
KO_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"


def settings(pacs: Orthanc) -> str:
    """Return settings with Orthanc as destination, and little patience."""
    return f"""
[study]
quiet_period_s = 1.0
expected_quiet_period_s = 0.5
minimum_revision_interval_s = 0

[report]
reject_superseded = true

[[peers]]
name = "pacs"
aet = "{pacs.aet}"
host = "127.0.0.1"
port = {pacs.dicom_port}
dicomweb = "{pacs.dicomweb}"
rights = ["send", "query", "destination"]

[peers.retry]
first_s = 0.5
cap_s = 2.0

[[priority_rules]]
calling_aet = "EMERGENCY"
priority = "stat"
"""


@pytest.fixture(scope="module")
def node(
    orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Return a running pacsight whose results go to the session's Orthanc."""
    running = Running(
        folder=tmp_path_factory.mktemp("up"),
        dicom_port=free_port(),
        http_port=free_port(),
        settings=settings(orthanc),
    )
    orthanc.know("PACSIGHT", running.dicom_port)
    running.start()
    yield running
    running.stop()


def ours(pacs: Orthanc, study_uid: str, sop_class: str) -> list[Dataset]:
    """Return the objects of a class that Orthanc has of a study."""
    query = {"StudyInstanceUID": study_uid, "SOPClassUID": sop_class}
    wanted = {"Level": "Instance", "Query": query}
    keys = httpx.post(f"{pacs.url}/tools/find", json=wanted).raise_for_status().json()
    instances = OrthancApiClient(pacs.url).instances
    return [dcmread(io.BytesIO(instances.get_file(key))) for key in keys]


def evidence_of(document: Dataset) -> set[str]:
    """Return the instances that a document names, all of one study."""
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    return {
        str(item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_studies_come_back_as_report_and_capture(
    node: Running, orthanc: Orthanc
) -> None:
    """A chest X-ray and a head CT come back with one SR and one capture each."""
    studies = [phantom("pneumothorax", 11), phantom("haemorrhage", 12)]
    sent = [datasets(study) for study in studies]
    for instances in sent:
        node.send(instances)
    uids = [str(instances[0].StudyInstanceUID) for instances in sent]
    node.until_state(uids, "done")
    for uid, instances in zip(uids, sent, strict=True):
        (report,) = ours(orthanc, uid, SR_CLASS)
        (capture,) = ours(orthanc, uid, SC_CLASS)
        assert report.PatientID == capture.PatientID == instances[0].PatientID
        assert evidence_of(report) == {one.SOPInstanceUID for one in instances}


@pytest.mark.slow
def test_the_pacs_commits_to_what_it_got(node: Running) -> None:
    """Orthanc calls the node back to say that it has report and capture."""
    instances = datasets(phantom("effusion", 17))
    uid = str(instances[0].StudyInstanceUID)
    node.send(instances)
    node.until_state([uid], "done")
    lines = json.loads(node.command("deliveries", uid, "--json"))
    assert [(line["state"], line["verified"]) for line in lines] == [
        ("delivered", "commitment"),
        ("delivered", "commitment"),
    ]


@pytest.mark.slow
def test_the_audit_trail_tells_of_it(node: Running) -> None:
    """Who sent a study, where its results went, who reads that: found by the patient."""
    instances = datasets(phantom("effusion", 18))
    uid = str(instances[0].StudyInstanceUID)
    node.send(instances)
    node.until_state([uid], "done")
    for message in AuditFolder(path=node.folder / "data" / "audit").messages():
        parsed(message)
    said = subprocess.run(
        [PACSIGHT, "audit", "find", "--patient", "--json", "--config", node.config],
        input=f"{instances[0].PatientID}\n",
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    told = [one for one in json.loads(said) if uid in one["studies"]]
    started = json.loads(node.command("audit", "show", "--event", "start", "--json"))

    assert [one["event"] for one in told] == ["DICOM Instances Transferred"] * 2
    assert [one["instances"] for one in told] == [len(instances), 2]
    assert told[0]["participants"][0].endswith("(127.0.0.1)")
    assert told[1]["participants"][1] == "pacs (127.0.0.1)"
    assert str(instances[0].PatientID) not in said
    assert {one["participants"][0].split()[1] for one in started} == {"node", "worker"}


def test_the_doctor_finds_nothing_broken(node: Running) -> None:
    """Beside a running node: every hop is asked, the worker lives, the PACS takes all."""
    answers = json.loads(node.command("doctor", "--json"))
    assert [(one["hop"], one["said"]) for one in answers if one["ailment"]] == []
    hops = [one["hop"] for one in answers]
    own = ["settings", "folders", "folders", "ledger", "broker", "workers", "packs"]
    assert hops == [*own, "doors", "doors", "peers", "peers"]
    assert answers[5]["said"].startswith("it lives, on ")
    assert answers[-2]["said"] == "it takes all that we send, as ORTHANC"


def test_flagged_studies_stand_first(node: Running) -> None:
    """The list of studies is in triage order: flagged ones before the others."""
    normal = datasets(phantom("chest_normal", 13))
    node.send(normal)
    node.until_state([str(normal[0].StudyInstanceUID)], "done")
    flags = [study["flag"] for study in node.studies()]
    above = [flag == "at or above threshold" for flag in flags]
    assert above == sorted(above, reverse=True)
    assert True in above


def test_the_same_instance_twice_changes_nothing(
    node: Running, orthanc: Orthanc
) -> None:
    """A study that is sent again gets no second report."""
    instances = datasets(phantom("effusion", 14))
    uid = str(instances[0].StudyInstanceUID)
    node.send(instances)
    node.until_state([uid], "done")
    node.send(instances)
    time.sleep(2)
    assert len(ours(orthanc, uid, SR_CLASS)) == 1


def test_a_late_image_supersedes_the_report(node: Running, orthanc: Orthanc) -> None:
    """A new report names its predecessor, and a note rejects that one's objects."""
    instances = datasets(phantom("head_normal", 15))
    uid = str(instances[0].StudyInstanceUID)
    node.send(instances[:-1])
    node.until_state([uid], "done")
    first = [*ours(orthanc, uid, SR_CLASS), *ours(orthanc, uid, SC_CLASS)]
    node.send(instances[-1:])
    node.until(lambda: _revision(node, uid) == (2, "done"), "revision 2")
    reports = ours(orthanc, uid, SR_CLASS)
    former = {
        item.ReferencedSOPInstanceUID
        for report in reports
        for study in report.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    current = [r for r in reports if r.SOPInstanceUID not in former]
    assert (len(reports), len(current)) == (2, 1)
    (note,) = ours(orthanc, uid, KO_CLASS)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert evidence_of(note) == {str(one.SOPInstanceUID) for one in first}


def test_a_report_on_the_wrong_patient_is_withdrawn(
    node: Running, orthanc: Orthanc
) -> None:
    """A note in the wrong chart rejects what lies there; nothing refers across."""
    instances = datasets(phantom("pneumothorax", 21))
    uid, wrong = str(instances[0].StudyInstanceUID), str(instances[0].PatientID)
    node.send(instances)
    node.until_state([uid], "done")
    for one in instances:
        one.PatientID = "CORRECTED"
    node.send(instances)
    node.until(lambda: _revision(node, uid) == (2, "done"), "revision 2")
    former = {
        str(one.SOPInstanceUID)
        for sop_class in (SR_CLASS, SC_CLASS)
        for one in ours(orthanc, uid, sop_class)
        if one.PatientID == wrong
    }
    (note,) = ours(orthanc, uid, KO_CLASS)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    assert (note.PatientID, evidence_of(note)) == (wrong, former)
    assert len(former) == 2
    (report,) = (r for r in ours(orthanc, uid, SR_CLASS) if r.PatientID != wrong)
    assert "PredecessorDocumentsSequence" not in report


@pytest.mark.slow
def test_another_transfer_syntax_is_no_revision(node: Running) -> None:
    """The same picture, encoded otherwise, is kept but concludes nothing anew."""
    (image,) = datasets(phantom("nodule", 16))
    uid = str(image.StudyInstanceUID)
    node.send([image])
    node.until_state([uid], "done")
    image.compress(RLELossless, generate_instance_uid=False)
    node.send([image])
    node.until(lambda: "unchanged" in str(_journal(node, uid)), "the new version")
    node.until_state([uid], "done")
    assert _revision(node, uid) == (1, "done")


def test_our_own_objects_are_not_analysed_again(
    node: Running, orthanc: Orthanc
) -> None:
    """A PACS that routes report and capture back starts nothing."""
    instances = datasets(phantom("enlarged_heart", 17))
    uid = str(instances[0].StudyInstanceUID)
    node.send(instances)
    node.until_state([uid], "done")
    own = [*ours(orthanc, uid, SR_CLASS), *ours(orthanc, uid, SC_CLASS)]
    node.send(own)
    time.sleep(2)
    assert _revision(node, uid) == (1, "done")
    assert len(ours(orthanc, uid, SR_CLASS)) == 1


def test_two_patients_hold_a_study_until_a_person_decides(
    node: Running, orthanc: Orthanc
) -> None:
    """A study of two patients is held, and concluded once one of them is kept."""
    instances = datasets(phantom("head_normal", 18))
    uid = str(instances[0].StudyInstanceUID)
    instances[0].PatientID = "SOMEBODY-ELSE"
    node.send(instances)
    node.until_state([uid], "held")
    assert ours(orthanc, uid, SR_CLASS) == []
    node.command("resolve", uid, "--keep", str(instances[1].SOPInstanceUID))
    node.until_state([uid], "done")
    (report,) = ours(orthanc, uid, SR_CLASS)
    assert report.PatientID == instances[1].PatientID


def test_studies_come_in_by_stow_rs(node: Running, orthanc: Orthanc) -> None:
    """STOW-RS is a front door like any other."""
    instances = datasets(phantom("chest_normal", 19))
    uid = str(instances[0].StudyInstanceUID)
    buffer = io.BytesIO()
    dcmwrite(buffer, instances[0], enforce_file_format=True)
    body = (
        b"--frontier\r\nContent-Type: application/dicom\r\n\r\n"
        + buffer.getvalue()
        + b"\r\n--frontier--\r\n"
    )
    kind = 'multipart/related; type="application/dicom"; boundary=frontier'
    answer = httpx.post(
        f"{node.stow}/studies",
        content=body,
        headers={"Content-Type": kind, "Accept": "application/dicom+json"},
    )
    assert answer.status_code == 200
    node.until_state([uid], "done")
    assert len(ours(orthanc, uid, SR_CLASS)) == 1


@pytest.mark.slow
def test_nothing_is_lost_when_worker_and_broker_are_killed(
    node: Running, orthanc: Orthanc
) -> None:
    """Worker and broker are killed in the middle of ten studies; all are reported."""
    sent = [datasets(phantom("chest_normal", 30 + n)) for n in range(10)]
    uids = [str(instances[0].StudyInstanceUID) for instances in sent]
    node.send(one for instances in sent for one in instances)
    os.kill(node.children()["worker"], signal.SIGKILL)
    os.kill(node.children()["broker"], signal.SIGKILL)
    node.until_state(uids, "done")
    assert [len(ours(orthanc, uid, SR_CLASS)) for uid in uids] == [1] * 10


@pytest.mark.slow
def test_a_study_is_forgotten_beside_the_running_node(
    node: Running, orthanc: Orthanc
) -> None:
    """Nothing of it is left here; sent again, it gets a report with a UID of its own."""
    instances = datasets(phantom("effusion", 71))
    uid = str(instances[0].StudyInstanceUID)
    other = datasets(phantom("effusion", 72))
    for study in (instances, other):
        node.send(study)
    uids = [uid, str(other[0].StudyInstanceUID)]
    node.until_state(uids, "done")
    kept = files_of(node)
    said = json.loads(node.command("forget", "--study", uid, "--yes", "--json"))
    assert said
    assert node.study(uid) is None
    assert len(files_of(node)) < len(kept)
    assert node.study(uids[1]) is not None
    node.send(instances)
    node.until_state([uid], "done")
    former, again = ours(orthanc, uid, SR_CLASS)  # the PACS keeps what it was sent
    assert former.SOPInstanceUID != again.SOPInstanceUID


def files_of(node: Running) -> set[Path]:
    """Return the files of the spool and the outbox."""
    data = node.folder / "data"
    return {*data.glob("spool/??/*.dcm"), *data.glob("outbox/??/*.dcm")}


@pytest.mark.slow
def test_a_stat_study_overtakes_fifty_routine_ones(node: Running) -> None:
    """A STAT study sent behind 50 routine ones is concluded before those not begun.

    Between its turn and its end, at most the routine job that the worker has in hand
    and the one that it holds ready can end.
    """
    routine = [datasets(phantom("chest_normal", 100 + n), size=128) for n in range(50)]
    urgent = datasets(phantom("pneumothorax", 99), size=128)
    node.send(one for instances in routine for one in instances)
    node.send(urgent, "-aet", "EMERGENCY")
    uids = [str(instances[0].StudyInstanceUID) for instances in (*routine, urgent)]
    node.until_state(uids, "done")
    opened, finished = node.moments(uids[-1])
    ends = [node.moments(uid)[1] for uid in uids[:-1]]
    assert sum(end > finished for end in ends) >= 25
    assert sum(opened < end < finished for end in ends) <= 2


def test_ctrl_c_leaves_no_process(own_orthanc: Orthanc, tmp_path: Path) -> None:
    """SIGINT ends broker, node, worker and decode processes; the audit trail says so."""
    running = Running(
        folder=tmp_path / "up", dicom_port=free_port(), http_port=free_port()
    )
    running.start()
    left = {pid for child in running.children().values() for pid in descendants(child)}
    left |= set(running.children().values())
    running.stop(signal.SIGINT)
    assert [pid for pid in left if is_alive(pid)] == []
    told = json.loads(running.command("audit", "show", "--event", "110100", "--json"))
    who = {
        kind: {one["participants"][0] for one in told if one["kind"] == kind}
        for kind in KINDS
    }
    assert who["Application Start"] == who["Application Stop"] != set()
    del own_orthanc


def _revision(node: Running, uid: str) -> tuple[int, str]:
    study = node.study(uid)
    return (study["revision"], study["state"]) if study else (0, "")


def _journal(node: Running, uid: str) -> str:
    return node.command("journal", uid, "--json")
