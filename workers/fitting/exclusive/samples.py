"""What a head of exclusive labels is fitted on: items with one value each, or none.

An image has the value whose finding is 1. Where none is (0, uncertain, missing), it has
no value and is left out; where two are, the table contradicts itself. A study has the
value that its labelled images agree on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import Cohort, EmbeddingFile, Examples, Truth, by_study, join
from workers.fitting.exclusive.asking import Question
from workers.fitting.samples import Floats, Mask, Weighing, weights_of
from workers.labels import LabelHead, Logits, logits_of

NO_VALUE, SEVERAL = -1, -2
"""Of a study: nobody said one, or its images have different ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """Items (N, D) float32, the number of each one's value (N,), and its weight (N,)."""

    vectors: NDArray[np.float32]
    value: NDArray[np.int8]
    weights: Floats
    values: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """N frames of S studies, and which of the values each has.

    Parameters
    ----------
    vectors
        (N, D) float32.
    patient, study
        (N,) int32; studies from 0 to S-1.
    value
        (N,) int8, from 0 to K-1; `NO_VALUE`.
    study_patient
        (S,) int32.
    study_value
        (S,) int8, from 0 to K-1; `NO_VALUE`, `SEVERAL`.
    names
        Of the K values.
    """

    vectors: NDArray[np.float32]
    patient: NDArray[np.int32]
    study: NDArray[np.int32]
    value: NDArray[np.int8]
    study_patient: NDArray[np.int32]
    study_value: NDArray[np.int8]
    names: tuple[str, ...]

    @property
    def known(self) -> Mask:
        """Return which studies have a value, (S,)."""
        known: Mask = self.study_value >= 0
        return known

    def training(self, studies: Mask, weighing: Weighing) -> Training:
        """Return the items of some studies (S,) that have a value."""
        rows = studies[self.study] & (self.value >= 0)
        value = self.value[rows]
        return Training(
            vectors=self.vectors[rows],
            value=value,
            weights=weights_of(value, self.patient[rows], weighing),
            values=len(self.names),
        )

    def items_of(self, studies: Mask) -> NDArray[np.float32]:
        """Return the items (n, D) of some studies (S,), in their order."""
        return self.vectors[studies[self.study]]

    def of_studies(self, head: LabelHead, terms: Floats, studies: Mask) -> Logits:
        """Return the logits of some studies, from the terms (n, K) of their items."""
        study = self.study[studies[self.study]]
        order = np.argsort(study, kind="stable")
        starts = np.r_[0, np.flatnonzero(np.diff(study[order])) + 1]
        counts = np.diff(np.r_[starts, len(study)])
        sums = np.add.reduceat(terms[order], starts, axis=0)
        return logits_of(head, sums / counts[:, None])


def samples_of(
    cohort: Cohort, embeddings: EmbeddingFile, question: Question
) -> tuple[Samples, Examples]:
    """Return the frames of which anything is labelled, with their values.

    Raises
    ------
    Permanent
        If an image has two values, or a value has no image.
    """
    _check_exclusive(cohort, question)
    examples = join(cohort, embeddings, need=question.findings)
    present = examples.truth == Truth.PRESENT
    value = np.where(present.any(axis=1), present.argmax(axis=1), NO_VALUE)
    value = value.astype(np.int8)
    studies = by_study(examples)
    samples = Samples(
        vectors=examples.vectors,
        patient=examples.patient,
        study=studies.of_row,
        value=value,
        study_patient=studies.patient,
        study_value=_agreed(value, studies.of_row, len(studies.study)),
        names=tuple(one.key for one in question.values),
    )
    _check_values(cohort, samples, question)
    return samples, examples


def _check_exclusive(cohort: Cohort, question: Question) -> None:
    """Refuse a table that gives an image two values."""
    findings = [one for one in question.findings if one in cohort.findings]
    columns = [cohort.column(finding) for finding in findings]
    present = cohort.truth[:, columns] == Truth.PRESENT
    twice = np.flatnonzero(present.sum(axis=1) > 1)
    if twice.size:
        first = int(twice[0])
        both = [f for f, has in zip(findings, present[first], strict=True) if has]
        raise Permanent(
            f"{cohort.origin}: {cohort.units[first]} is both {both[0]} and {both[1]}, "
            f"which exclude one another (so {twice.size} in all)"
        )


def _check_values(cohort: Cohort, samples: Samples, question: Question) -> None:
    for number, one in enumerate(question.values):
        if not (samples.study_value == number).any():
            raise Permanent(
                f"{cohort.origin} knows no study that is {one.finding}: "
                f"{question.key} cannot be fitted with it"
            )


def _agreed(
    value: NDArray[np.int8], study: NDArray[np.int32], studies: int
) -> NDArray[np.int8]:
    """Return the value that the items (N,) of each study have, (S,)."""
    known = value >= 0
    least = np.full(studies, np.iinfo(np.int8).max, dtype=np.int8)
    most = np.full(studies, NO_VALUE, dtype=np.int8)
    np.minimum.at(least, study[known], value[known])
    np.maximum.at(most, study[known], value[known])
    agreed: NDArray[np.int8] = np.where(
        most < 0, NO_VALUE, np.where(most == least, most, SEVERAL)
    )
    return agreed.astype(np.int8)
