"""What makes a probability of a score: how it was calibrated, and the way there.

Platt (logistic regression on the logit), temperature (division of the logit), isotonic
(a monotone step from score to probability, joined by straight lines). Pure, numpy only;
it is fitted elsewhere, on scores that neither the head nor the test has seen. Part of
``pack.json``, the `workers.manifest`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method = Literal["platt", "isotonic", "temperature"]

EDGE = 1e-12
"""Scores nearer to 0 or 1 have the logit of this distance: a sigmoid rounds to 1."""

_FORBID: dict[str, str] = {"extra": "forbid"}
_PARAMETERS: Mapping[str, frozenset[str]] = {
    "platt": frozenset({"slope", "intercept"}),
    "temperature": frozenset({"temperature"}),
    "isotonic": frozenset({"x", "y"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSpec:
    """From the raw score of a study to a probability.

    Parameters
    ----------
    set
        Names the data that it was fitted on; every report names it.
    method, parameters
        ``platt``: sigmoid(slope * logit + intercept), slope above 0; ``temperature``:
        sigmoid(logit / temperature), above 0; ``isotonic``: linear between the points
        ``x`` (scores, rising) and ``y`` (probabilities, not falling), level outside.
    prevalence
        Share of studies with the finding in that data, between 0 and 1. Another
        prevalence is another set.
    evidence
        Free: slope, intercept, Brier score, n, patients, ...
    """

    __pydantic_config__: ClassVar = _FORBID

    set: str
    method: Method
    parameters: dict[str, tuple[float, ...] | float]
    prevalence: float
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.set:
            raise ValueError("a calibration needs the name of its set")
        if not 0 < self.prevalence < 1:
            raise ValueError("the prevalence of a calibration lies between 0 and 1")
        if self.parameters.keys() != _PARAMETERS[self.method]:
            names = ", ".join(sorted(_PARAMETERS[self.method]))
            raise ValueError(f"a calibration by {self.method} needs {names}")
        if not _is_monotone(self.method, self.parameters):
            raise ValueError(
                f"the parameters of a calibration by {self.method} are finite, "
                "and a higher score is no lower probability"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureSpec:
    """From the logits of a category's labels to probabilities: softmax(logits / T).

    Parameters
    ----------
    set
        Names the data that it was fitted on; every report names it.
    temperature
        T, above 0; above 1 it makes a head less sure of itself.
    prevalence
        Share of the studies of each label in that data, by the label's key.
    evidence
        Free: cross-entropy, n, patients, ...
    """

    __pydantic_config__: ClassVar = _FORBID

    set: str
    temperature: float
    prevalence: dict[str, float]
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.set:
            raise ValueError("a calibration needs the name of its set")
        if not 0 < self.temperature < math.inf:
            raise ValueError("a temperature is above 0")
        if not all(0 <= share <= 1 for share in self.prevalence.values()):
            raise ValueError("the prevalence of a label lies between 0 and 1")


def calibrated(spec: CalibrationSpec, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probability of each score.

    Parameters
    ----------
    scores
        (N,) in [0, 1]: raw scores of studies.
    """
    raw = np.asarray(scores, dtype=np.float64)
    values = {name: np.asarray(value) for name, value in spec.parameters.items()}
    if spec.method == "isotonic":
        return np.asarray(np.interp(raw, values["x"], values["y"]), dtype=np.float64)
    logits = logit(raw)
    if spec.method == "platt":
        return sigmoid(values["slope"] * logits + values["intercept"])
    return sigmoid(logits / values["temperature"])


def logit(scores: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) of each score, as if none were nearer to 0 or 1 than EDGE."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), EDGE, 1.0 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)), without overflow for any x."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64))))


def _is_monotone(method: Method, parameters: Mapping[str, Any]) -> bool:
    values = {name: np.asarray(value, float) for name, value in parameters.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        return False
    if method == "isotonic":
        x, y = values["x"], values["y"]
        if x.ndim != 1 or x.shape != y.shape or not x.size:
            return False
        in_range = y.min() >= 0 and y.max() <= 1
        return bool(in_range and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all())
    slope = values["slope"] if method == "platt" else values["temperature"]
    return all(value.ndim == 0 for value in values.values()) and bool(slope > 0)
