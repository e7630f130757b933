"""Labelled images nearby, by themselves or mixed with the finding's prompts.

The protocol is that of MedImageInsight's benchmarks: softmax of temperature times cosine
over all references, the k largest, summed by class. Nothing is fitted; the number of
neighbours, the temperature and the text's weight are chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from workers.fitting.fitted import Fitted
from workers.fitting.samples import Training
from workers.heads import ZeroShotWeights

GRID = tuple(
    {"k": k, "temperature": temperature, "classes": classes}
    for k in (5, 10, 30, 100)
    for temperature in (10.0, 100.0)
    for classes in ("equal", "balanced")
)
MIXTURES = tuple(
    {"text_weight": weight, "k": k, "temperature": 100.0, "classes": "balanced"}
    for weight in (0.25, 0.5, 1.0, 2.0, 4.0)
    for k in (10, 30, 100)
)


def fits(training: Training, grid: Sequence[Mapping[str, Any]]) -> Iterator[Fitted]:
    """Yield neighbours for each set of parameters."""
    for parameters in grid:
        yield _neighbours(training, parameters)


def mixtures(
    training: Training, grid: Sequence[Mapping[str, Any]], prompts: ZeroShotWeights
) -> Iterator[Fitted]:
    """Yield neighbours and text together for each set of parameters."""
    for parameters in grid:
        nearby = _neighbours(training, parameters)
        options = {**nearby.options, "text_weight": parameters["text_weight"]}
        yield Fitted(
            kind="mixture", tensors=nearby.tensors, options=options, prompts=prompts
        )


def _neighbours(training: Training, parameters: Mapping[str, Any]) -> Fitted:
    share = float(training.present.mean())
    balanced = parameters["classes"] == "balanced"
    weights = (0.5 / (1 - share), 0.5 / share) if balanced else (1.0, 1.0)
    # of volumes they need not be: a mean of slices is shorter than one
    lengths = np.linalg.norm(training.vectors, axis=1, keepdims=True)
    return Fitted(
        kind="knn",
        tensors={
            "embeddings": (training.vectors / lengths).astype(np.float32),
            "labels": training.present.astype(np.int8),
        },
        options={
            "k": parameters["k"],
            "temperature": parameters["temperature"],
            "class_weights": weights,
        },
    )
