"""The sandbox's verdict: exactly one current SR and one secondary capture a pack."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
Faults = Callable[[Sequence[Dataset]], list[str]]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Return the faults of one study of which a destination has these objects."""
    monkeypatch.syspath_prepend(str(DEPLOY))
    check = importlib.import_module("sandbox_check")
    studies = importlib.import_module("sandbox_studies")
    study = studies.Study(name="chest", modality="DX", study_uid="1.2", files=())

    def faults_of(objects: Sequence[Dataset]) -> list[str]:
        found: list[str] = check.faults([study], lambda _uid: list(objects), packs=1)
        return found

    return faults_of


def an_object(sop_class: str, uid: str, *, pack: str = "2.25.1") -> Dataset:
    """Return as much of an object of ours as the verdict looks at."""
    equipment = Dataset()
    equipment.DeviceUID = pack
    one = Dataset()
    one.SOPClassUID = sop_class
    one.SOPInstanceUID = uid
    one.ContributingEquipmentSequence = [equipment]
    return one


def superseding(report: Dataset, former: str) -> Dataset:
    """Return the report with a predecessor."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPInstanceUID = former
    series.ReferencedSOPSequence = [instance]
    study.ReferencedSeriesSequence = [series]
    report.PredecessorDocumentsSequence = [study]
    return report


REPORT = an_object(Comprehensive3DSRStorage, "1.1")
CAPTURE = an_object(SecondaryCaptureImageStorage, "1.2")


def test_one_of_each_is_right(faults: Faults) -> None:
    """One report, one capture, one pack."""
    assert faults([REPORT, CAPTURE]) == []


def test_a_superseded_report_does_not_count(faults: Faults) -> None:
    """Only what no other report names as its predecessor is current."""
    newer = superseding(an_object(Comprehensive3DSRStorage, "1.3"), "1.1")
    assert faults([REPORT, newer, CAPTURE]) == []


def test_two_current_reports_are_a_fault(faults: Faults) -> None:
    """A report that exists twice breaks the first promise."""
    other = an_object(Comprehensive3DSRStorage, "1.3")
    assert faults([REPORT, other, CAPTURE]) == ["chest: 2 x current SR, not 1"]


def test_a_missing_capture_is_a_fault(faults: Faults) -> None:
    """The picture belongs to the report."""
    assert faults([REPORT]) == ["chest: 0 x secondary capture, not 1"]


def test_nothing_is_a_fault(faults: Faults) -> None:
    """A study without any report."""
    assert faults([]) == ["chest: reports of 0 packs, not 1"]


def test_a_report_of_an_unknown_pack_is_a_fault(faults: Faults) -> None:
    """Packs are told apart by their Device UID."""
    other = [
        an_object(Comprehensive3DSRStorage, "1.3", pack="2.25.2"),
        an_object(SecondaryCaptureImageStorage, "1.4", pack="2.25.2"),
    ]
    found = faults([REPORT, CAPTURE, *other])
    assert found == ["chest: reports of 2 packs, not 1"]
