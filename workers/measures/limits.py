"""Quantiles of the normal distribution, and intervals on the logit scale."""

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def two_sided(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval, 1.96 for 0.95."""
    return _NORMAL.inv_cdf((1 + confidence) / 2)


def p_of(z: float) -> float:
    """Return the two-sided probability of a standard normal value."""
    return math.erfc(abs(z) / math.sqrt(2))


def wald(value: float, error: float, confidence: float) -> tuple[float, float]:
    """Return value -/+ z times its standard error."""
    margin = two_sided(confidence) * error
    return value - margin, value + margin


def logit_limits(value: float, error: float, confidence: float) -> tuple[float, float]:
    """Return Wald's limits on the logit scale, taken back; 0 < value < 1."""
    middle = math.log(value / (1 - value))
    low, high = wald(middle, error / (value * (1 - value)), confidence)
    return _expit(low), _expit(high)


def _expit(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
