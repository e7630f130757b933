"""Batches to learn from: altered radiographs, and texts that are true of them.

Each batch is paired once for every topic. Two images belong together in a topic where
the same value is true of both. An image that was turned or inverted says nothing of its
patient: it is left out of those topics.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.chest.altering import Altered, Ranges, altered
from workers.chest.radiographs import Radiographs
from workers.chest.texts import AGES_FROM, TOPICS, text
from workers.medimageinsight.training import Batch, Pairing, Rephrasing

WEIGHTS: Final[Mapping[str, float]] = {
    "sex": 1.0,
    "view": 0.5,
    "pneumonia": 0.3,
    "age": 0.3,
    "turn": 0.2,
    "sides": 0.3,
    "grey": 0.1,
}
"""Of each topic's loss."""

_LEFT_OUT: Final = -1
_WORDINGS: Final = 2  # of one value in one batch

Values = NDArray[np.int64]
"""(B,) value of a topic for each image; -1 where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How batches are made.

    Parameters
    ----------
    size
        Of the images that are learned from, pixels.
    count
        Images in a batch.
    mixed
        How often a batch is blended with itself in another order (Zhang et al., mixup,
        ICLR 2018): each image then goes with the texts of both, by their shares.
    blend
        Both parameters of the beta distribution of a share.
    """

    size: int
    count: int
    ranges: Ranges
    mixed: float = 0.0
    blend: float = 0.4


def lessons(
    data: Radiographs, rows: NDArray[np.int64], lesson: Lesson, *, seed: int
) -> Iterator[Batch]:
    """Yield batches of the images in `rows`, for ever.

    Every image comes once before any comes a second time.
    """
    rng = np.random.default_rng(seed)
    said = _patient_topics(data)
    count = lesson.count
    while True:
        order = rng.permutation(rows)
        for at in range(0, len(order) - count + 1, count):
            chosen = order[at : at + count]
            shown = altered(data.images[chosen], lesson.size, rng, lesson.ranges)
            values = _true_values(shown, {key: said[key][chosen] for key in said})
            if lesson.mixed and rng.random() < lesson.mixed:
                yield _mixed(shown.images, values, rng, lesson.blend)
            else:
                pairings = _pairings(values, 1.0, rng)
                yield Batch(images=shown.images, pairings=pairings)


def rephrasings(*, count: int, seed: int) -> Iterator[Rephrasing]:
    """Yield so many pairs of texts at a time, for ever: what one says, both say."""
    rng = np.random.default_rng([seed, 1])
    every = [(topic, value) for topic in TOPICS for value in range(len(TOPICS[topic]))]
    while True:
        labels = rng.integers(len(every), size=count)
        pairs = [
            (text(rng, *every[label]), text(rng, *every[label])) for label in labels
        ]
        yield Rephrasing(
            first=tuple(pair[0] for pair in pairs),
            second=tuple(pair[1] for pair in pairs),
            labels=labels.astype(np.int64) + 1,
        )


def _patient_topics(data: Radiographs) -> dict[str, Values]:
    """Return what the table says of each image, by topic."""
    return {
        "sex": data.male.astype(np.int64),
        "view": data.ap.astype(np.int64),
        "pneumonia": data.pneumonia.astype(np.int64),
        "age": np.digitize(data.age, AGES_FROM).astype(np.int64),
    }


def _true_values(shown: Altered, patient: Mapping[str, Values]) -> dict[str, Values]:
    """Return what is true of each altered image, by topic."""
    ordinary = (shown.turns == 0) & ~shown.inverted
    values = {
        key: np.where(ordinary, value, _LEFT_OUT) for key, value in patient.items()
    }
    return values | {
        "turn": shown.turns,
        "sides": np.where(ordinary, shown.mirrored, _LEFT_OUT),
        "grey": shown.inverted.astype(np.int64),
    }


def _mixed(
    images: NDArray[np.uint8],
    values: Mapping[str, Values],
    rng: np.random.Generator,
    blend: float,
) -> Batch:
    """Return a batch blended with itself: what is said of both counts by its share."""
    share = float(rng.beta(blend, blend))
    other = rng.permutation(len(images))
    blended = share * images.astype(np.float32) + (1 - share) * images[other]
    theirs = {key: value[other] for key, value in values.items()}
    return Batch(
        images=blended.round().astype(np.uint8),
        # twice as many pairings of half the weight: the loss is their mean
        pairings=_pairings(values, 2 * share, rng)
        + _pairings(theirs, 2 * (1 - share), rng),
    )


def _pairings(
    values: Mapping[str, Values], share: float, rng: np.random.Generator
) -> tuple[Pairing, ...]:
    return tuple(
        _pairing(topic, value, share, rng)
        for topic, value in values.items()
        if (value >= 0).any()
    )


def _pairing(
    topic: str, values: Values, share: float, rng: np.random.Generator
) -> Pairing:
    wordings = [
        [text(rng, topic, value) for _ in range(_WORDINGS)]
        for value in range(len(TOPICS[topic]))
    ]
    turns = rng.integers(_WORDINGS, size=len(values))
    # What is left out needs a text all the same: any will do.
    texts = tuple(wordings[max(v, 0)][t] for v, t in zip(values, turns, strict=True))
    return Pairing(
        texts=texts,
        labels=np.where(values >= 0, values + 1, _LEFT_OUT),
        weight=WEIGHTS[topic] * share,
    )
