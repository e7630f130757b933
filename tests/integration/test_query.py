"""Whether an archive has an instance where it belongs, asked of a real Orthanc."""

from dataclasses import replace
from io import BytesIO

import pytest
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicom_node.peers import Inquiry, Peer, Right
from dicom_node.query import Search, Whereabouts, archive
from tests.integration.conftest import Orthanc
from tests.peers import QUICK


def stored(pacs: Orthanc, patient_id: str, study_uid: str) -> Whereabouts:
    """Return where an instance belongs that Orthanc has under this patient."""
    instance = Dataset()
    instance.SOPClassUID = SecondaryCaptureImageStorage
    instance.SOPInstanceUID = generate_uid()
    instance.PatientID = patient_id
    instance.StudyInstanceUID = study_uid
    instance.SeriesInstanceUID = generate_uid()
    instance.Modality = "OT"
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    OrthancApiClient(pacs.url).upload(file.getvalue())
    return Whereabouts(
        patient_id=patient_id,
        study_uid=study_uid,
        series_uid=str(instance.SeriesInstanceUID),
        sop_instance_uid=str(instance.SOPInstanceUID),
    )


def has(pacs: Orthanc, inquiry: Inquiry, instance: Whereabouts) -> bool:
    """Return what Orthanc answers when it is asked in this way."""
    pacs.know(QUICK.aet, 11112)
    peer = Peer(
        name="pacs",
        aet=pacs.aet,
        host=pacs.host,
        port=pacs.dicom_port,
        dicomweb=pacs.dicomweb,
        rights=frozenset({Right.DESTINATION}),
    )
    with archive(peer, inquiry, QUICK) as asked:
        return Search(archive=asked).has(instance)


@pytest.mark.parametrize("inquiry", Inquiry)
def test_an_instance_is_where_it_was_stored(orthanc: Orthanc, inquiry: Inquiry) -> None:
    """Under its patient; it is not there for another one, nor in another series."""
    there = stored(orthanc, "A", generate_uid())
    assert has(orthanc, inquiry, there)
    for wrong in ({"patient_id": "B"}, {"series_uid": generate_uid()}):
        assert not has(orthanc, inquiry, replace(there, **wrong))


@pytest.mark.parametrize("inquiry", Inquiry)
def test_a_study_that_lies_under_two_patients(
    orthanc: Orthanc, inquiry: Inquiry
) -> None:
    """As after a correction: each instance is there under its own patient alone."""
    study = generate_uid()
    wrong, right = stored(orthanc, "A", study), stored(orthanc, "B", study)
    assert has(orthanc, inquiry, wrong)
    assert has(orthanc, inquiry, right)
    assert not has(orthanc, inquiry, replace(right, patient_id="A"))
