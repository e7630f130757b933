"""Weighted nearest neighbours: the protocol step by step, against plain loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from tests.golden import recipe
from workers.neighbours import References, nearby

DIMENSION = 6


def unit_rows(name: str, count: int) -> NDArray[np.float32]:
    """Return vectors (count, 6) of length one."""
    rows = recipe.noise(name, (count, DIMENSION))
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def months(*values: float) -> NDArray[np.float32]:
    """Return values of references."""
    return np.array(values, dtype=np.float32)


def by_hand(
    references: References, vector: Any, *, k: int, values: int, temperature: float
) -> float:
    """Return the value of one image, written down as the protocol says it."""
    logits = [temperature * float(row @ vector) for row in references.embeddings]
    total = sum(np.exp(logit - max(logits)) for logit in logits)
    scores = [np.exp(logit - max(logits)) / total for logit in logits]
    nearest = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    by_value: dict[float, float] = {}
    for i in nearest:
        value = float(references.values[i])
        by_value[value] = by_value.get(value, 0.0) + scores[i]
    highest = sorted(by_value.items(), key=lambda item: (-item[1], item[0]))[:values]
    weight = sum(score for _, score in highest)
    return sum(value * score for value, score in highest) / weight


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_it_is_the_protocol(count: int, k: int, values: int, seed: int) -> None:
    """Softmax over all, the k largest, equal values added up, the highest averaged."""
    labels = np.rint(recipe.noise(f"v{seed}", (count,)) * 2 + 60).astype(np.float32)
    references = References(embeddings=unit_rows(f"r{seed}", count), values=labels)
    vector = unit_rows(f"x{seed}", 1)
    found = nearby(references, vector, k=k, values=values, temperature=100.0)
    expected = by_hand(references, vector[0], k=k, values=values, temperature=100.0)
    assert found.value == pytest.approx(expected)
    assert found.frames == pytest.approx((expected,))
    assert labels.min() - 1e-4 <= found.value <= labels.max() + 1e-4
    assert found.spread <= (labels.max() - labels.min()) / 2 + 1e-3


def test_equal_values_count_together() -> None:
    """Two references of one month outweigh a nearer one of another."""
    rows = np.eye(DIMENSION, dtype=np.float32)[[0, 1, 1]]
    references = References(embeddings=rows, values=months(100, 50, 50))
    vector = np.array([[0.72, 0.70, 0, 0, 0, 0]], dtype=np.float32)
    one = nearby(references, vector, k=3, values=1, temperature=10.0)
    assert one.value == 50
    assert one.spread == 0


def test_frames_have_the_same_say_and_spread_the_value() -> None:
    """Two hands of 100 and 140 months are 120 on average, 20 apart from it."""
    references = References(
        embeddings=np.eye(DIMENSION, dtype=np.float32)[:2], values=months(100, 140)
    )
    vectors = np.eye(DIMENSION, dtype=np.float32)[:2]
    found = nearby(references, vectors, k=1, values=1, temperature=100.0)
    assert list(found.frames) == [100, 140]
    assert (found.value, found.spread) == (120, 20)


@pytest.mark.parametrize(
    ("embeddings", "values", "sentence"),
    [
        (unit_rows("a", 2), months(1), r"\(2, 6\) and \(1,\)"),
        (unit_rows("a", 2)[:0], months(), "references need embeddings"),
        (unit_rows("a", 2)[0], months(1), "references need embeddings"),
        (unit_rows("a", 2) * 2, months(1, 2), "does not have length one"),
        (unit_rows("a", 2) * np.nan, months(1, 2), "does not have length one"),
        (unit_rows("a", 2), months(1, np.nan), "is no number"),
    ],
)
def test_references_that_are_none_are_refused(
    embeddings: Any, values: Any, sentence: str
) -> None:
    """Not normalised, not finite, not as many."""
    with pytest.raises(Permanent, match=sentence):
        References(embeddings=embeddings, values=values)
