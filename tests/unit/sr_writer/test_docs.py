"""`docs/results.md` tells a reader of our objects what stands in them."""

from pathlib import Path

import pytest

from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from sr_writer import codes

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
