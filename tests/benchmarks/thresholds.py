"""Whether thresholds hold what is said of them: `python tests/benchmarks/thresholds.py`.

Patients with one to three studies each, alike within a patient; a third have the
finding. The truth is that of 300,000 further patients. Prints how often the nested
interval covers the sensitivity and the specificity of the threshold that was chosen, and
how often a sensitivity that was demonstrated at 0.95 is one.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.errors import Permanent
from tests.operated import studies
from workers.thresholds.choosing import Wish, choose
from workers.thresholds.rules import Sensitivity

SETS = 200
MANY = studies(300_000, 2**31)
POSITIVE, NEGATIVE = np.sort(MANY.scores[MANY.truth]), np.sort(MANY.scores[~MANY.truth])
NESTED = Wish(finding="x", rule=Sensitivity(at_least=0.9), runs=100)
SHOWN = replace(NESTED, rule=Sensitivity(at_least=0.95), confidence=0.95, runs=1)


def below(sorted_scores: NDArray[np.float64], threshold: float) -> float:
    """Return the share of scores that a threshold does not flag."""
    return float(np.searchsorted(sorted_scores, threshold) / len(sorted_scores))


def nested(patients: int) -> str:
    """Return how often both intervals cover, over `SETS` sets of patients."""
    found = specific = 0
    for seed in range(SETS):
        one = choose(NESTED, studies(patients, seed))
        sensitivity = 1 - below(POSITIVE, one.ends.threshold)
        specificity = below(NEGATIVE, one.ends.threshold)
        found += one.sensitivity.low <= sensitivity <= one.sensitivity.high
        specific += one.specificity.low <= specificity <= one.specificity.high
    return f"sensitivity {found / SETS:.1%}, specificity {specific / SETS:.1%}"


def demonstrated(patients: int) -> str:
    """Return how often what was demonstrated is so, and how often it was."""
    right = shown = 0
    for seed in range(SETS):
        try:
            one = choose(SHOWN, studies(patients, seed))
        except Permanent:
            continue
        shown += 1
        right += 1 - below(POSITIVE, one.ends.threshold) >= 0.95
    return f"{right / max(shown, 1):.1%} of {shown} in {SETS}"


def main() -> None:
    """Print the table."""
    start = time.perf_counter()
    for patients in (180, 600):
        print(f"{patients} patients, nested 95 % intervals: {nested(patients)}")
        print(f"{patients} patients, demonstrated and so: {demonstrated(patients)}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
