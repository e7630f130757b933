"""The heads of a pack, and the score that one gives a frame.

Pure, numpy and scipy only: a text encoder comes in as a value. Heads that were fitted
are read with the pack (`workers.trained`); those of prompts are made here, of texts that
are embedded once. A score is raw: what makes a probability of it is not known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, logsumexp

from workers.calibration import logit, sigmoid
from workers.gate import Scope
from workers.headspecs import GateHead, MixtureHead, asks_prompts
from workers.labels import LabelHead, ensemble, label_weights
from workers.neighbours import blocks, nearest
from workers.pack import Pack
from workers.trained import (
    Fitted,
    KnnWeights,
    LinearWeights,
    MlpWeights,
    Numbers,
    SvmWeights,
)

Embeddings = NDArray[np.float32]
"""(N, D) float32, rows of length one."""

Vectors = NDArray[np.float32] | NDArray[np.float64]
"""The same, or their numbers in float64 already: where many heads score them."""

Scores = NDArray[np.float64]
"""(N,) in the head's own scale."""

NORM_EPS = 1e-5
"""Of torch's LayerNorm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZeroShotWeights:
    """Prompt ensembles (D,), each of length one, and the temperature between them."""

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixtureWeights:
    """A head of prompts, one that was fitted, and how much the prompts weigh."""

    text: ZeroShotWeights
    other: Fitted
    text_weight: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LikenessWeights:
    """The only scope of a gate, and the distance at which an image is outside."""

    scope: Scope
    limit: float


AnyHead = Fitted | ZeroShotWeights | MixtureWeights | LikenessWeights

Heads = Mapping[str, AnyHead]
"""By finding."""

Labels = Mapping[str, LabelHead]
"""By category."""

NO_LABELS: Labels = MappingProxyType({})


class TextEncoder(Protocol):
    """What zero-shot heads are made with."""

    @property
    def logit_scale(self) -> float:
        """Return the logarithm of the temperature between images and texts."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (N, D) float32 of length one."""
        ...


def heads_of(pack: Pack, encoder: TextEncoder) -> Heads:
    """Return the head of each finding; prompts are embedded where one needs them."""
    prompted = [spec for spec in pack.findings if asks_prompts(spec.head)]
    sides = {spec.key: spec.prompts for spec in prompted if spec.prompts is not None}
    row = _embedded(
        [text for side in sides.values() for text in (*side.positive, *side.negative)],
        encoder,
    )
    heads: dict[str, AnyHead] = {**pack.heads, **_likeness(pack)}
    for spec in prompted:
        side = sides[spec.key]
        text = zero_shot(
            np.stack([row[text] for text in side.positive]),
            np.stack([row[text] for text in side.negative]),
            logit_scale=encoder.logit_scale,
        )
        if isinstance(spec.head, MixtureHead):
            heads[spec.key] = MixtureWeights(
                text=text,
                other=pack.heads[spec.key],
                text_weight=spec.head.text_weight,
            )
        else:
            heads[spec.key] = text
    return heads


def _likeness(pack: Pack) -> dict[str, LikenessWeights]:
    """Return the heads that ask the gate; `open_pack` saw that it has one scope."""
    return {
        spec.key: LikenessWeights(scope=pack.gate.scopes[0], limit=pack.gate.limit)
        for spec in pack.findings
        if isinstance(spec.head, GateHead) and pack.gate is not None
    }


def labels_of(pack: Pack, encoder: TextEncoder) -> Labels:
    """Return the head of each category: fitted, or made from the prompts of its labels."""
    prompted = [one for one in pack.manifest.categories if one.head is None]
    labels = [label for category in prompted for label in category.labels]
    row = _embedded([text for label in labels for text in label.prompts], encoder)
    of_texts = {
        category.key: label_weights(
            [np.stack([row[t] for t in label.prompts]) for label in category.labels],
            logit_scale=encoder.logit_scale,
        )
        for category in prompted
    }
    return {**pack.labels, **of_texts}


def zero_shot(
    positive: Embeddings, negative: Embeddings, *, logit_scale: float
) -> ZeroShotWeights:
    """Return the head of two sets of prompts, each (P, D), averaged and made unit."""
    return ZeroShotWeights(
        positive=ensemble(positive),
        negative=ensemble(negative),
        temperature=float(np.exp(logit_scale)),
    )


def score_frames(head: AnyHead, vectors: Vectors) -> Scores:
    """Return the score of each frame (N,), in [0, 1]: raw, not calibrated.

    Parameters
    ----------
    vectors
        (N, D) of length one.
    """
    if isinstance(head, LikenessWeights):
        distance = head.scope.distances(vectors.astype(np.float32, copy=False))
        return np.asarray(head.limit / (head.limit + distance))
    if isinstance(head, KnnWeights):
        return _share_of_neighbours(head, vectors)
    if isinstance(head, MixtureWeights):
        text = score_frames(head.text, vectors)
        other = score_frames(head.other, vectors)
        return (head.text_weight * text + other) / (head.text_weight + 1.0)
    return sigmoid(frame_logits(head, vectors))


def frame_logits(head: AnyHead, vectors: Vectors) -> Scores:
    """Return the logit of the score of each frame (N,)."""
    precise = vectors.astype(np.float64, copy=False)
    if isinstance(head, LinearWeights):
        logits: Scores = precise @ head.weight + head.bias
        return logits
    if isinstance(head, ZeroShotWeights):
        # the softmax of two logits is the sigmoid of their difference
        contrast = head.positive.astype(np.float64) - head.negative
        return head.temperature * (precise @ contrast)
    if isinstance(head, MlpWeights):
        return _against_others(mlp_outputs(head, precise), head.index)
    if isinstance(head, SvmWeights):
        return _decision(head, precise)
    return logit(score_frames(head, vectors))


def mlp_outputs(head: MlpWeights, vectors: Numbers) -> Numbers:
    """Return the outputs (N, C) of the adapter, as torch computes them in double."""
    x = _gelu(head.reduce(vectors))
    x = head.project(x)
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPS)
    x = centred / spread * head.scale + head.shift
    x = _gelu(head.conv1(x))
    return head.output(head.conv2(x))


def _against_others(outputs: Numbers, index: int) -> Scores:
    """Return the logit of one output's share in the softmax; of an only one, itself."""
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    others = np.delete(outputs, index, axis=1)
    return np.asarray(outputs[:, index] - logsumexp(others, axis=1))


def _decision(head: SvmWeights, vectors: Numbers) -> Scores:
    """Return the decision function of the support vector machine."""
    lengths = (head.support**2).sum(axis=1)
    parts = []
    for block in blocks(vectors):
        x = (block - head.mean) / head.scale
        squares = (x**2).sum(axis=1)[:, None] + lengths - 2.0 * (x @ head.support.T)
        kernel = np.exp(-head.gamma * np.maximum(squares, 0.0))
        parts.append(kernel @ head.dual + head.intercept)
    return np.concatenate(parts)


def _share_of_neighbours(head: KnnWeights, vectors: Vectors) -> Scores:
    """Return which share of the weight of the k nearest has the finding.

    The softmax over all references has one denominator for each frame; it cancels when
    the sums of the classes are made to add up to one.
    """
    absent, present = head.class_weights
    weights = np.where(head.present, present, absent)
    references = head.embeddings.astype(np.float64)
    parts = []
    for block in blocks(vectors.astype(np.float64, copy=False)):
        logits = head.temperature * (block @ references.T)
        near = nearest(logits, head.k)
        found = np.take_along_axis(logits, near, axis=1)
        powers = np.exp(found - found[:, :1]) * weights[near]
        parts.append((powers * head.present[near]).sum(axis=1) / powers.sum(axis=1))
    return np.concatenate(parts)


def _gelu(x: Numbers) -> Numbers:
    return np.asarray(0.5 * x * (1.0 + erf(x / np.sqrt(2.0))))


def _embedded(
    texts: Sequence[str], encoder: TextEncoder
) -> Mapping[str, NDArray[np.float32]]:
    """Return the embedding (D,) of each text, computed once however often it is there."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    return dict(zip(distinct, encoder.embed_texts(distinct), strict=True))
