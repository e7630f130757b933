"""Labels that exclude one another: shares of a softmax at the model's temperature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from workers.labels import (
    SoftmaxWeights,
    VoteWeights,
    ensemble,
    label_weights,
    shares,
)

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


def drawn(rows: int, seed: int) -> NDArray[np.float32]:
    """Return vectors (rows, 8) of length one."""
    found = np.random.default_rng(seed).normal(size=(rows, 8))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


SEEN, NEW = drawn(60, 0), drawn(9, 1)
VALUES = np.arange(60) % 3


def test_a_fitted_softmax_is_scikit_learn_s() -> None:
    """The probabilities of a multinomial logistic regression, frame by frame."""
    judge = LogisticRegression(C=5.0).fit(SEEN.astype(np.float64), VALUES)
    head = SoftmaxWeights(weight=judge.coef_, bias=judge.intercept_)
    _, each = shares(head, NEW)
    expected = judge.predict_proba(NEW.astype(np.float64))
    np.testing.assert_allclose(each, expected, rtol=1e-12)


def test_votes_are_shares_of_the_nearest() -> None:
    """As written out: softmax over all, the k largest, sums by label, made one."""
    weights = np.array([1.0, 2.0, 0.5])
    head = VoteWeights(
        embeddings=SEEN, label=VALUES, weights=weights, k=7, temperature=20.0
    )
    whole, each = shares(head, NEW)
    places = NearestNeighbors(n_neighbors=7).fit(SEEN).kneighbors(NEW)[1]
    powers = np.exp(20.0 * (NEW.astype(np.float64) @ SEEN.astype(np.float64).T))
    for row, power, near in zip(each, powers, places, strict=True):
        sums = [power[near][VALUES[near] == label].sum() for label in range(3)]
        expected = np.array(sums) * weights
        np.testing.assert_allclose(row, expected / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(whole, each.mean(axis=0), rtol=1e-9, atol=1e-9)


def test_a_temperature_calibrates_the_study_and_not_its_frames() -> None:
    """It divides the study's logits: above one it makes them less sure."""
    head = SoftmaxWeights(weight=np.eye(8)[:3] * 9, bias=np.zeros(3))
    raw, each = shares(head, NEW)
    whole, same = shares(head, NEW, temperature=2.0)
    expected = raw**0.5 / (raw**0.5).sum()
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    np.testing.assert_array_equal(each, same)
