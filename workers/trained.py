"""The numbers of heads that were fitted, read from the pack's files and checked.

How the tensors are called, and their shapes, stands in `workers.headspecs`. A file that
does not hold what its head needs is refused in one sentence; `workers.heads` computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dicom_node.errors import Permanent
from workers.headspecs import (
    FittedHead,
    KnnHead,
    LabelsHead,
    LinearHead,
    MlpHead,
    SoftmaxHead,
    SvmHead,
    VotesHead,
    file_of_fitted,
)
from workers.labels import FittedLabels, SoftmaxWeights, VoteWeights

Numbers = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]

_LENGTH_TOLERANCE = 1e-3
_TAPS = 3
_CHOICE = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearWeights:
    """A linear head: weight (D,) float32 and bias, in the encoder's space."""

    weight: NDArray[np.float32]
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense:
    """A layer: weight (out, in) and bias (out,)."""

    weight: Numbers
    bias: Numbers

    def __call__(self, x: Numbers) -> Numbers:
        """Return (N, out) of (N, in)."""
        return x @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MlpWeights:
    """An adapter: its layers, LayerNorm's scale and shift (B,), and which output counts."""

    reduce: Dense
    project: Dense
    scale: Numbers
    shift: Numbers
    conv1: Dense
    conv2: Dense
    output: Dense
    index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SvmWeights:
    """Support vectors (S, D) with their dual coefficients (S,), and the kernel's gamma.

    Parameters
    ----------
    mean, scale
        (D,): x is (x - mean) / scale.
    """

    support: Numbers
    dual: Numbers
    intercept: float
    gamma: float
    mean: Numbers
    scale: Numbers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnnWeights:
    """References (N, D) float32 of length one, and which of them (N,) have the finding."""

    embeddings: NDArray[np.float32]
    present: NDArray[np.bool_]
    k: int
    temperature: float
    class_weights: tuple[float, float]


Fitted = LinearWeights | MlpWeights | SvmWeights | KnnWeights


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    Permanent
        If it is none.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise Permanent(f"{path} is not a safetensors file: {error}") from error


def fitted(head: FittedHead, tensors: Tensors, dimension: int) -> Fitted:
    """Return the numbers of a head.

    Parameters
    ----------
    tensors
        Of the file that it names.
    dimension
        Of the encoder's embeddings.

    Raises
    ------
    Permanent
        If they are not there, of another shape, or not finite.
    """
    try:
        if isinstance(head, LinearHead):
            return _linear(head, tensors, dimension)
        if isinstance(head, MlpHead):
            return _mlp(head, tensors, dimension)
        if isinstance(head, SvmHead):
            return _svm(head, tensors, dimension)
        return _knn(head, tensors, dimension)
    except (KeyError, ValueError) as error:
        raise _not_held(head, error) from error


def fitted_labels(
    head: LabelsHead, tensors: Tensors, dimension: int, labels: int
) -> FittedLabels:
    """Return the numbers of the head of a category with so many labels.

    Raises
    ------
    Permanent
        If they are not there, of another shape, or not finite.
    """
    try:
        if isinstance(head, SoftmaxHead):
            return SoftmaxWeights(
                weight=_tensor(tensors, f"{head.key}.weight", (labels, dimension)),
                bias=_tensor(tensors, f"{head.key}.bias", (labels,)),
            )
        return _votes(head, tensors, dimension, labels)
    except (KeyError, ValueError) as error:
        raise _not_held(head, error) from error


def _not_held(head: FittedHead | LabelsHead, error: Exception) -> Permanent:
    file = file_of_fitted(head)
    missing = isinstance(error, KeyError)
    why = f"there is no {error.args[0]}" if missing else str(error)
    return Permanent(f"{file} does not hold a {head.kind} head {head.key!r}: {why}")


def _linear(head: LinearHead, tensors: Tensors, dimension: int) -> LinearWeights:
    weight = _tensor(tensors, f"{head.key}.weight").ravel()
    bias = _tensor(tensors, f"{head.key}.bias")
    if weight.shape != (dimension,) or bias.size != 1:
        raise ValueError(f"needs {dimension} finite weights, and a bias")
    return LinearWeights(weight=weight.astype(np.float32), bias=float(bias.item()))


def _mlp(head: MlpHead, tensors: Tensors, dimension: int) -> MlpWeights:
    def layer(name: str, inputs: int) -> Dense:
        weight = _tensor(tensors, f"{head.key}.{name}.weight")
        if weight.ndim == 3 and weight.shape[2] == _TAPS:  # noqa: PLR2004 - (out, in, tap)
            weight = weight[:, :, 1]
        bias = _tensor(tensors, f"{head.key}.{name}.bias")
        if weight.shape != (len(bias), inputs) or bias.ndim != 1:
            raise ValueError(f"{name} does not take {inputs} numbers")
        return Dense(weight=weight, bias=bias)

    reduced = layer("reduce", dimension)
    projected = layer("project", len(reduced.bias))
    conv1 = layer("conv1", len(projected.bias))
    conv2 = layer("conv2", len(conv1.bias))
    output = layer("output", len(conv2.bias))
    if head.output >= len(output.bias):
        raise ValueError(f"it has no output {head.output}")
    return MlpWeights(
        reduce=reduced,
        project=projected,
        scale=_tensor(tensors, f"{head.key}.norm.weight", projected.bias.shape),
        shift=_tensor(tensors, f"{head.key}.norm.bias", projected.bias.shape),
        conv1=conv1,
        conv2=conv2,
        output=output,
        index=head.output,
    )


def _svm(head: SvmHead, tensors: Tensors, dimension: int) -> SvmWeights:
    support = _tensor(tensors, f"{head.key}.support")
    if support.shape[1:] != (dimension,) or not len(support):
        raise ValueError(f"its support vectors have not {dimension} numbers")
    gamma = float(_tensor(tensors, f"{head.key}.gamma").item())
    names = [f"{head.key}.mean", f"{head.key}.scale"]
    mean, scale = np.zeros(dimension), np.ones(dimension)
    if any(name in tensors for name in names):
        mean, scale = (_tensor(tensors, name, (dimension,)) for name in names)
    if gamma <= 0 or (scale <= 0).any():
        raise ValueError("gamma and scale are above 0")
    return SvmWeights(
        support=support,
        dual=_tensor(tensors, f"{head.key}.dual", (len(support),)),
        intercept=float(_tensor(tensors, f"{head.key}.intercept").item()),
        gamma=gamma,
        mean=mean,
        scale=scale,
    )


def _knn(head: KnnHead, tensors: Tensors, dimension: int) -> KnnWeights:
    labels, embeddings = _references(tensors, head.key, dimension)
    known = (labels == 0) | (labels == 1)
    if not (labels == 0).any() or not (labels == 1).any():
        raise ValueError("its references are not of both classes")
    return KnnWeights(
        embeddings=embeddings[known].astype(np.float32),
        present=labels[known] == 1,
        k=head.k,
        temperature=head.temperature,
        class_weights=head.class_weights,
    )


def _votes(
    head: VotesHead, tensors: Tensors, dimension: int, count: int
) -> VoteWeights:
    labels, embeddings = _references(tensors, head.key, dimension)
    known = np.isin(labels, np.arange(count))
    if len(np.unique(labels[known])) < _CHOICE:
        raise ValueError("its references are not of two labels or more")
    return VoteWeights(
        embeddings=embeddings[known].astype(np.float32),
        label=labels[known].astype(np.int64),
        weights=np.array(head.class_weights),
        k=head.k,
        temperature=head.temperature,
    )


def _references(tensors: Tensors, key: str, dimension: int) -> tuple[Numbers, Numbers]:
    """Return the labels (N,) of references, and their embeddings (N, D)."""
    labels = _tensor(tensors, f"{key}.labels")
    embeddings = _tensor(tensors, "embeddings", (len(labels), dimension))
    lengths = np.linalg.norm(embeddings, axis=1)
    if not np.allclose(lengths, 1.0, atol=_LENGTH_TOLERANCE):
        raise ValueError("an embedding does not have length one")
    return labels, embeddings


def _tensor(
    tensors: Tensors, name: str, shape: tuple[int, ...] | None = None
) -> Numbers:
    """Return a finite tensor of that shape, where one is asked for."""
    found: Numbers = tensors[name].astype(np.float64)
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name} has the shape {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} is not finite")
    return found
