"""Alterations: reproducible, of the same size, and none where none is wanted."""

import numpy as np
import pytest

from workers.finetuning.views import alteration, altered

FILL = (124, 116, 104)


def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 24, 24), dtype=np.uint8)


@pytest.mark.parametrize("how", ["wide", "mild"])
def test_a_view_follows_from_its_seed(how: str) -> None:
    """Forty views: all of the same shape, the same again, and hardly two alike."""
    kind = alteration(how)
    views = [
        altered(image(), np.random.default_rng(seed), how=kind, fill=FILL)
        for seed in range(40)
    ]
    again = [
        altered(image(), np.random.default_rng(seed), how=kind, fill=FILL)
        for seed in range(40)
    ]

    assert {(v.shape, v.dtype) for v in views} == {((3, 24, 24), np.dtype(np.uint8))}
    assert all(np.array_equal(a, b) for a, b in zip(views, again, strict=True))
    assert len({v.tobytes() for v in views}) > 35


def test_none_is_none() -> None:
    """The image itself."""
    found = altered(image(), np.random.default_rng(0), how="none", fill=FILL)

    assert np.array_equal(found, image())


def test_an_unknown_alteration_is_refused() -> None:
    """One sentence that names the three."""
    with pytest.raises(ValueError, match="wide, mild or none"):
        alteration("wild")
