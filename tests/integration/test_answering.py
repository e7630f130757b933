"""What the node answers when it is asked what it has, on both databases."""

from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node import answering
from dicom_node.answering import MISMATCH, answers, read_question
from dicom_node.domain import SeriesUid
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.ledger import Ledger
from tests.arrivals import DX, instance_uid, not_an_image, received, series, study_uid
from tests.ledgers import record

OTHER_SERIES = SeriesUid(f"{study_uid(1)}.2")


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Return a ledger with two studies: two images and a report; one image."""
    record(ledger, *series(1, 2), not_an_image(1, series_uid=OTHER_SERIES), received(2))
    return ledger


def ask(ledger: Ledger, **keys: Any) -> list[dict[str, Any]]:
    """Return the answers, by keyword, in order."""
    question = read_question(identifier(**keys))
    with ledger.read() as tx:
        return [{e.keyword: e.value for e in one} for one in answers(tx, question)]


def identifier(level: str = "STUDY", **keys: Any) -> Dataset:
    """Return what a C-FIND brings."""
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        made.add(DataElement(tag, vr, value, validation_mode=IGNORE))
    return made


def test_studies_come_with_what_was_asked_for(filled: Ledger) -> None:
    """Their UID always; what is not known here is empty."""
    found = ask(
        filled,
        ModalitiesInStudy="",
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
        PatientName="",
    )
    first, second = found
    assert first.pop("ModalitiesInStudy") == ["DX", "SR"]
    assert first == {
        "QueryRetrieveLevel": "STUDY",
        "StudyInstanceUID": study_uid(1),
        "NumberOfStudyRelatedSeries": 2,
        "NumberOfStudyRelatedInstances": 3,
        "PatientName": None,
    }
    assert second["NumberOfStudyRelatedInstances"] == 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"StudyInstanceUID": study_uid(2)}, [2]),
        ({"StudyInstanceUID": [study_uid(1), study_uid(2)]}, [1, 2]),
        ({"StudyInstanceUID": "1.2.3"}, []),
        ({"ModalitiesInStudy": "SR"}, [1]),
        ({"ModalitiesInStudy": "*"}, [1, 2]),
        ({"PatientID": "*"}, [1, 2]),
    ],
)
def test_uids_and_modalities_match(
    filled: Ledger, keys: dict[str, Any], expected: list[int]
) -> None:
    """A list of UIDs is a choice, an asterisk fits everything (PS3.4 C.2.2.2)."""
    found = [one["StudyInstanceUID"] for one in ask(filled, **keys)]
    assert found == [study_uid(number) for number in expected]


def test_a_modality_that_fits_leaves_the_counts_alone(filled: Ledger) -> None:
    """The study has a report in it; its other instances count, too."""
    keys = {"ModalitiesInStudy": "SR", "NumberOfStudyRelatedInstances": None}
    assert [one["NumberOfStudyRelatedInstances"] for one in ask(filled, **keys)] == [3]


def test_series_and_instances_are_asked_for_below_their_study(filled: Ledger) -> None:
    """Each level gives its own counts and attributes."""
    found = ask(
        filled,
        level="SERIES",
        StudyInstanceUID=study_uid(1),
        Modality="DX",
        NumberOfSeriesRelatedInstances=None,
    )
    assert [(f"{study_uid(1)}.1", 2)] == [
        (one["SeriesInstanceUID"], one["NumberOfSeriesRelatedInstances"])
        for one in found
    ]
    found = ask(
        filled,
        level="IMAGE",
        StudyInstanceUID=study_uid(1),
        SeriesInstanceUID=f"{study_uid(1)}.1",
        SOPClassUID=None,
        InstanceNumber=None,
        NumberOfFrames=None,
    )
    assert [(instance_uid(1, number), DX, number, 1) for number in (1, 2)] == [
        (
            one["SOPInstanceUID"],
            one["SOPClassUID"],
            one["InstanceNumber"],
            one["NumberOfFrames"],
        )
        for one in found
    ]


def _procedure(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue = value
    return [item]


@pytest.mark.parametrize(
    ("keys", "comment"),
    [
        ({"level": "PATIENT"}, "none of STUDY, SERIES, IMAGE"),
        ({"level": "SERIES"}, "StudyInstanceUID has to be one UID"),
        ({"PatientID": "PAT-1"}, "only UIDs and modalities"),
        ({"StudyDate": "20260101-"}, "only UIDs and modalities"),
        ({"ProcedureCodeSequence": _procedure("1")}, "only UIDs and modalities"),
        ({"ModalitiesInStudy": "C*"}, "no pattern"),
        ({"ModalitiesInStudy": ["CT", "MR"]}, "one modality"),
    ],
)
def test_what_cannot_be_matched_is_refused(keys: dict[str, Any], comment: str) -> None:
    """To leave a key out would return the studies of other people."""
    with pytest.raises(Rejected, match=comment) as refused:
        read_question(identifier(**keys))
    assert refused.value.status == MISMATCH


def test_private_keys_and_empty_sequences_are_only_asked_for() -> None:
    """What is empty is not matched, whatever it is; a private value would be."""
    asked = identifier(ProcedureCodeSequence=_procedure(""))
    asked.add_new(Tag(0x00091001), "LO", "")
    assert read_question(asked).fields == ("ProcedureCodeSequence",)
    asked.add_new(Tag(0x00091002), "LO", "hidden")
    with pytest.raises(Rejected, match="only UIDs"):
        read_question(asked)


def test_too_much_is_refused(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than cut off: who asks would take it for all there is."""
    monkeypatch.setattr(answering, "MOST", 1)
    with pytest.raises(Rejected, match="more than 1 match") as refused:
        ask(filled)
    assert refused.value.status == OUT_OF_RESOURCES
