"""Codes: standard ones as PS3.16 has them, private ones well formed and unique."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import Code
from sr_writer import codes
from sr_writer.document import code_item_of

CONCEPTS: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = cast("Any", concepts)
CONTEXT_GROUPS: dict[int, dict[str, list[str]]] = cast("Any", cid_concepts)
NOT_IN_THE_DICTIONARIES = {
    "en-US": "a language tag of RFC 5646",
    "C0034375": "UMLS, TID 1500 row 12; DCMTK and highdicom write the same",
    "260753009": "PS3.3 C.17.3 calls it Source, the dictionary Source (attribute)",
}


def _all_codes() -> Iterator[PydicomCode]:
    for value in vars(codes).values():
        for one in value.values() if isinstance(value, dict) else (value,):
            if isinstance(one, PydicomCode):
                yield one
            elif isinstance(one, Code):
                yield codes.pydicom_code(one)


STANDARD = sorted({c for c in _all_codes() if c.scheme_designator != "99PACSIGHT"})
PRIVATE = [c for c in _all_codes() if c.scheme_designator == "99PACSIGHT"]


@pytest.mark.parametrize("code", STANDARD, ids=lambda c: c.value)
def test_a_standard_code_has_the_standard_s_meaning(code: PydicomCode) -> None:
    if code.value in NOT_IN_THE_DICTIONARIES:
        return
    meanings = {
        entry[code.value][0]
        for entry in CONCEPTS[code.scheme_designator].values()
        if code.value in entry
    }
    assert code.meaning in meanings


def _context_group(number: int) -> set[str]:
    return {
        value
        for scheme, keywords in CONTEXT_GROUPS[number].items()
        for keyword in keywords
        for value in CONCEPTS[scheme][keyword]
    }


@pytest.mark.parametrize(
    ("group", "values"),
    [
        (7035, {c.value for c in codes.URGENCY_VALUES.values()}),
        (
            6047,
            {
                codes.ALL_SUCCEEDED_WITH_FINDINGS.value,
                codes.ALL_SUCCEEDED_WITHOUT_FINDINGS.value,
                codes.SOME_SUCCEEDED_WITH_FINDINGS.value,
                codes.SOME_SUCCEEDED_WITHOUT_FINDINGS.value,
                codes.NONE_SUCCEEDED.value,
            },
        ),
    ],
)
def test_a_set_of_values_is_the_whole_context_group(
    group: int, values: set[str]
) -> None:
    assert values == _context_group(group)


def test_procedures_and_purposes_belong_to_their_context_groups() -> None:
    procedures = {c.value for c in codes.PROCEDURE_BY_MODALITY.values()}
    assert procedures | {codes.IMAGING_PROCEDURE.value} <= _context_group(100)
    assert codes.PROCESSING_EQUIPMENT.value in _context_group(7005)
    assert codes.IMAGING_MEASUREMENT_REPORT.value in _context_group(7021)
    selections = (
        codes.OF_INTEREST,
        codes.REJECTED_FOR_QUALITY,
        codes.REJECTED_FOR_PATIENT_SAFETY,
    )
    assert {c.value for c in selections} <= _context_group(7010)


def test_private_codes_fit_their_elements_and_are_told_apart() -> None:
    """Code Value is SH, Code Meaning LO."""
    assert all(len(c.value) <= 16 and len(c.meaning) <= 64 for c in PRIVATE)
    assert len({c.value for c in PRIVATE}) == len(PRIVATE)
    assert len({c.meaning for c in PRIVATE}) == len(PRIVATE)


def test_private_schemes_are_identified_ours_first() -> None:
    used = ("DCM", "SIEMENS_RIS", "99ZOO", "99PACSIGHT", "SCT")
    dataset = Dataset()
    dataset.ConceptCodeSequence = [
        code_item_of(PydicomCode("1", scheme, "one")) for scheme in used
    ]
    items = codes.coding_schemes_of(dataset)
    assert [i.CodingSchemeDesignator for i in items] == [
        "99PACSIGHT",
        "99ZOO",
        "SIEMENS_RIS",
    ]
    assert items[0].CodingSchemeUID == codes.CODING_SCHEME_UID
