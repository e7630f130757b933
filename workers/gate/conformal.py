"""The limit that a stated share of validated images exceeds: split conformal prediction.

V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005. What is
exchanged is the patient, not the image: an image of one who has many counts for less.
"""

import math

import numpy as np
from numpy.typing import NDArray


def conformal_limit(
    scores: NDArray[np.float64], groups: NDArray[np.integer], rate: float
) -> float:
    """Return the limit that a new patient's image exceeds with probability <= `rate`.

    Parameters
    ----------
    scores
        (N,) of images that the score was not fitted on.
    groups
        (N,) whose they are.

    Raises
    ------
    ValueError
        If there are too few patients to tell a share as small as `rate`.
    """
    _, group = np.unique(groups, return_inverse=True)
    images = np.bincount(group)
    if len(images) < fewest(rate):
        raise ValueError(
            f"a false-alarm rate of {rate:g} takes at least {fewest(rate)} patients "
            f"or studies, and there are {len(images)}"
        )
    order = np.argsort(scores, kind="stable")
    # the new patient is one more, and might exceed them all
    share = np.cumsum(1 / images[group][order]) / (len(images) + 1)
    return float(scores[order][np.searchsorted(share, 1 - rate - 1e-12)])


def fewest(rate: float) -> int:
    """Return how many patients it takes to set a limit at `rate`."""
    return math.ceil(1 / rate - 1 - 1e-9)
