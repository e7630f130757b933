"""What so many patients can show: exact one-sided limits, and how strict to be for them.

Clopper and Pearson, Biometrika 1934; 26: 404-413, on the effective number of patients.
A threshold that is a fixed rank of the scores of n independent patients flags a share
that is not below the limit of that rank, whatever the scores' distribution (Wilks,
Annals of Mathematical Statistics 1941; 12: 91-96): so the limit holds at the threshold
that was chosen on these very patients, as long as the model has not seen them.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from workers.measures import exact_proportion

Floats = NDArray[np.float64]
Patients = NDArray[np.integer]


def lower_limit(
    hits: NDArray[np.bool_], patient: Patients, *, confidence: float
) -> float:
    """Return what the share of hits is not below, one-sided.

    Never counts more than there are patients: several studies of one patient show
    less than those of several.
    """
    found = exact_proportion(hits, patient)
    n = min(found.effective, float(found.patients))
    if not found.hits:
        return 0.0
    return float(beta.ppf(1 - confidence, found.value * n, n - found.value * n + 1))


def patients_needed(share: float, *, confidence: float) -> int:
    """Return how many patients can show a share, if every one of them is a hit.

    59 for 0.95 at confidence 0.95.
    """
    return math.ceil(math.log(1 - confidence) / math.log(share) - 1e-9)


def stricter(
    ranks: Floats, patient: Patients, share: float, *, confidence: float
) -> float:
    """Return the share of these studies (N,) that has to be hit to show `share`.

    Parameters
    ----------
    ranks
        Higher is hit first. Studies that are equal in float32 are hit together.

    Returns
    -------
    float
        The least that is enough; 1 where even all of them are not.
    """
    falling = np.unique(-ranks.astype(np.float32))

    def enough(level: int) -> bool:
        hits = -ranks.astype(np.float32) <= falling[level]
        return lower_limit(hits, patient, confidence=confidence) >= share

    low, high = -1, len(falling) - 1  # more hits, higher limit
    if not enough(high):
        return 1.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float((-ranks.astype(np.float32) <= falling[high]).mean())
