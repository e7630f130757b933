"""What a pack asks of a study, and of which images."""

import pytest

from workers.asked import Accepts


@pytest.mark.parametrize(
    ("accepts", "modality", "body_part", "covered"),
    [
        (Accepts(modality=("DX",)), "DX", "", True),
        (Accepts(modality=("DX",)), "CT", "", False),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "CHEST", True),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "HAND", False),
        (Accepts(modality=("DX",), body_part=("CHEST",)), "DX", "", False),
        (Accepts(modality=("DX",), body_part=("CHEST", "")), "DX", "", True),
    ],
)
def test_what_a_rule_accepts(
    *, accepts: Accepts, modality: str, body_part: str, covered: bool
) -> None:
    """An image that does not say what it shows is accepted only where that is said."""
    assert accepts.covers(modality, body_part) is covered
