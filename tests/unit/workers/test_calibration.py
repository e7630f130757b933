"""From raw scores to probabilities: scikit-learn is the judge."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from workers.calibration import CalibrationSpec, calibrated, logit, sigmoid

RANDOM = np.random.default_rng(5)
TRUTH = RANDOM.random(300) < 0.4
RAW = sigmoid(RANDOM.normal(TRUTH * 1.5, 1.0))


def spec(method: str, **parameters: tuple[float, ...] | float) -> CalibrationSpec:
    """Return a calibration by that method."""
    return CalibrationSpec(
        set="cal-1",
        method=method,  # type: ignore[arg-type]
        parameters=parameters,
        prevalence=0.4,
    )


def test_platt_is_a_logistic_regression_on_the_logit() -> None:
    """Its slope and intercept, as scikit-learn fits them, give its probabilities."""
    judge = LogisticRegression(C=1e9).fit(logit(RAW)[:, None], TRUTH)
    one = spec("platt", slope=judge.coef_.item(), intercept=judge.intercept_.item())
    expected = judge.predict_proba(logit(RAW)[:, None])[:, 1]
    np.testing.assert_allclose(calibrated(one, RAW), expected, rtol=1e-12)


def test_isotonic_is_linear_between_its_points() -> None:
    """As scikit-learn predicts, outside of what it has seen, too."""
    judge = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(RAW, TRUTH)
    one = spec(
        "isotonic",
        x=tuple(judge.X_thresholds_.tolist()),
        y=tuple(judge.y_thresholds_.tolist()),
    )
    asked = np.linspace(0, 1, 500)
    np.testing.assert_allclose(calibrated(one, asked), judge.predict(asked), atol=1e-12)


def test_temperature_divides_the_logit() -> None:
    """Two makes scores milder, and leaves a half a half."""
    found = calibrated(spec("temperature", temperature=2.0), [0.5, 0.9, 0.1])
    np.testing.assert_allclose(found, [0.5, 0.75, 0.25], rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.01, 100))
def test_a_higher_score_is_no_lower_probability(raw: list[float], slope: float) -> None:
    """Whatever the score, ends included: in [0, 1], and in the same order."""
    found = calibrated(spec("platt", slope=slope, intercept=-1.0), np.sort(raw))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
