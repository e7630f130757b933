"""`docs/results.md` tells a reader of our objects what stands in them."""

from pathlib import Path

import pytest
from pydicom.datadict import dictionary_description

from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from sr_writer import codes
from tests.composed import every_object, reread
from tests.unit.sr_writer.test_compose import (
    everything_at_once,
    header_for,
    pictures_for,
)

STATEMENT = Path(__file__).parents[3] / "docs" / "conformance.md"
PAGE = Path(__file__).parents[3] / "docs" / "results.md"
PRIVATE = sorted(
    {
        (one.value, one.meaning)
        for value in vars(codes).values()
        for one in (value.values() if isinstance(value, dict) else (value,))
        if codes.PRIVATE_SCHEME
        in (getattr(one, "scheme", ""), getattr(one, "scheme_designator", ""))
    }
)


@pytest.mark.parametrize(("value", "meaning"), PRIVATE)
def test_every_private_code_is_explained(value: str, meaning: str) -> None:
    assert f"| `{value}` | {meaning} |" in PAGE.read_text(encoding="utf-8")


def test_our_objects_can_be_told_by_their_creator() -> None:
    assert INSTANCE_CREATOR_UID in PAGE.read_text(encoding="utf-8")


def test_its_pictures_are_there() -> None:
    for name in ("page-chest.png", "page-head.png"):
        assert f"images/{name}" in PAGE.read_text(encoding="utf-8")
        assert (PAGE.parent / "images" / name).is_file()


@pytest.mark.parametrize("source", ["lossy", "knee", "Japanese"])
def test_every_attribute_that_is_written_is_in_the_statement(source: str) -> None:
    """By its name and tag, whatever the kind of object."""
    statement = STATEMENT.read_text(encoding="utf-8")
    made_from = everything_at_once()
    header = header_for(made_from, source)
    for obj in every_object(made_from, header, pictures_for(made_from)):
        for element in reread(obj):
            tag = f"({element.tag.group:04X},{element.tag.element:04X})"
            row = f"| {dictionary_description(element.tag)} | {tag} |"
            assert row in statement, obj.kind


def test_the_private_scheme_is_in_the_statement() -> None:
    assert codes.CODING_SCHEME_UID in STATEMENT.read_text(encoding="utf-8")
