"""Heads of exclusive labels: texts, multinomial logistic regression, votes of neighbours.

The numbers are read as those of a pack are (`workers.trained`), and the runtime's own
scorer computes (`workers.labels`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from workers.fitting.exclusive.samples import Training
from workers.fitting.linear import Scaled, span
from workers.fitting.samples import Floats
from workers.headspecs import LabelsHead, SoftmaxHead, VotesHead
from workers.labels import LabelHead, LabelWeights
from workers.trained import fitted_labels

Kind = Literal["zero-shot", "linear", "knn"]
Parameters = Mapping[str, Any]

_SHARED = "embeddings"
_NEVER = -50.0
"""The logit of a value that no item of a training fold has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A head of K values.

    Parameters
    ----------
    tensors, options
        As of `workers.fitting.fitted.Fitted`.
    texts
        Of a head of prompts, which has nothing else.
    """

    kind: Kind
    values: int
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    texts: LabelWeights | None = None

    def spec(self, *, file: str, key: str) -> LabelsHead | None:
        """Return it as a pack has it, whose numbers lie in `file`; None: of prompts."""
        if self.kind == "zero-shot":
            return None
        if self.kind == "linear":
            return SoftmaxHead(weights=file, key=key)
        return VotesHead(references=file, key=key, **self.options)

    def named(self, key: str) -> dict[str, NDArray[Any]]:
        """Return the tensors under the names that they have in a pack's file."""
        return {
            part if part == _SHARED else f"{key}.{part}": np.ascontiguousarray(values)
            for part, values in self.tensors.items()
        }

    def weights(self, dimension: int) -> LabelHead:
        """Return it as it is when a pack has been opened."""
        spec = self.spec(file="what was fitted", key="fitted")
        if spec is None:
            assert self.texts is not None  # noqa: S101 - made with them
            return self.texts
        return fitted_labels(spec, self.named("fitted"), dimension, self.values)


def fits(
    kind: Kind,
    training: Training,
    grid: Sequence[Parameters],
    texts: LabelWeights | None,
) -> Iterator[Head]:
    """Yield a head of one kind for each set of parameters."""
    if kind == "linear":
        yield from _regressions(training, grid)
    elif kind == "knn":
        for parameters in grid:
            yield _votes(training, parameters)
    else:
        yield Head(kind=kind, values=training.values, texts=texts)


def _regressions(training: Training, grid: Sequence[Parameters]) -> Iterator[Head]:
    """Yield a softmax for each penalty; the standardisation is folded into its numbers.

    Found in the span of the data, as `workers.fitting.linear` finds its own.
    """
    spans = {}
    for parameters in grid:
        scaling = parameters["scaling"]
        if scaling not in spans:
            scaled = Scaled.of(training.vectors, scaling)
            basis = span(scaled.rows)
            spans[scaling] = scaled, basis, scaled.rows @ basis
        scaled, basis, rows = spans[scaling]
        model = LogisticRegression(C=parameters["C"], tol=1e-6, max_iter=10_000)
        with threadpool_limits(1, user_api="openmp"):  # threads would wait, not work
            model.fit(rows, training.value, training.weights)
        coefficients, intercepts = _by_value(model, training.values)
        weight = coefficients @ basis.T / scaled.scale
        tensors = {
            "weight": weight.astype(np.float32),
            "bias": (intercepts - weight @ scaled.mean).astype(np.float32),
        }
        yield Head(kind="linear", values=training.values, tensors=tensors)


def _by_value(model: LogisticRegression, values: int) -> tuple[Floats, Floats]:
    """Return a row of coefficients (K, R) and an intercept (K,) for each value."""
    some, middle = model.coef_, model.intercept_
    if len(some) == 1:  # of two classes it has the difference alone
        some, middle = np.r_[-some, some] / 2, np.r_[-middle, middle] / 2
    coefficients = np.zeros((values, some.shape[1]))
    intercepts = np.full(values, _NEVER)
    coefficients[model.classes_], intercepts[model.classes_] = some, middle
    return coefficients, intercepts


def _votes(training: Training, parameters: Parameters) -> Head:
    counts = np.bincount(training.value, minlength=training.values)
    weights = np.ones(training.values)
    if parameters["classes"] == "balanced":
        weights = len(training.value) / (training.values * np.maximum(counts, 1))
    lengths = np.linalg.norm(training.vectors, axis=1, keepdims=True)
    return Head(
        kind="knn",
        values=training.values,
        tensors={
            _SHARED: (training.vectors / lengths).astype(np.float32),
            "labels": training.value,
        },
        options={
            "k": parameters["k"],
            "temperature": parameters["temperature"],
            "class_weights": tuple(weights.tolist()),
        },
    )
