"""How a finding is scored: the heads that a pack may name, and where their numbers lie.

Each head turns the embedding (D,) of a frame into a score in [0, 1]; those of categories
into a share for each label. Its numbers are
tensors of a safetensors file of the pack, float32 or float64, whose names begin with
the head's ``key``; ``D`` is the dimension of the encoder. What fits heads writes these
files, `workers.trained` reads them, `workers.heads` computes. Parts of ``pack.json``.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """sigmoid(w.x + b): tensors ``<key>.weight`` (D,) and ``<key>.bias`` (1,)."""

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["linear"] = "linear"
    weights: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotHead:
    """The finding's prompts against each other, at the encoder's temperature."""

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["zero-shot"] = "zero-shot"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHead:
    """How like the validated images an image is: limit / (limit + distance).

    Of the pack's gate, which has one scope. The score is 1 for an image like all others
    and 0.5 at the gate's limit.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["gate"] = "gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpHead:
    """The adapter of MedImageInsight's examples, on one embedding.

    Linear, GELU (erf), Linear, LayerNorm (eps 1e-5), Conv1d, GELU, Conv1d, Linear. The
    convolutions have three taps and see a sequence of length one, padded by one: only
    their centre taps act. Tensors, as torch lays them out:

    ============================== =================================================
    ``<key>.reduce.weight, bias``  (A, D), (A,): the first Linear
    ``<key>.project.weight, bias`` (B, A), (B,): the second Linear
    ``<key>.norm.weight, bias``    (B,), (B,): the LayerNorm
    ``<key>.conv1.weight, bias``   (H, B, 3) or, centre taps alone, (H, B); (H,)
    ``<key>.conv2.weight, bias``   (H, H, 3) or (H, H); (H,)
    ``<key>.output.weight, bias``  (C, H), (C,): the last Linear
    ============================== =================================================

    Parameters
    ----------
    output
        Which of the C outputs is the finding. With C = 1 the score is the sigmoid of
        the only one; with more, its share in the softmax of all: exclusive classes.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["mlp"] = "mlp"
    weights: str
    key: str
    output: int = 0

    def __post_init__(self) -> None:
        if self.output < 0:
            raise ValueError("the output of an MLP is counted from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SvmHead:
    """A support vector machine with a radial basis function, as scikit-learn's SVC.

    The sigmoid of its decision function: the sum of dual * exp(-gamma |x - support|^2)
    over the support vectors, plus intercept. Tensors ``<key>.support`` (S, D),
    ``<key>.dual`` (S,), ``<key>.intercept`` (1,), ``<key>.gamma`` (1,); and
    ``<key>.mean``, ``<key>.scale`` (D,) where x is standardised before: both or none.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["svm"] = "svm"
    weights: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnHead:
    """Labelled images nearby, weighted as in MedImageInsight's benchmarks.

    Softmax of temperature times cosine over all references with a label, of these the
    `k` largest, summed by class, each sum times the weight of its class, and made to
    add up to one: the score is the share of the references that have the finding.

    Parameters
    ----------
    references
        A safetensors file of the pack: ``embeddings`` (N, D) float32 of length one,
        and ``<key>.labels`` (N,) int8: 1 has the finding, 0 has it not; any other
        number (uncertain, missing) leaves the reference out.
    class_weights
        Of the references without the finding, and of those with it.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["knn"] = "knn"
    references: str
    key: str
    k: int = 10
    temperature: float = 100.0
    class_weights: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.temperature < math.inf:
            raise ValueError("neighbours need k and temperature above 0")
        if not all(0 < weight < math.inf for weight in self.class_weights):
            raise ValueError("the weights of classes are above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureHead:
    """(text_weight * zero-shot score + the other's) / (text_weight + 1).

    Parameters
    ----------
    parts
        The prompts of the finding, and a head that was fitted.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["mixture"] = "mixture"
    text_weight: float
    parts: tuple[ZeroShotHead, KnnHead | LinearHead | MlpHead | SvmHead]

    def __post_init__(self) -> None:
        if not 0 < self.text_weight < math.inf:
            raise ValueError("the weight of the text is above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxHead:
    """Labels that exclude one another: softmax(W.x + b), multinomial logistic regression.

    Tensors ``<key>.weight`` (L, D) and ``<key>.bias`` (L,), in the order of the labels.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["softmax"] = "softmax"
    weights: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VotesHead:
    """Labels that exclude one another, by the votes of labelled images nearby.

    As `KnnHead`, with a class for each label.

    Parameters
    ----------
    references
        A safetensors file of the pack: ``embeddings`` (N, D) float32 of length one,
        and ``<key>.labels`` (N,): the number of each one's label, from 0; another
        number leaves the reference out.
    class_weights
        Of the references of each label, in the order of the labels.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["votes"] = "votes"
    references: str
    key: str
    k: int = 10
    temperature: float = 100.0
    class_weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.temperature < math.inf:
            raise ValueError("votes need k and temperature above 0")
        if not all(0 < weight < math.inf for weight in self.class_weights):
            raise ValueError("the weights of labels are above 0")


LabelsHead = SoftmaxHead | VotesHead
"""A head of labels that exclude one another, whose numbers lie in a file of the pack."""

FittedHead = LinearHead | MlpHead | SvmHead | KnnHead
"""A head whose numbers lie in a file of the pack."""

Head = FittedHead | GateHead | ZeroShotHead | MixtureHead


def fitted_part(head: Head) -> FittedHead | None:
    """Return the head, or the part of it, that was fitted; None where none was."""
    if isinstance(head, ZeroShotHead | GateHead):
        return None
    return head.parts[1] if isinstance(head, MixtureHead) else head


def file_of(head: Head) -> str | None:
    """Return the file of the pack in which its numbers lie; None where there is none."""
    fitted = fitted_part(head)
    return None if fitted is None else file_of_fitted(fitted)


def file_of_fitted(head: FittedHead | LabelsHead) -> str:
    """Return the file of the pack in which the numbers of a fitted head lie."""
    return head.references if isinstance(head, KnnHead | VotesHead) else head.weights


def asks_prompts(head: Head) -> bool:
    """Return whether it needs the finding's prompts."""
    return isinstance(head, (ZeroShotHead, MixtureHead))
