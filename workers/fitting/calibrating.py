"""Probabilities out of scores: Platt, isotonic or temperature, whichever fits best.

Fitted on scores of studies that the head has not seen. The method is the one with the
lowest cross-entropy on patients that the calibration has not seen either; where none
lowers it, there is none, and a score stays a score.

Platt, Advances in Large Margin Classifiers 1999 (with his smoothed targets); Guo et al.,
ICML 2017 (temperature); Zadrozny and Elkan, KDD 2002 (isotonic).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from workers.calibration import CalibrationSpec, Method, calibrated, logit, sigmoid
from workers.fitting.samples import Floats, Mask

_EDGE = 1e-6
_TEMPERATURES = (np.log(1e-3), np.log(1e3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From a study's score to a probability.

    Parameters
    ----------
    method
        None: there is none.
    losses
        The cross-entropy of each method, and of the scores as they are (``none``).
    studies, prevalence
        How many it was fitted on, and the share of them with the finding.
    """

    method: Method | None
    parameters: Mapping[str, float | tuple[float, ...]]
    losses: Mapping[str, float]
    studies: int
    prevalence: float

    def apply(self, scores: Floats) -> Floats:
        """Return the probabilities of scores (S,); the scores, if there is no method."""
        if self.method is None:
            return scores
        return calibrated(self.spec(name="fitting"), scores)

    def spec(self, *, name: str, **evidence: object) -> CalibrationSpec:
        """Return it as a pack has it."""
        assert self.method is not None  # noqa: S101 - asked for where there is one
        return CalibrationSpec(
            set=name,
            method=self.method,
            parameters=dict(self.parameters),
            prevalence=self.prevalence,
            evidence=evidence,
        )


def calibrate(scores: Floats, present: Mask, fold: NDArray[np.int8]) -> Calibration:
    """Return the calibration that fits best, fitted on all of the scores.

    Parameters
    ----------
    scores
        (S,) of studies, by heads that have not seen them.
    present
        (S,) which of them have the finding.
    fold
        (S,) by patient: methods are compared on folds left out.
    """
    losses = {"none": cross_entropy(scores, present)}
    for method in _FITS:
        out = _left_out(method, scores, present, fold)
        if out is not None:
            losses[method] = cross_entropy(out, present)
    best = min(losses, key=lambda name: losses[name])
    chosen = next((method for method in _FITS if method == best), None)
    parameters = None if chosen is None else _FITS[chosen](scores, present)
    return Calibration(
        method=None if parameters is None else chosen,
        parameters=parameters or {},
        losses=losses,
        studies=len(scores),
        prevalence=float(present.mean()),
    )


def cross_entropy(probabilities: Floats, present: Mask) -> float:
    """Return the mean -log of what was said of what is true."""
    p = np.clip(probabilities, _EDGE, 1 - _EDGE)
    return float(-np.log(np.where(present, p, 1 - p)).mean())


_Parameters = Mapping[str, float | tuple[float, ...]]


def _left_out(
    method: Method, scores: Floats, present: Mask, fold: NDArray[np.int8]
) -> Floats | None:
    """Return probabilities by calibrations on the other folds; None if there is none."""
    found = np.empty(len(scores))
    for number in np.unique(fold):
        inside = fold == number
        parameters = _FITS[method](scores[~inside], present[~inside])
        if parameters is None:
            return None
        spec = CalibrationSpec(
            set="fold", method=method, parameters=dict(parameters), prevalence=0.5
        )
        found[inside] = calibrated(spec, scores[inside])
    return found


def platt(scores: Floats, present: Mask) -> _Parameters | None:
    """Return slope and intercept; None where a higher score would be less likely."""
    positives = int(present.sum())
    negatives = len(present) - positives
    target = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    logits = np.tile(logit(scores), 2)[:, None]
    sides = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky")
    model.fit(logits, sides, sample_weight=np.r_[target, 1 - target])
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return {"slope": slope, "intercept": intercept} if slope > 0 else None


def _temperature(scores: Floats, present: Mask) -> _Parameters:
    logits = logit(scores)
    found = minimize_scalar(
        lambda t: cross_entropy(sigmoid(logits / np.exp(t)), present),
        bounds=_TEMPERATURES,
        method="bounded",
    )
    return {"temperature": float(np.exp(found.x))}


def _isotonic(scores: Floats, present: Mask) -> _Parameters:
    """Return the steps, never quite 0 or 1: n studies cannot tell that."""
    least = 1 / (len(scores) + 2)
    model = IsotonicRegression(y_min=least, y_max=1 - least).fit(scores, present)
    return {
        "x": tuple(map(float, model.X_thresholds_)),
        "y": tuple(map(float, model.y_thresholds_)),
    }


_FITS: Mapping[Method, Callable[[Floats, Mask], _Parameters | None]] = {
    "platt": platt,
    "temperature": _temperature,
    "isotonic": _isotonic,
}
