"""Priorities: the first rule that fits, then what the order asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.domain import FrontDoor, Origin, Priority
from dicom_node.errors import SettingsError
from dicom_node.matching import (
    PackRule,
    PriorityRule,
    keywords,
    passed_over,
    priority_of,
)

ER = Origin(door=FrontDoor.DIMSE, calling_aet="CT_ER", called_aet="PACSIGHT_STAT")
STAT, ROUTINE, BACKFILL = Priority.STAT, Priority.ROUTINE, Priority.BACKFILL


def of(
    *rules: PriorityRule, origin: Origin = ER, **values: tuple[str, ...]
) -> Priority:
    """Return the priority of an instance with these attributes."""
    return priority_of(rules, origin=origin, values=values)


def test_routine_without_rules() -> None:
    """Nothing said: routine."""
    assert of() == ROUTINE


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("STAT", STAT),
        ("high ", STAT),
        ("ROUTINE", ROUTINE),
        ("MEDIUM", ROUTINE),
        ("LOW", BACKFILL),
        ("SOON", ROUTINE),
        ("", ROUTINE),
    ],
)
def test_requested_procedure_priority(asked: str, expected: Priority) -> None:
    """The order's priority counts where no rule fits; unknown terms are routine."""
    assert of(RequestedProcedurePriority=(asked,)) == expected


def test_called_and_calling_title() -> None:
    """Both titles that a rule names have to be those of the association."""
    assert of(PriorityRule(priority=STAT, called_aet="PACSIGHT_STAT")) == STAT
    assert of(PriorityRule(priority=STAT, calling_aet="CT_ER")) == STAT
    both = PriorityRule(priority=STAT, called_aet="PACSIGHT_STAT", calling_aet="MR")
    assert of(both) == ROUTINE


def test_attributes() -> None:
    """Every attribute that a rule names has to have one of the values, in any case."""
    rule = PriorityRule(
        priority=STAT,
        attributes={"Modality": frozenset({"CT"}), "StationName": frozenset({"er1"})},
    )
    assert of(rule, Modality=("CT",), StationName=("MAIN", "ER1 ")) == STAT
    assert of(rule, Modality=("CT",), StationName=("MAIN",)) == ROUTINE
    assert of(rule, Modality=("CT",)) == ROUTINE


def test_the_first_rule_that_fits_counts() -> None:
    """A rule before another wins, and any rule wins over the order."""
    migration = PriorityRule(priority=BACKFILL, calling_aet="CT_ER")
    rest = PriorityRule(priority=STAT)
    asked = ("STAT",)
    assert of(migration, rest, RequestedProcedurePriority=asked) == BACKFILL
    assert of(rest, migration) == STAT


def test_keywords_are_those_of_the_rules_and_the_order() -> None:
    """What has to be read of a header to decide."""
    rule = PriorityRule(priority=STAT, attributes={"Modality": frozenset({"CT"})})
    assert keywords([rule]) == {"Modality", "RequestedProcedurePriority"}


@pytest.mark.parametrize("keyword", ["Modalty", "PixelData", "Rows"])
def test_a_rule_needs_a_text_attribute(keyword: str) -> None:
    """A keyword that is not in the dictionary, or no text, is refused at the start."""
    with pytest.raises(SettingsError, match=keyword):
        PriorityRule(priority=STAT, attributes={keyword: frozenset({"1"})})


@given(st.text(), st.text(), st.lists(st.text()))
def test_any_text_gives_a_priority(called: str, calling: str, asked: list[str]) -> None:
    """Whatever a sender states, the answer is a priority."""
    origin = Origin(door=FrontDoor.DIMSE, called_aet=called, calling_aet=calling)
    rule = PriorityRule(priority=STAT, called_aet="X")
    assert of(rule, origin=origin, RequestedProcedurePriority=tuple(asked)) in Priority


CHEST = {"BodyPartExamined": frozenset({"CHEST"})}
PORTABLE = {"StationName": frozenset({"P3"})}


@pytest.mark.parametrize(
    ("values", "kept_from"),
    [
        ({"BodyPartExamined": ("chest",)}, ()),
        ({"BodyPartExamined": ("HAND",)}, ("cxr",)),
        ({}, ("cxr",)),
        ({"BodyPartExamined": ("CHEST",), "StationName": ("P3",)}, ("cxr",)),
    ],
)
def test_the_first_rule_of_a_pack_that_fits_counts(
    values: dict[str, tuple[str, ...]], kept_from: tuple[str, ...]
) -> None:
    """A pack with rules looks at what one of them lets it; others look at all."""
    rules = [
        PackRule(pack="cxr", looks=False, attributes=PORTABLE),
        PackRule(pack="hand", looks=True),
        PackRule(pack="cxr", looks=True, attributes=CHEST),
    ]
    assert passed_over(rules, origin=ER, values=values) == kept_from


def test_without_rules_every_pack_looks_at_everything() -> None:
    """Nobody said anything else."""
    assert passed_over([], origin=ER, values={}) == ()
