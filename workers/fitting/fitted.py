"""A head that was fitted: its numbers as a pack keeps them, and the scores it gives.

The layout of the tensors is that of `workers.headspecs`. Scores lie in [0, 1] and are
those that the pack will give.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from workers.calibration import sigmoid
from workers.heads import ZeroShotWeights, score_frames

Kind = Literal["linear", "mlp", "svm", "knn", "zero-shot", "mixture"]
Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]

_BLOCK = 2048
"""Items that are compared with all references at once."""
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A head.

    Parameters
    ----------
    tensors
        By the part of their names after the head's key. Of neighbours, ``embeddings``
        has no key: heads share it.
    options
        Of its spec: k, temperature, class weights; the text's weight of a mixture,
        whose other numbers are those of its neighbours.
    prompts
        Of a zero-shot head and a mixture.
    """

    kind: Kind
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: ZeroShotWeights | None = None

    def scores(self, vectors: Vectors) -> Scores:
        """Return the score of each item (N,), in [0, 1]."""
        return _SCORES[self.kind](self, vectors.astype(np.float64))


def _linear(head: Fitted, rows: Scores) -> Scores:
    return sigmoid(rows @ head.tensors["weight"] + head.tensors["bias"])


def _svm(head: Fitted, rows: Scores) -> Scores:
    support, gamma = head.tensors["support"], float(head.tensors["gamma"][0])
    scaled = (rows - head.tensors["mean"]) / head.tensors["scale"]
    squares = (scaled**2).sum(axis=1)[:, None] + (support**2).sum(axis=1)
    distances = np.maximum(squares - 2 * scaled @ support.T, 0.0)
    kernel = np.exp(-gamma * distances)
    return sigmoid(kernel @ head.tensors["dual"] + head.tensors["intercept"])


def _knn(head: Fitted, rows: Scores) -> Scores:
    """Return the weighted share of neighbours with the finding.

    The softmax's sum cancels in the shares, so the largest cosine may be taken off.
    """
    references = head.tensors["embeddings"].astype(np.float64)
    present = head.tensors["labels"] == 1
    weight = np.array(head.options["class_weights"])[present.astype(int)]
    k = min(int(head.options["k"]), len(references))
    found = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        cosines = rows[start : start + _BLOCK] @ references.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        close = np.take_along_axis(cosines, nearest, axis=1)
        powers = np.exp(head.options["temperature"] * (close - close.max(1)[:, None]))
        powers *= weight[nearest]
        found[start : start + _BLOCK] = (powers * present[nearest]).sum(1) / powers.sum(
            1
        )
    return found


def _mlp(head: Fitted, rows: Scores) -> Scores:
    """Return the adapter's score; see `workers.fitting.adapter`."""
    hidden = _gelu(_layer(head, "reduce", rows))
    hidden = _layer(head, "project", hidden)
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    spread = np.sqrt(centred.var(axis=1, keepdims=True) + _EPSILON)
    hidden = centred / spread * head.tensors["norm.weight"] + head.tensors["norm.bias"]
    hidden = _layer(head, "conv2", _gelu(_layer(head, "conv1", hidden)))
    return sigmoid(_layer(head, "output", hidden)[:, 0])


def _layer(head: Fitted, name: str, rows: Scores) -> Scores:
    weight = head.tensors[f"{name}.weight"].astype(np.float64)
    out: Scores = rows @ weight.T + head.tensors[f"{name}.bias"]
    return out


def _gelu(x: Scores) -> Scores:
    out: Scores = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    return out


def _zero_shot(head: Fitted, rows: Scores) -> Scores:
    assert head.prompts is not None  # noqa: S101 - made with them
    return score_frames(head.prompts, rows.astype(np.float32))


def _mixture(head: Fitted, rows: Scores) -> Scores:
    weight = float(head.options["text_weight"])
    return (weight * _zero_shot(head, rows) + _knn(head, rows)) / (weight + 1)


_SCORES = {
    "linear": _linear,
    "svm": _svm,
    "knn": _knn,
    "mlp": _mlp,
    "zero-shot": _zero_shot,
    "mixture": _mixture,
}
