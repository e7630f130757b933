"""Studies and results for a PACS that a reader looks at.

Most go the whole way: dcmsend, ``pacsight up`` with the demonstration pack, C-STORE.
The others are composed, because the demonstration pack has few findings and one title.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset, dcmread, dcmwrite

from dicom_node.domain import Code, Finding, FrameScore, ImageRef, ObjectKind, Result
from dicom_node.domain.identity import INSTANCE_CREATOR_UID, patient_digest
from sr_writer.codes import FINDINGS_REPORT, IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from sr_writer.page import Picture
from tests.builders import digest, finding, operating_point, result
from tests.integration.conftest import Orthanc, free_port
from tests.running import Running
from workers.phantoms import datasets, phantom, radiograph_grey

MULTI_BYTE = "Müller^Jörg=王^小東"
FINDINGS = (
    "Pneumothorax",
    "Pleural effusion",
    "Solitary nodule of lung",
    "Cardiomegaly",
    "Atelectasis",
    "Consolidation",
    "Pulmonary edema",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Pleural thickening",
    "Pneumonia",
    "Fracture of rib",
    "Enlarged mediastinum",
    "Calcified granuloma",
    "Widened hilum",
    "Subcutaneous emphysema",
    "Displaced endotracheal tube",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The Study Instance UIDs of what a PACS has.

    Parameters
    ----------
    chest, head, not_evaluated, multi_byte
        They went the whole way.
    twenty
        Composed, with twenty findings.
    superseded
        Composed: flags first, and nothing evaluated in a second revision.
    titled_126000
        Composed, with the title that OHIF does not open.
    """

    pacs: Orthanc
    chest: str
    head: str
    not_evaluated: str
    multi_byte: str
    twenty: str
    superseded: str
    titled_126000: str

    def ours(self, study_uid: str) -> list[Dataset]:
        """Return our objects of a study, without pixels."""
        client = OrthancApiClient(self.pacs.url)
        keys = client.studies.get_instances_ids(client.studies.lookup(study_uid))
        found = [_read(client, key) for key in keys]
        return [
            one
            for one in found
            if one.get("InstanceCreatorUID") == INSTANCE_CREATOR_UID
        ]

    def instance(self, uid: str) -> Dataset:
        """Return one instance, without pixels."""
        client = OrthancApiClient(self.pacs.url)
        return _read(client, client.instances.lookup(uid))

    def report(self, study_uid: str) -> Dataset:
        """Return the one report of a study."""
        (one,) = [one for one in self.ours(study_uid) if one.Modality == "SR"]
        return one


def fill(pacs: Orthanc, folder: Path) -> Filled:
    """Return what the PACS has, once it has it all."""
    chest = datasets(phantom("pneumothorax", 4))
    head = datasets(phantom("haemorrhage", 2))
    multi_byte = datasets(phantom("chest_normal", 3))
    for one in multi_byte:
        one.SpecificCharacterSet = "ISO_IR 192"
        one.PatientName = MULTI_BYTE
    carried = Path(pydicom.__file__).parent / "data" / "test_files"
    mr = (dcmread(carried / "MR_small.dcm"),)
    _report_on(pacs, folder, [chest, head, multi_byte, mr])
    return Filled(
        pacs=pacs,
        chest=chest[0].StudyInstanceUID,
        head=head[0].StudyInstanceUID,
        multi_byte=multi_byte[0].StudyInstanceUID,
        not_evaluated=mr[0].StudyInstanceUID,
        twenty=_composed(pacs, 21, [20]),
        superseded=_composed(pacs, 22, [9, 0]),
        titled_126000=_composed(pacs, 23, [2], title=IMAGING_MEASUREMENT_REPORT),
    )


# ── the whole way ───────────────────────────────────────────────────────────


def _report_on(
    pacs: Orthanc, folder: Path, studies: Sequence[Sequence[Dataset]]
) -> None:
    node = Running(
        folder=folder,
        dicom_port=free_port(),
        http_port=free_port(),
        settings=_settings(pacs),
    )
    pacs.know("PACSIGHT", node.dicom_port)
    node.start()
    try:
        for instances in studies:
            _store(pacs, *(_file(one) for one in instances))
            node.send(instances)
        node.until_state([one[0].StudyInstanceUID for one in studies], "done")
    finally:
        node.stop()


def _settings(pacs: Orthanc) -> str:
    return f"""
[study]
quiet_period_s = 1.0

[[peers]]
name = "pacs"
aet = "{pacs.aet}"
host = "127.0.0.1"
port = {pacs.dicom_port}
rights = ["destination"]
"""


# ── composed ────────────────────────────────────────────────────────────────


def _composed(
    pacs: Orthanc, seed: int, evaluated: Sequence[int], title: Code = FINDINGS_REPORT
) -> str:
    """Return the study of a chest radiograph.

    Parameters
    ----------
    evaluated
        For each revision, how many of the findings could be evaluated.
    """
    (source,) = datasets(phantom("chest_normal", seed))
    inverted = source.PresentationLUTShape == "INVERSE"
    grey = radiograph_grey(source.pixel_array, source.Rows, inverted=inverted)
    shown = Picture(pixels=grey, image=_image(source))
    _store(pacs, _file(source))
    for revision, count in enumerate(evaluated, start=1):
        of_revision = _result(source, revision, max(evaluated), count)
        objects = compose(
            of_revision, [source], [shown], kinds=tuple(ObjectKind), title=title
        )
        _store(pacs, *(one.content for one in objects))
    uid: str = source.StudyInstanceUID
    return uid


def _image(source: Dataset) -> ImageRef:
    return ImageRef(
        series_uid=source.SeriesInstanceUID,
        sop_class_uid=source.SOPClassUID,
        sop_instance_uid=source.SOPInstanceUID,
        sha256=digest(source.SOPInstanceUID),
    )


def _result(source: Dataset, revision: int, count: int, evaluated: int) -> Result:
    """Return so many findings, of which the first were evaluated.

    Their scores fall from finding to finding, all of them different.
    """
    image = _image(source)
    base = result(())
    return replace(
        base,
        study_uid=source.StudyInstanceUID,
        patient=patient_digest(source.PatientID, source.get("IssuerOfPatientID", "")),
        revision=revision,
        outcome=revision,  # another outcome has other UIDs
        concluded_at=base.concluded_at + timedelta(minutes=revision),
        images=(image,),
        findings=tuple(_finding(image, i, i < evaluated) for i in range(count)),
    )


def _finding(image: ImageRef, number: int, evaluated: bool) -> Finding:  # noqa: FBT001
    concept = Code(value=f"F{number}", scheme="99TEST", meaning=FINDINGS[number])
    named: dict[str, Any] = {"key": f"finding-{number}", "concept": concept}
    if not evaluated:
        return finding(None, **named)
    score = 0.9871 - 0.0487 * number
    evidence = (FrameScore(image=image, frame=0, score=score),)
    point = operating_point(0.8)
    return finding(score, evidence=evidence, operating_point=point, **named)


def _read(client: OrthancApiClient, key: str) -> Dataset:
    return dcmread(BytesIO(client.instances.get_file(key)), stop_before_pixels=True)


def _file(one: Dataset) -> bytes:
    content = BytesIO()
    dcmwrite(content, one, enforce_file_format=True)
    return content.getvalue()


def _store(pacs: Orthanc, *files: bytes) -> None:
    client = OrthancApiClient(pacs.url)
    for content in files:
        client.upload(content)
