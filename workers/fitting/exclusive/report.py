"""What is said of a fit of exclusive labels: figures of studies that no head had seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from dicom_node.errors import Permanent
from workers.fitting.exclusive.calibrating import cross_entropy
from workers.fitting.exclusive.nested import Choice, Outcome
from workers.fitting.exclusive.samples import NO_VALUE, SEVERAL, Samples
from workers.fitting.samples import Mask
from workers.measures import (
    Area,
    Estimate,
    Proportion,
    Undefined,
    balanced_accuracy,
    clustered_auc,
    clustered_proportion,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfValue:
    """One value: how many studies have it, how many of them are told, its area.

    Parameters
    ----------
    area
        Under the ROC curve of its share, against all other values.
    """

    name: str
    studies: int
    recall: Proportion
    area: Area


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryFit:
    """A category: what was made, and its figures.

    Parameters
    ----------
    kind
        ``out-of-fold``, or ``test`` where the labels assign roles.
    without, several
        Studies without a value, and with several: neither is judged.
    choice, choices
        What the pack has, and what each outer fold had.
    values
        In the order of the category.
    confusion
        Studies of each value (rows) for which each was chosen (columns).
    loss
        Cross-entropy of what was said.
    """

    category: str
    kind: str
    studies: int
    patients: int
    without: int
    several: int
    choice: Choice
    choices: tuple[Choice, ...]
    accuracy: Proportion
    balanced: Estimate
    loss: float
    values: tuple[OfValue, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def calibrated(self) -> bool:
        """Return whether the shares are probabilities."""
        return self.choice.calibration.temperature is not None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "category": self.category,
            "kind": self.kind,
            "studies": self.studies,
            "patients": self.patients,
            "without_value": self.without,
            "with_several": self.several,
            "head": _chosen(self.choice),
            "heads_of_folds": [_chosen(choice) for choice in self.choices],
            "accuracy": _interval(self.accuracy),
            "balanced_accuracy": _interval(self.balanced),
            "cross_entropy": self.loss,
            "values": [
                {
                    "value": one.name,
                    "studies": one.studies,
                    "recall": _interval(one.recall),
                    "auc": _interval(one.area),
                }
                for one in self.values
            ],
            "confusion": [list(row) for row in self.confusion],
        }


def judged(
    category: str, samples: Samples, outcome: Outcome, *, kind: str
) -> CategoryFit:
    """Return the figures of the studies that were scored without having been seen.

    Raises
    ------
    Permanent
        If a value has no study among them.
    """
    scored: Mask = samples.known & np.isfinite(outcome.shares).all(axis=1)
    shares, value = outcome.shares[scored], samples.study_value[scored]
    patient = samples.study_patient[scored]
    hits = shares.argmax(axis=1) == value
    values = []
    for number, name in enumerate(samples.names):
        has = value == number
        try:
            area = clustered_auc(shares[:, number], has, patient)
        except Undefined as error:
            raise Permanent(
                f"{category} cannot be judged: of {name}, {error}"
            ) from error
        recall = clustered_proportion(hits[has], patient[has])
        values.append(
            OfValue(name=name, studies=int(has.sum()), recall=recall, area=area)
        )
    numbers = np.arange(len(samples.names))
    table = confusion_matrix(value, shares.argmax(axis=1), labels=numbers)
    return CategoryFit(
        category=category,
        kind=kind,
        studies=len(value),
        patients=len(np.unique(patient)),
        without=int((samples.study_value == NO_VALUE).sum()),
        several=int((samples.study_value == SEVERAL).sum()),
        choice=outcome.choice,
        choices=outcome.choices,
        accuracy=clustered_proportion(hits, patient),
        balanced=balanced_accuracy(hits, value, patient),
        loss=cross_entropy(shares, value),
        values=tuple(values),
        confusion=tuple(tuple(row) for row in table.tolist()),
    )


def _chosen(choice: Choice) -> Mapping[str, Any]:
    return {
        "kind": choice.kind,
        **choice.parameters,
        "temperature_of_calibration": choice.calibration.temperature,
    }


def _interval(found: Area | Estimate | Proportion) -> list[float]:
    return [found.value, found.low, found.high]
