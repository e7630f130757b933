"""Other people's images as sources: character sets, orders, oddities."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.domain import (
    FrameScore,
    ImageRef,
    Result,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.domain.identity import patient_digest
from tests.builders import digest, finding, result
from tests.composed import every_object
from tests.judges import ask, complaints

pytestmark = [
    pytest.mark.corpus,
    # what others wrote is not ours to mend
    pytest.mark.filterwarnings(
        "ignore:Invalid value for VR", "ignore:The value length"
    ),
]


def sources(shared: Path) -> Iterator[tuple[Path, Dataset]]:
    """Yield a header of every kind that the corpus holds."""
    data = shared / "data"
    paths = [
        *(data / "dicom" / "charset").iterdir(),
        *(data / "us").iterdir(),
        *(min(folder.iterdir()) for folder in (data / "series").iterdir()),
        *(max(folder.iterdir()) for folder in (data / "multiframe").iterdir()),
    ]
    for path in sorted(paths):
        header = dcmread(path, stop_before_pixels=True)
        uids = (header.get("StudyInstanceUID", ""), header.get("SeriesInstanceUID", ""))
        if all(uid.startswith(("1.", "2.")) for uid in uids):
            yield path, header


def result_of(header: Dataset) -> Result:
    """Return a positive result of an image."""
    image = ImageRef(
        series_uid=SeriesUid(str(header.SeriesInstanceUID)),
        sop_class_uid=SopClassUid(str(header.SOPClassUID)),
        sop_instance_uid=SopInstanceUid(str(header.SOPInstanceUID)),
        sha256=digest("source"),
        frames=int(header.get("NumberOfFrames") or 1),
    )
    return result(
        [finding(0.9, evidence=(FrameScore(image=image, frame=0, score=0.9),))],
        study_uid=str(header.StudyInstanceUID),
        images=(image,),
        patient=patient_digest(
            str(header.get("PatientID") or ""),
            str(header.get("IssuerOfPatientID") or ""),
        ),
    )


def test_every_source_gives_conformant_objects_of_the_same_person(
    shared: Path, tmp_path: Path
) -> None:
    seen = 0
    for path, header in sources(shared):
        for obj in every_object(result_of(header), header):
            file = tmp_path / f"{obj.kind.value}.dcm"
            file.write_bytes(obj.content)
            assert complaints(ask("dciodvfy", "-new", file)) == [], path
            written = dcmread(BytesIO(obj.content))
            assert str(written.PatientName) == str(header.get("PatientName", "")), path
            assert written.StudyInstanceUID == header.StudyInstanceUID
            seen += 1
    assert seen >= 100
