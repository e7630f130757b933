"""Exclusive labels: the one of several descriptions that fits a study best.

Pure, numpy only. The pattern is MedImageInsight's zero-shot classification: prompts of a
label are averaged and made unit, and the softmax of temperature times cosine is taken
over the labels. That is a share of the score, and no calibrated probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]
"""(..., L) in [0, 1], of which each row adds up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelWeights:
    """Prompt ensembles (L, D) float32, each of length one, and the temperature."""

    texts: NDArray[np.float32]
    temperature: float


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


def shares(head: LabelWeights, vectors: NDArray[np.float32]) -> tuple[Shares, Shares]:
    """Return the shares of the labels: of the study (L,), and of each frame (N, L).

    The study's logits are the mean of those of its frames (N, D): what the mean of the
    embeddings would give, so that one odd frame cannot decide.
    """
    texts = head.texts.astype(np.float64)
    logits = head.temperature * (vectors.astype(np.float64) @ texts.T)  # (N, L)
    return _softmax(logits.mean(axis=0)), _softmax(logits)


def _softmax(logits: NDArray[np.float64]) -> Shares:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Shares = powers / powers.sum(axis=-1, keepdims=True)
    return result
