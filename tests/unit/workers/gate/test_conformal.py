"""The limit of a gate: what share of new patients' images lies beyond it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.gate.conformal import conformal_limit, fewest


def test_new_images_exceed_the_limit_as_often_as_stated() -> None:
    """Gaussian scores, one image a patient: 2 % over 400 draws of 300 patients."""
    rng = np.random.default_rng(0)
    patients = np.arange(300)
    beyond = [
        (rng.standard_normal(500) > conformal_limit(scores, patients, 0.02)).mean()
        for scores in rng.standard_normal((400, 300))
    ]
    assert np.mean(beyond) == pytest.approx(0.02, abs=0.002)


def test_a_patient_with_many_images_counts_once() -> None:
    """A hundred images of one odd patient move the limit as little as one does."""
    rng = np.random.default_rng(1)
    usual = rng.standard_normal(200)
    one = conformal_limit(np.append(usual, 9.0), np.arange(201), 0.05)
    many = conformal_limit(
        np.concatenate([usual, np.full(100, 9.0)]),
        np.concatenate([np.arange(200), np.full(100, 200)]),
        0.05,
    )
    assert many == one


@given(rate=st.floats(0.005, 0.5))
def test_it_says_how_many_patients_a_rate_takes(rate: float) -> None:
    """With one fewer, there is no limit."""
    enough = fewest(rate)
    scores = np.arange(float(enough))
    assert conformal_limit(scores, np.arange(enough), rate) <= scores[-1]
    with pytest.raises(ValueError, match=f"takes at least {enough} patients"):
        conformal_limit(scores[1:], np.arange(enough - 1), rate)
