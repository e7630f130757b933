"""How many instances a study has: asked of Orthanc, and of peers that fail."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from starlette.responses import Response

from dicom_node.domain import SeriesUid, StudyUid
from dicom_node.expected import OWN_DESCRIPTION, expected_instances
from dicom_node.peers import Caller, Inquiry, Peer
from sr_writer.document import SERIES_SUFFIX
from tests.integration.conftest import Orthanc, free_port
from tests.peers import StorePeer, StowPeer, outgoing

STUDY = StudyUid("2.25.1001")


def source(inquiry: Inquiry, **changes: object) -> Peer:
    """Return a peer that may be asked in this way."""
    entry: dict[str, object] = {
        "name": "source",
        "rights": frozenset(),
        "expected": inquiry,
    }
    return Peer(**(entry | changes))  # type: ignore[arg-type]


def ask(peer: Peer, study: StudyUid = STUDY, **changes: object) -> int | None:
    """Return what the peer expects, asked with little patience."""
    settings: dict[str, object] = {"caller": Caller(), "timeout_s": 1.0}
    return expected_instances(peer, study, **(settings | changes))  # type: ignore[arg-type]


def series(
    number: int, count: int | None, *, description: str = "", uid: str = ""
) -> Dataset:
    """Return what C-FIND finds of a series."""
    found = Dataset()
    found.QueryRetrieveLevel = "SERIES"
    found.StudyInstanceUID = STUDY
    found.SeriesInstanceUID = uid or f"{STUDY}.{number}"
    found.SeriesNumber = number
    found.SeriesDescription = description
    if count is not None:
        found.NumberOfSeriesRelatedInstances = count
    return found


def orthanc_source(orthanc: Orthanc, inquiry: Inquiry) -> Peer:
    """Return Orthanc as a source that may be asked in this way."""
    if inquiry is Inquiry.QIDO:
        return source(inquiry, dicomweb=orthanc.dicomweb)
    return source(inquiry, aet=orthanc.aet, host=orthanc.host, port=orthanc.dicom_port)


@pytest.mark.parametrize("inquiry", list(Inquiry))
def test_orthanc_says_how_many_instances_others_sent(
    orthanc: Orthanc, tmp_path: Path, inquiry: Inquiry
) -> None:
    """The count leaves out the series that pacsight wrote, its own or another's."""
    study = StudyUid(f"2.25.400{len(inquiry)}")
    pacs = OrthancApiClient(orthanc.url)
    for number in range(1, 4):
        pacs.upload(slice_of(study, number))
    report = outgoing(tmp_path, study_uid=study)
    pacs.upload(report.path.read_bytes())
    assert ask(orthanc_source(orthanc, inquiry), study) == 3
    own = SeriesUid(f"{study}.1")
    assert ask(orthanc_source(orthanc, inquiry), study, own_series={own}) is None


@pytest.mark.parametrize("inquiry", list(Inquiry))
def test_orthanc_without_the_study_expects_nothing(
    orthanc: Orthanc, inquiry: Inquiry
) -> None:
    """A source that does not have the study says nothing about it."""
    assert ask(orthanc_source(orthanc, inquiry), StudyUid("2.25.4999")) is None


def test_our_series_are_known_by_what_the_report_writer_calls_them() -> None:
    """The end of a description that is looked for is the one that is written."""
    assert SERIES_SUFFIX.endswith(OWN_DESCRIPTION)


def test_a_peer_that_need_not_be_asked_is_not() -> None:
    """Without ``expected`` no question is sent."""
    with StorePeer().running() as pacs:
        assert ask(pacs.peer()) is None
    assert pacs.callers == []


def test_a_question_names_uids_and_the_whole_host() -> None:
    """RFC 9110 7.2: the Host header holds the port; no patient is in the address."""
    asked: list[str] = []

    def query(path: str) -> Response:
        asked.append(path)
        return Response(status_code=204)

    with StowPeer(query=query).running() as web:
        assert ask(source(Inquiry.QIDO, dicomweb=f"{web.url}/")) is None
    assert asked == [f"studies/{STUDY}/series"]
    assert web.headers[0]["host"] == f"127.0.0.1:{web.port}"


def test_sums_over_series_and_leaves_ours_out() -> None:
    """Own series are known by UID, or by number and description together."""
    ours = "AI phantoms 1 - RESEARCH, NOT FOR DIAGNOSIS"
    holds = [
        series(1, 10),
        series(2, 5, description=ours),
        series(9001, 7),
        series(9002, 1, description=ours),
        series(3, 2, uid="2.25.77"),
    ]
    with StorePeer(holds=holds).running() as pacs:
        peer = pacs.peer(expected=Inquiry.CFIND)
        assert ask(peer) == 24
        assert ask(peer, own_series={SeriesUid("2.25.77")}) == 22


def test_takes_the_studys_number_where_series_are_not_counted() -> None:
    """NumberOfStudyRelatedInstances counts, unless a report of ours is in it."""
    study = Dataset()
    study.QueryRetrieveLevel = "STUDY"
    study.StudyInstanceUID = STUDY
    study.NumberOfStudyRelatedInstances = 12
    ours = series(9001, None, description="AI x 1 - RESEARCH, NOT FOR DIAGNOSIS")
    pacs = StorePeer(holds=[study, series(1, None)])
    with pacs.running():
        peer = pacs.peer(expected=Inquiry.CFIND)
        assert ask(peer) == 12
        pacs.holds.append(ours)
        assert ask(peer) is None


def test_a_source_that_fails_is_unknown() -> None:
    """Down, silent, refusing, or no archive at all: None, and nothing is raised."""
    down = source(Inquiry.CFIND, aet="X", host="127.0.0.1", port=free_port())
    assert ask(down) is None
    down = source(Inquiry.QIDO, dicomweb=f"http://127.0.0.1:{free_port()}/dicom-web")
    assert ask(down) is None
    with StorePeer(find_status=0xC001).running() as pacs:
        assert ask(pacs.peer(expected=Inquiry.CFIND)) is None
    with StorePeer(reject=(1, 1, 3)).running() as pacs:
        assert ask(pacs.peer(expected=Inquiry.CFIND)) is None


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>hello</html>", media_type="text/html"),
        Response(status_code=500),
        Response(status_code=204),
        Response(json.dumps([{"00201209": {"vr": "IS", "Value": ["many"]}}])),
        Response(json.dumps([{"00201209": {"vr": "IS", "Value": [float("inf")]}}])),
        Response(json.dumps([17])),
        Response(json.dumps("no")),
    ],
    ids=["html", "500", "nothing", "no number", "infinite", "no object", "no list"],
)
def test_a_qido_service_that_makes_no_sense_is_unknown(answer: Response) -> None:
    """Whatever comes back, the answer is None."""
    with StowPeer(query=lambda _: answer).running() as web:
        assert ask(source(Inquiry.QIDO, dicomweb=web.url)) is None


def slice_of(study: str, number: int) -> bytes:
    """Return a CT slice of the study, without pixels: archives count it too."""
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = f"{study}.1.{number}"
    data.Modality = "CT"
    data.PatientID = "PAT-0001"
    data.StudyInstanceUID = study
    data.SeriesInstanceUID = f"{study}.1"
    data.SeriesNumber = 1
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()
