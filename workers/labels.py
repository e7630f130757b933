"""Exclusive labels: the one of several that fits a study best.

Pure, numpy only. Labels are described by texts, as in MedImageInsight's zero-shot
classification (prompts of a label are averaged and made unit, and the softmax of
temperature times cosine is taken over the labels), or their head was fitted: a
multinomial logistic regression, or the votes of labelled images nearby, as in its
benchmarks. A share is no calibrated probability, unless a temperature was fitted, too:
Guo et al., ICML 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.neighbours import blocks, nearest

Shares = NDArray[np.float64]
"""(..., L) in [0, 1], of which each row adds up to 1."""

Logits = NDArray[np.float64]
"""(..., L), whose softmax are shares."""

_LEAST = 1e-12
"""The share of no vote at all, so that it has a logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelWeights:
    """Prompt ensembles (L, D) float32, each of length one, and the temperature."""

    texts: NDArray[np.float32]
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftmaxWeights:
    """A multinomial logistic regression: weight (L, D) and bias (L,) float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoteWeights:
    """References (N, D) float32 of length one, and which label (N,) int64 each has.

    Parameters
    ----------
    weights
        (L,) float64: of the references of each label.
    """

    embeddings: NDArray[np.float32]
    label: NDArray[np.int64]
    weights: NDArray[np.float64]
    k: int
    temperature: float


FittedLabels = SoftmaxWeights | VoteWeights
LabelHead = LabelWeights | FittedLabels


def label_weights(
    prompts: Sequence[NDArray[np.float32]], *, logit_scale: float
) -> LabelWeights:
    """Return the head of labels from their embedded prompts, (P, D) for each label."""
    return LabelWeights(
        texts=np.stack([ensemble(texts) for texts in prompts]),
        temperature=float(np.exp(logit_scale)),
    )


def ensemble(texts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean (D,) of embedded texts (P, D), made unit."""
    mean = texts.astype(np.float64).mean(axis=0)
    unit: NDArray[np.float32] = (mean / np.linalg.norm(mean)).astype(np.float32)
    return unit


def shares(
    head: LabelHead, vectors: NDArray[np.float32], *, temperature: float = 1.0
) -> tuple[Shares, Shares]:
    """Return the shares of the labels: of the study (L,), and of each frame (N, L).

    Parameters
    ----------
    temperature
        Calibrates the study's shares; those of frames stay raw.
    """
    each = terms(head, vectors)
    whole = logits_of(head, each.mean(axis=0))
    return shares_of(whole / temperature), shares_of(logits_of(head, each))


def terms(head: LabelHead, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what a study's frames (N, D) are averaged by, (N, L).

    Logits, so that the study's are those of the mean embedding, and one odd frame cannot
    decide. Of votes their shares: no vote at all would have a logit without bound.
    """
    precise = vectors.astype(np.float64)
    if isinstance(head, VoteWeights):
        return _votes(head, precise)
    if isinstance(head, SoftmaxWeights):
        return np.asarray(precise @ head.weight.T + head.bias)
    return np.asarray(head.temperature * (precise @ head.texts.astype(np.float64).T))


def logits_of(head: LabelHead, averaged: NDArray[np.float64]) -> Logits:
    """Return the logits of averaged terms (..., L)."""
    if isinstance(head, VoteWeights):
        return np.asarray(np.log(np.maximum(averaged, _LEAST)))
    return averaged


def shares_of(logits: Logits) -> Shares:
    """Return the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Shares = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _votes(head: VoteWeights, vectors: NDArray[np.float64]) -> Shares:
    """Return the shares of the labels among the k nearest references, weighted."""
    references = head.embeddings.astype(np.float64)
    has = np.eye(len(head.weights))
    parts = []
    for block in blocks(vectors):
        logits = head.temperature * (block @ references.T)
        near = nearest(logits, head.k)
        found = np.take_along_axis(logits, near, axis=1)
        label = head.label[near]
        powers = np.exp(found - found[:, :1]) * head.weights[label]
        votes = (powers[:, :, None] * has[label]).sum(axis=1)
        parts.append(votes / votes.sum(axis=1, keepdims=True))
    return np.concatenate(parts)
