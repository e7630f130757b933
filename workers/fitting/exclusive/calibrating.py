"""Probabilities out of shares: one temperature for all labels, if it helps.

Guo et al., ICML 2017. Fitted on logits of studies that the head has not seen, and kept
only where it lowers the cross-entropy on patients that it has not seen either; else a
share stays a share.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from workers.calibration import TemperatureSpec
from workers.fitting.samples import Floats
from workers.labels import Logits, Shares, shares_of

_EDGE = 1e-6
_TEMPERATURES = (np.log(1e-3), np.log(1e3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From a study's logits to probabilities.

    Parameters
    ----------
    temperature
        None: there is none.
    losses
        The cross-entropy with it on patients left out, and of the shares as they are.
    studies, prevalence
        How many it was fitted on, and the share of them of each value.
    """

    temperature: float | None
    losses: Mapping[str, float]
    studies: int
    prevalence: Mapping[str, float]

    def apply(self, logits: Logits) -> Shares:
        """Return the probabilities (S, K) of logits; the shares, if it is none."""
        return shares_of(logits / (self.temperature or 1.0))

    def spec(self, *, name: str) -> TemperatureSpec:
        """Return it as a pack has it."""
        assert self.temperature is not None  # noqa: S101 - asked for where there is one
        return TemperatureSpec(
            set=name,
            temperature=self.temperature,
            prevalence=dict(self.prevalence),
            evidence={"studies": self.studies, "cross_entropy": dict(self.losses)},
        )


def calibrate(
    logits: Logits,
    value: NDArray[np.int8],
    fold: NDArray[np.int8],
    names: tuple[str, ...],
) -> Calibration:
    """Return the temperature of studies (S, K) whose value is known, (S,), by folds (S,)."""
    left_out = np.empty_like(logits)
    for number in np.unique(fold):
        inside = fold == number
        left_out[inside] = logits[inside] / _best(logits[~inside], value[~inside])
    losses = {
        "none": cross_entropy(shares_of(logits), value),
        "temperature": cross_entropy(shares_of(left_out), value),
    }
    helps = losses["temperature"] < losses["none"]
    counts = np.bincount(value, minlength=len(names)) / len(value)
    return Calibration(
        temperature=_best(logits, value) if helps else None,
        losses=losses,
        studies=len(value),
        prevalence=dict(zip(names, counts.tolist(), strict=True)),
    )


def cross_entropy(shares: Shares, value: NDArray[np.int8]) -> float:
    """Return the mean -log of the share (S, K) of what is true, (S,)."""
    said: Floats = shares[np.arange(len(value)), value]
    return float(-np.log(np.maximum(said, _EDGE)).mean())


def _best(logits: Logits, value: NDArray[np.int8]) -> float:
    found = minimize_scalar(
        lambda t: cross_entropy(shares_of(logits / np.exp(t)), value),
        bounds=_TEMPERATURES,
        method="bounded",
    )
    return float(np.exp(found.x))
