"""What a head is fitted on and scored with: one finding's items, and their studies.

An item is what the pack's head sees: a frame, or a volume where the finding's
aggregation says so. Truths and scores of studies are what counts in the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.asked import OF_VOLUMES
from workers.cohort import Examples, Truth, by_study
from workers.findings import aggregate
from workers.volumes import volume_embedding

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Weighing(StrEnum):
    """Who has how much say when a head is fitted."""

    IMAGES = "images"
    """Every image the same."""

    PATIENTS = "patients"
    """Every patient the same, however many images there are."""

    CLASSES = "classes"
    """Both labels the same, however many images have each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """Items (N, D) float32 of length one, which have the finding (N,), their weights."""

    vectors: NDArray[np.float32]
    present: Mask
    weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """N items of S studies, and what is true of one finding.

    Parameters
    ----------
    vectors
        (N, D) float32.
    patient
        (N,) int32.
    study
        (N,) int32, from 0 to S-1.
    truth
        (N,) int8, values of `Truth`.
    study_patient
        (S,) int32.
    study_truth
        (S,) int8.
    aggregation
        From the scores of items to that of their study.
    """

    vectors: NDArray[np.float32]
    patient: NDArray[np.int32]
    study: NDArray[np.int32]
    truth: NDArray[np.int8]
    study_patient: NDArray[np.int32]
    study_truth: NDArray[np.int8]
    aggregation: str

    @property
    def known(self) -> Mask:
        """Return which studies are known to have the finding, or not to, (S,)."""
        known: Mask = self.study_truth >= Truth.ABSENT
        return known

    @property
    def present(self) -> Mask:
        """Return which studies have the finding, (S,)."""
        present: Mask = self.study_truth == Truth.PRESENT
        return present

    def training(self, studies: Mask, weighing: Weighing) -> Training:
        """Return the labelled items of some studies (S,)."""
        rows = studies[self.study] & (self.truth >= Truth.ABSENT)
        present: Mask = self.truth[rows] == Truth.PRESENT
        return Training(
            vectors=self.vectors[rows],
            present=present,
            weights=weights_of(present, self.patient[rows], weighing),
        )

    def items_of(self, studies: Mask) -> NDArray[np.float32]:
        """Return the items (n, D) of some studies (S,), in their order."""
        return self.vectors[studies[self.study]]

    def of_studies(self, scores: Floats, studies: Mask) -> Floats:
        """Return the scores of some studies, from those of their items (n,)."""
        study = self.study[studies[self.study]]
        order = np.argsort(study, kind="stable")
        ordered, starts = scores[order], np.flatnonzero(np.diff(study[order])) + 1
        if len(starts) + 1 == len(study):
            return ordered
        if self.aggregation == "max" or self.aggregation.startswith(OF_VOLUMES):
            highest: Floats = np.maximum.reduceat(ordered, np.r_[0, starts])
            return highest
        parts: Iterable[Floats] = np.split(ordered, starts)
        return np.array([aggregate(self.aggregation, part) for part in parts])


def samples_of(examples: Examples, finding: int, aggregation: str) -> Samples:
    """Return the items of the examples, for one of their findings.

    Where the aggregation is one of volumes' embeddings, an item is a volume.
    """
    studies = by_study(examples)
    truth = examples.truth[:, finding]
    vectors, first = examples.vectors, np.arange(len(truth))
    if aggregation.startswith(OF_VOLUMES):
        method = aggregation.removeprefix(OF_VOLUMES)
        order = np.argsort(examples.volume, kind="stable")
        starts = np.r_[0, np.flatnonzero(np.diff(examples.volume[order])) + 1]
        parts = np.split(examples.vectors[order], starts[1:])
        vectors = np.stack([volume_embedding(part, method) for part in parts])
        first = order[starts]
    return Samples(
        vectors=vectors,
        patient=examples.patient[first],
        study=studies.of_row[first],
        truth=truth[first],
        study_patient=studies.patient,
        study_truth=studies.truth[:, finding],
        aggregation=aggregation,
    )


def weights_of(
    truth: NDArray[Any], patient: NDArray[np.int32], weighing: Weighing
) -> Floats:
    """Return weights (N,) whose mean is 1, of items with so many different truths."""
    if weighing is Weighing.IMAGES:
        return np.ones(len(truth))
    kind = patient if weighing is Weighing.PATIENTS else truth
    _, number, count = np.unique(kind, return_inverse=True, return_counts=True)
    weights: Floats = len(truth) / (len(count) * count[number])
    return weights
