"""How often 95 % limits of an area cover the area: under the null, and where there is one.

Null: 1 to 7 images a patient, scores correlated within patients, labels shuffled between
patients, so that the area is 0.5. Limits that are clustered by patient should cover it in
93 to 97 % of runs; limits that take images for independent should not.

    python tests/benchmarks/coverage.py [--runs 2000] [--seed 0]
"""

import argparse
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from workers.measures import Clusters, Scores, Truth, clustered_auc

PATIENTS, LARGEST = 150, 7
OF_PATIENT = 0.8
"""Share of a score's variance that its patient's images have in common."""

BOUNDS = 0.93, 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The share of runs whose limits cover the area."""

    clustered: float
    unclustered: float


def null_coverage(runs: int, *, seed: int, patients: int = PATIENTS) -> Coverage:
    """Return how often 0.5 is covered where labels were shuffled between patients."""
    return coverage(runs, area=0.5, seed=seed, patients=patients)


def coverage(
    runs: int,
    *,
    area: float,
    seed: int,
    patients: int = PATIENTS,
    largest: int = LARGEST,
) -> Coverage:
    """Return how often `area` is covered by each kind of limits."""
    rng = np.random.default_rng(seed)
    shift = np.sqrt(2) * NormalDist().inv_cdf(area)
    covered = np.zeros(2)
    for _ in range(runs):
        scores, truth, cluster = _images(rng, patients, largest)
        scores = scores + shift * truth
        each = np.arange(len(scores))
        for kind, who in enumerate((cluster, each)):
            found = clustered_auc(scores, truth, who)
            covered[kind] += found.low <= area <= found.high
    clustered, unclustered = covered / runs
    return Coverage(clustered=float(clustered), unclustered=float(unclustered))


def _images(
    rng: np.random.Generator, patients: int, largest: int
) -> tuple[Scores, Truth, Clusters]:
    """Return images of patients, labels drawn by patient, both kinds present."""
    sizes = rng.integers(1, largest + 1, size=patients)
    cluster = np.repeat(np.arange(patients), sizes)
    common = rng.normal(size=patients)[cluster] * np.sqrt(OF_PATIENT)
    scores = common + rng.normal(size=len(cluster)) * np.sqrt(1 - OF_PATIENT)
    labels = rng.permutation(np.arange(patients) < 0.4 * patients)
    return scores, labels[cluster], cluster


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"coverage of 95 % limits, {asked.runs} runs, seed {asked.seed}")
    for area, patients, largest in (
        (0.5, PATIENTS, LARGEST),
        (0.5, 300, LARGEST),
        (0.5, 50, LARGEST),
        (0.5, PATIENTS, 1),
        (0.8, PATIENTS, LARGEST),
        (0.8, 50, LARGEST),
        (0.95, PATIENTS, LARGEST),
        (0.99, PATIENTS, LARGEST),
    ):
        found = coverage(
            asked.runs, area=area, seed=asked.seed, patients=patients, largest=largest
        )
        print(
            f"area {area}, {patients} patients with 1 to {largest} images: "
            f"clustered {found.clustered:.1%}, unclustered {found.unclustered:.1%}"
        )
    null = null_coverage(asked.runs, seed=asked.seed)
    low, high = BOUNDS
    passed = low <= null.clustered <= high and not low <= null.unclustered <= high
    print("passed" if passed else "FAILED: outside 93 to 97 %, or unclustered inside")


if __name__ == "__main__":
    main()
