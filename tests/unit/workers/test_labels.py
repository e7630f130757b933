"""Labels that exclude one another: shares of a softmax at the model's temperature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.labels import ensemble, label_weights, shares

LOGIT_SCALE = 4.513362407684326
AXIS = np.eye(8, dtype=np.float32)


def unit(*numbers: float) -> NDArray[np.float32]:
    """Return a vector of length one."""
    vector = np.zeros(8)
    vector[: len(numbers)] = numbers
    found: NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return found


def test_prompts_of_a_label_are_averaged_and_made_unit() -> None:
    """The mean of two unit vectors is shorter than one."""
    np.testing.assert_allclose(ensemble(AXIS[:2]), unit(1, 1), atol=1e-7)


def test_shares_are_the_softmax_at_the_checkpoint_s_temperature() -> None:
    """exp(logit_scale) times cosine, as the released code computes it."""
    head = label_weights([AXIS[:1], AXIS[1:2], AXIS[2:3]], logit_scale=LOGIT_SCALE)
    vector = unit(0.52, 0.5, 0.1)
    logits = np.exp(LOGIT_SCALE) * vector[:3].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    whole, each = shares(head, vector[None])
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    np.testing.assert_allclose(each, expected[None], rtol=1e-6)


def test_a_study_is_asked_as_the_mean_of_its_embeddings() -> None:
    """Two frames that are sure outweigh one that is as sure of another label."""
    head = label_weights([AXIS[:1], AXIS[1:2]], logit_scale=1.0)
    vectors = np.stack([AXIS[0], AXIS[0], AXIS[1]])
    whole, each = shares(head, vectors)
    mean, _ = shares(head, vectors.mean(axis=0)[None])
    np.testing.assert_allclose(whole, mean, rtol=1e-6)
    assert each.argmax(axis=1).tolist() == [0, 0, 1]
    assert whole[0] > whole[1]


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.floats(-5, 9),
)
def test_shares_add_up_to_one(numbers: list[float], logit_scale: float) -> None:
    """Whatever the image and the temperature, without overflow."""
    head = label_weights([AXIS[i : i + 1] for i in range(3)], logit_scale=logit_scale)
    vector = np.zeros((1, 8), dtype=np.float32)
    vector[0, :3] = numbers
    whole, _ = shares(head, vector)
    assert whole.sum() == pytest.approx(1.0)
    assert (whole >= 0).all()
