"""Admission: what is taken in and how, what is refused and why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.admission import Admission, Expected, RejectedInstance, _uid
from dicom_node.domain import (
    Analysis,
    FrontDoor,
    Header,
    Origin,
    Priority,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.domain.identity import (
    INSTANCE_CREATOR_UID,
    patient_digest,
    study_attributes_digest,
)
from dicom_node.errors import CANNOT_UNDERSTAND, DATASET_MISMATCH, Rejected
from dicom_node.matching import PriorityRule
from dicom_node.part10 import read_head
from tests.receiving import STUDY, buffered, bundled, part10

ORIGIN = Origin(door=FrontDoor.DIMSE, calling_aet="CT_ER", called_aet="PACSIGHT")
STAT_ER = PriorityRule(priority=Priority.STAT, calling_aet="CT_ER")


def admit(content: bytes, *rules: PriorityRule, **facts: Any) -> Header:
    """Return the header of a file that is taken in."""
    admission = Admission(rules)
    head = read_head(buffered(content), len(content), admission.wanted)
    return admission.admit(head, origin=ORIGIN, **facts)


def outcome(content: bytes) -> Header | Rejected:
    """Return the header of a file, or the error with which it is refused."""
    try:
        return admit(content)
    except Rejected as error:
        return error


def test_an_image() -> None:
    """The facts that the ledger keeps, in the form that it keeps them."""
    header = admit(part10(7, ViewPosition="PA", PatientID=" PAT-0001"))
    assert header.study_uid == STUDY
    assert header.series_uid == f"{STUDY}.1"
    assert header.sop_instance_uid == f"{STUDY}.1.7"
    assert header.patient == patient_digest("PAT-0001", "")
    exam = header.exam
    assert (exam.modality, exam.body_part, exam.view) == ("CT", "HEAD", "PA")
    assert (header.frames, header.instance_number) == (1, 7)
    assert (header.analysis, header.reason) == (Analysis.IMAGE, "")
    assert header.priority == Priority.ROUTINE


def test_the_digest_of_the_copied_attributes() -> None:
    """It is that of the values as text, padding and absent ones left out."""
    expected = study_attributes_digest(
        {
            "PatientName": "Doe^Jane",
            "PatientID": "PAT-0001",
            "StudyDate": "20260115",
            "StudyInstanceUID": STUDY,
        }
    )
    assert expected == admit(part10()).attributes
    assert expected == admit(part10(AccessionNumber="")).attributes
    assert expected != admit(part10(AccessionNumber="A1")).attributes


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_other_character_sets(charset: Any, name: str) -> None:
    """The same name in the same character set gives the same digest, as pydicom decodes it."""
    stated = charset if isinstance(charset, str) else "\\".join(charset)
    expected = study_attributes_digest(
        {
            "SpecificCharacterSet": stated,
            "PatientName": name,
            "PatientID": "PAT-0001",
            "StudyDate": "20260115",
            "StudyInstanceUID": STUDY,
        }
    )
    header = admit(part10(SpecificCharacterSet=charset, PatientName=name))
    assert expected == header.attributes


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.33", "a structured report"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "a key object selection"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "a presentation state"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "an encapsulated document"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "a segmentation, registration or fiducials"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "a radiotherapy object"),
    ],
)
def test_what_is_no_image_is_taken_in_and_not_analysed(
    sop_class: str, reason: str
) -> None:
    """Reports, presentation states and the like: taken in, the reason is told."""
    header = admit(part10(SOPClassUID=sop_class))
    assert (header.analysis, header.reason) == (Analysis.NOT_ANALYSED, reason)
    assert header.frames == 0


def test_images_of_radiotherapy_and_of_unknown_classes() -> None:
    """An RT Image is an image, and so is whatever has pixels in a private class."""
    for sop_class in ("1.2.840.10008.5.1.4.1.1.481.1", "1.3.12.2.1107.5.9.1"):
        assert admit(part10(SOPClassUID=sop_class)).analysis == Analysis.IMAGE


def test_no_pixel_data() -> None:
    """An image without pixels is taken in and not analysed."""
    header = admit(part10(PixelData=None))
    assert (header.analysis, header.reason) == (Analysis.NOT_ANALYSED, "no pixel data")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.102", "1.2.840.113619.5.99"])
def test_no_decoder(syntax: str) -> None:
    """A video, or a private transfer syntax, is taken in and not analysed."""
    content = _with_syntax(syntax)
    header = admit(content)
    assert header.analysis == Analysis.NOT_ANALYSED
    assert header.reason == f"no decoder for transfer syntax {syntax}"


def _with_syntax(syntax: str) -> bytes:
    """Return an explicit little endian file that states another transfer syntax."""
    dataset = part10()
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"\x02\x00\x10\x00UI"
    at = dataset.index(element)
    length = int.from_bytes(dataset[at + 6 : at + 8], "little")
    return (
        dataset[: at + 6]
        + len(padded).to_bytes(2, "little")
        + padded
        + dataset[at + 8 + length :]
    )


def test_multi_frame() -> None:
    """The number of frames; nonsense counts as one."""
    assert admit(part10(NumberOfFrames=12)).frames == 12
    assert admit(part10(NumberOfFrames=0)).frames == 1
    assert admit(bundled("SC_rgb_rle_2frame.dcm").read_bytes()).frames == 2


def test_own_objects_are_recognised_by_their_creator() -> None:
    """What pacsight wrote comes back from a PACS: it is not analysed again."""
    header = admit(part10(InstanceCreatorUID=INSTANCE_CREATOR_UID))
    assert header.analysis == Analysis.OWN


@pytest.mark.parametrize(
    ("manufacturer", "device", "expected"),
    [
        ("pacsight", "2.25.5", Analysis.OWN),
        ("pacsight", None, Analysis.IMAGE),
        ("Other", "2.25.5", Analysis.IMAGE),
        ("pacsight 2", "2.25.5", Analysis.IMAGE),
    ],
)
def test_own_objects_are_recognised_by_their_equipment(
    manufacturer: str, device: str | None, expected: Analysis
) -> None:
    """Some PACS rewrite the creator; the contributing equipment stays."""
    item = Dataset()
    item.Manufacturer = manufacturer
    if device:
        item.DeviceUID = device
    content = part10(ContributingEquipmentSequence=[item])
    assert expected == admit(content).analysis


def test_rules_decide_the_priority() -> None:
    """A rule on titles or attributes, else the order's priority."""
    assert admit(part10(), STAT_ER).priority == Priority.STAT
    rule = PriorityRule(
        priority=Priority.STAT, attributes={"StationName": frozenset({"ER1"})}
    )
    assert admit(part10(StationName="er1"), rule).priority == Priority.STAT
    assert admit(part10(RequestedProcedurePriority="STAT")).priority == Priority.STAT


@pytest.mark.parametrize(
    ("keyword", "comment"),
    [
        ("SOPClassUID", "no SOP Class UID"),
        ("SOPInstanceUID", "no SOP Instance UID"),
        ("StudyInstanceUID", "no Study UID"),
        ("SeriesInstanceUID", "no Series UID"),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_uid_is_refused(
    keyword: str, comment: str, value: str | None
) -> None:
    """What cannot be filed is not taken in."""
    changes: dict[str, Any] = {keyword: value}
    with pytest.raises(Rejected) as caught:
        admit(part10(1, **changes))
    assert (caught.value.status, caught.value.comment) == (CANNOT_UNDERSTAND, comment)


@pytest.mark.parametrize(
    ("changes", "comment"),
    [
        ({"sop_instance_uid": "1.2.3"}, "SOP Instance UID is not the command's"),
        ({"sop_class_uid": "1.2.3"}, "SOP Class UID is not the command's"),
    ],
)
def test_not_what_the_command_said(changes: dict[str, str], comment: str) -> None:
    """UIDs other than the command's: 0xA900, and which instance it is."""
    facts = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": f"{STUDY}.1.1",
    }
    assert admit(part10(), expected=Expected(**facts)).study_uid == STUDY
    with pytest.raises(RejectedInstance) as caught:
        admit(part10(), expected=Expected(**(facts | changes)))
    assert (caught.value.status, caught.value.comment) == (DATASET_MISMATCH, comment)
    assert caught.value.sop_instance_uid == SopInstanceUid(f"{STUDY}.1.1")


def test_not_of_the_study_it_was_sent_for() -> None:
    """A study other than the one named: 0xA900."""
    assert admit(part10(), study_uid=StudyUid(STUDY)).study_uid == STUDY
    with pytest.raises(RejectedInstance) as caught:
        admit(part10(), study_uid=StudyUid("1.2.3"))
    assert caught.value.status == DATASET_MISMATCH


@given(st.integers(0, 100_000))
def test_truncated_anywhere_is_rejected_or_lacks_what_is_cut(place: int) -> None:
    """Whatever is cut off: `Rejected`, or an instance without its pixels."""
    whole = part10()
    match outcome(whole[: place % len(whole)]):
        case Rejected(status=status):
            assert status == CANNOT_UNDERSTAND
        case Header(reason=reason):
            assert reason == "no pixel data"


@pytest.mark.filterwarnings("ignore:Found unknown escape sequence")
@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
@given(
    st.binary(max_size=64), st.sampled_from(["PatientID", "InstanceNumber", "Modality"])
)
def test_any_value_is_taken_in(value: bytes, keyword: str) -> None:
    """Bytes that no character set allows do not keep an instance out."""
    changes: dict[str, Any] = {keyword: "1234"}
    content = part10(1, **changes).replace(b"1234", value.ljust(4)[:4])
    assert admit(content).study_uid == STUDY


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "/etc/1.2", "..", "1.2/3", "1.2\\3", "1.2 3", "1.2%2f"]
)
def test_a_uid_is_no_path(uid: str) -> None:
    """UIDs become names of folders, and parts of addresses."""
    with pytest.raises(Rejected) as caught:
        _uid(uid, "Study UID")
    assert caught.value.comment == "Study UID is not a UID"
    assert _uid("1.2.840.a_B-3", "Study UID") == "1.2.840.a_B-3"
