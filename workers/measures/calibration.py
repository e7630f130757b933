"""Whether scores that are called probabilities are: Brier score, curve, slope, intercept.

Brier, Monthly Weather Review 1950; 78: 1-3. Recalibration: Cox, Biometrika 1958; 45:
562-565; Van Calster et al., BMC Medicine 2019; 17: 230.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.measures.arrays import (
    Clusters,
    Scores,
    Truth,
    Undefined,
    distinct,
    sums,
    two_classes,
)
from workers.measures.limits import wald
from workers.measures.linear import Estimate, clustered_mean
from workers.measures.proportions import Proportion, clustered_proportion

_NEAREST = 1e-9
_STEPS, _ENOUGH = 100, 1e-10
_LARGEST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Rows of about the same probability: what was said, and what came true."""

    predicted: float
    observed: Proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """The line between what was said and what came true, on the logit scale.

    Parameters
    ----------
    slope
        1 where scores are neither too sure nor too timid.
    intercept
        Of the same line; 0 where the slope is 1 and nothing is shifted.
    in_the_large
        The shift with the slope held at 1: over 0 where too little was said.
    """

    slope: Estimate
    intercept: Estimate
    in_the_large: Estimate


def brier(
    scores: Scores, truth: Truth, cluster: Clusters, *, confidence: float = 0.95
) -> Estimate:
    """Return the mean squared distance of probabilities (N,) from 0 and 1.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    return clustered_mean((scores - truth) ** 2, cluster, confidence=confidence)


def calibration_curve(
    scores: Scores, truth: Truth, cluster: Clusters, *, bins: int = 10
) -> tuple[Bin, ...]:
    """Return bins of about as many rows each, from the lowest probability up.

    Edges are quantiles, as those of scikit-learn with ``strategy="quantile"``.
    """
    edges = np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1])
    which = np.searchsorted(edges, scores)
    return tuple(
        Bin(
            predicted=float(scores[rows].mean()),
            observed=clustered_proportion(truth[rows], cluster[rows]),
        )
        for number in range(bins)
        for rows in [which == number]
        if rows.any()
    )


def calibration_slope_intercept(
    scores: Scores, truth: Truth, cluster: Clusters, *, confidence: float = 0.95
) -> Recalibration:
    """Return slope and intercept of probabilities (N,), limits clustered by patient.

    By logistic regression of the truth on the logits; limits from the sandwich variance.

    Raises
    ------
    Undefined
        If there is one class only, or the scores separate the classes.
    """
    two_classes(truth)
    p = np.clip(scores, _NEAREST, 1 - _NEAREST)
    logits = np.log(p / (1 - p))
    line = _Fit.of(np.c_[np.ones(len(p)), logits], np.zeros(len(p)), truth, cluster)
    shift = _Fit.of(np.ones((len(p), 1)), logits, truth, cluster)
    return Recalibration(
        slope=line.estimate(1, cluster, confidence),
        intercept=line.estimate(0, cluster, confidence),
        in_the_large=shift.estimate(0, cluster, confidence),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """Coefficients of a logistic regression and their clustered covariance."""

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        design: NDArray[np.float64],
        offset: Scores,
        truth: Truth,
        cluster: Clusters,
    ) -> "_Fit":
        """Return the fit by Newton's method, from zero."""
        theta = np.zeros(design.shape[1])
        for _ in range(_STEPS):
            p = 0.5 * (1 + np.tanh(0.5 * (design @ theta + offset)))
            information = (design.T * (p * (1 - p))) @ design
            if np.linalg.cond(information) > 1 / np.finfo(np.float64).eps:
                raise Undefined("the scores separate the classes, or do not vary")
            step = np.linalg.solve(information, design.T @ (truth - p))
            theta += np.clip(step, -4, 4)
            if np.abs(theta).max() > _LARGEST:
                break
            if np.abs(step).max() < _ENOUGH:
                return cls(
                    coefficients=theta,
                    covariance=_sandwich(design, truth - p, information, cluster),
                )
        raise Undefined("the scores separate the classes")

    def estimate(self, which: int, cluster: Clusters, confidence: float) -> Estimate:
        """Return one coefficient with its limits."""
        value = float(self.coefficients[which])
        error = math.sqrt(float(self.covariance[which, which]))
        low, high = wald(value, error, confidence)
        return Estimate(
            value=value,
            low=low,
            high=high,
            n=len(cluster),
            patients=distinct(cluster),
            method="logistic recalibration, sandwich variance clustered by patient",
        )


def _sandwich(
    design: NDArray[np.float64],
    residual: Scores,
    information: NDArray[np.float64],
    cluster: Clusters,
) -> NDArray[np.float64]:
    size = int(cluster.max()) + 1
    by_patient = np.stack(
        [sums(column * residual, cluster, size) for column in design.T]
    )
    bread = np.linalg.inv(information)
    patients = distinct(cluster)
    correction = patients / (patients - 1) if patients > 1 else math.nan
    covariance: NDArray[np.float64] = (
        correction * bread @ (by_patient @ by_patient.T) @ bread
    )
    return covariance
