"""The heads of a pack, and the score that one gives a frame.

Pure, numpy only: a text encoder comes in as a value. Linear heads are read with the
pack; those of prompts are made here, of texts that are embedded once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.headspecs import ZeroShotHead
from workers.labels import LabelWeights, ensemble, label_weights
from workers.pack import LinearWeights, Pack

Embeddings = NDArray[np.float32]
"""(N, D) float32, rows of length one."""

Scores = NDArray[np.float64]
"""(N,) in the head's own scale."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZeroShotWeights:
    """Prompt ensembles (D,), each of length one, and the temperature between them."""

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    temperature: float


Heads = Mapping[str, LinearWeights | ZeroShotWeights]
"""By finding."""

Labels = Mapping[str, LabelWeights]
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
    """Return the head of each finding; prompts are embedded for zero-shot ones."""
    sides = {
        spec.key: spec.prompts
        for spec in pack.findings
        if isinstance(spec.head, ZeroShotHead) and spec.prompts is not None
    }
    row = _embedded(
        [text for side in sides.values() for text in (*side.positive, *side.negative)],
        encoder,
    )
    return dict(pack.heads) | {
        key: zero_shot(
            np.stack([row[text] for text in side.positive]),
            np.stack([row[text] for text in side.negative]),
            logit_scale=encoder.logit_scale,
        )
        for key, side in sides.items()
    }


def labels_of(pack: Pack, encoder: TextEncoder) -> Labels:
    """Return the head of each category, made from the prompts of its labels."""
    categories = pack.manifest.categories
    labels = [label for category in categories for label in category.labels]
    row = _embedded([text for label in labels for text in label.prompts], encoder)
    return {
        category.key: label_weights(
            [np.stack([row[t] for t in label.prompts]) for label in category.labels],
            logit_scale=encoder.logit_scale,
        )
        for category in categories
    }


def zero_shot(
    positive: Embeddings, negative: Embeddings, *, logit_scale: float
) -> ZeroShotWeights:
    """Return the head of two sets of prompts, each (P, D), averaged and made unit."""
    return ZeroShotWeights(
        positive=ensemble(positive),
        negative=ensemble(negative),
        temperature=float(np.exp(logit_scale)),
    )


def score_frames(head: LinearWeights | ZeroShotWeights, vectors: Embeddings) -> Scores:
    """Return the score of each frame (N,), in [0, 1]: raw, not calibrated."""
    return _sigmoid(frame_logits(head, vectors))


def frame_logits(head: LinearWeights | ZeroShotWeights, vectors: Embeddings) -> Scores:
    """Return the logit of the score of each frame (N,)."""
    precise = vectors.astype(np.float64)
    if isinstance(head, LinearWeights):
        logits: Scores = precise @ head.weight + head.bias
        return logits
    # the softmax of two logits is the sigmoid of their difference
    contrast = head.positive.astype(np.float64) - head.negative
    return head.temperature * (precise @ contrast)


def _embedded(
    texts: Sequence[str], encoder: TextEncoder
) -> Mapping[str, NDArray[np.float32]]:
    """Return the embedding (D,) of each text, computed once however often it is there."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    return dict(zip(distinct, encoder.embed_texts(distinct), strict=True))


def _sigmoid(logits: Scores) -> Scores:
    """Return 1 / (1 + exp(-x)), without overflow for any x."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
