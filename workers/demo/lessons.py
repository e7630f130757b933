"""Batches to learn from: slightly altered images, and texts that are true of them.

Each batch is paired six times: with a summary of everything an image shows, where
images with the same findings belong together; and for each finding with a statement
that it is there or not, where its presence alone decides who belongs together.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from workers.demo.samples import FINDINGS, Samples
from workers.demo.texts import statement, summary
from workers.medimageinsight.training import Batch, Pairing, Rephrasing

_LEFT_OUT = -1
_PHRASINGS = 4  # of one statement in one batch
_SHIFT = 5  # pixels
_ABSENT_SHARE = 0.35
_HEAD_SHARE = 0.15
_FOUND_SHARE = 0.4
_HEADS_FROM = 100  # labels of head images, above all those of chests


def lessons(samples: Samples, *, chests: int, heads: int, seed: int) -> Iterator[Batch]:
    """Yield batches of so many chests and head slices, for ever.

    Raises
    ------
    ValueError
        At the first batch, if there are fewer images than that.
    """
    rng = np.random.default_rng(seed)
    is_head = samples.head[samples.study]
    chest_turn = _endless(np.flatnonzero(~is_head), chests, rng)
    head_turn = _endless(np.flatnonzero(is_head), heads, rng)
    while True:
        rows = np.concatenate([next(chest_turn), next(head_turn)])
        shown, head = samples.shown[rows], is_head[rows]
        yield Batch(
            images=altered(samples.images[rows], rng),
            pairings=(
                _summaries(shown, head, rng),
                *(
                    _statements(index, shown, head, rng)
                    for index in range(len(FINDINGS))
                ),
            ),
        )


def rephrasings(*, count: int, seed: int) -> Iterator[Rephrasing]:
    """Yield so many pairs of texts at a time, for ever: what one says, both say."""
    rng = np.random.default_rng([seed, 1])
    while True:
        first, second, labels = [], [], []
        for _ in range(count):
            label, pair = _said_twice(rng)
            first.append(pair[0])
            second.append(pair[1])
            labels.append(label)
        yield Rephrasing(
            first=tuple(first), second=tuple(second), labels=np.array(labels, np.int64)
        )


def _said_twice(rng: np.random.Generator) -> tuple[int, tuple[str, str]]:
    """A label, and two texts of it: a set of findings, or one that is absent."""
    index = int(rng.integers(len(FINDINGS)))
    finding = FINDINGS[index]
    kind = rng.random()
    if kind < _ABSENT_SHARE:
        said = [statement(rng, finding, present=False) for _ in range(2)]
        return 2 * _HEADS_FROM + index, (said[0], said[1])
    if kind < 2 * _ABSENT_SHARE:
        said = [statement(rng, finding, present=True) for _ in range(2)]
        head = finding == "haemorrhage"
        return (_HEADS_FROM if head else 1) + (1 << index), (said[0], said[1])
    head = bool(rng.random() < _HEAD_SHARE)
    among = FINDINGS[-1:] if head else FINDINGS[:-1]
    found = tuple(key for key in among if rng.random() < _FOUND_SHARE)
    mask = sum(1 << FINDINGS.index(key) for key in found)
    said = [summary(rng, found, head=head) for _ in range(2)]
    return (_HEADS_FROM if head else 1) + mask, (said[0], said[1])


def altered(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (B, S, S) images shifted by a few pixels, with other contrast."""
    count, size, _ = images.shape
    margin = ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT))
    wide = np.pad(images, margin, mode="edge")
    out = np.empty((count, size, size), np.float32)
    for index, (x, y) in enumerate(rng.integers(0, 2 * _SHIFT + 1, (count, 2))):
        out[index] = wide[index, y : y + size, x : x + size]
    gain = rng.uniform(0.85, 1.15, (count, 1, 1)).astype(np.float32)
    lift = rng.uniform(-12, 12, (count, 1, 1)).astype(np.float32)
    changed: NDArray[np.uint8] = (
        ((out - 128) * gain + 128 + lift).clip(0, 255).astype(np.uint8)
    )
    return changed


def _endless(
    rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield `count` rows at a time, all of them before any a second time."""
    if count > len(rows):
        raise ValueError(f"{len(rows)} images are too few for {count} in a batch")
    while True:
        order = rng.permutation(rows)
        for at in range(0, len(order) - count + 1, count):
            yield order[at : at + count]


def _summaries(
    shown: NDArray[np.bool_], head: NDArray[np.bool_], rng: np.random.Generator
) -> Pairing:
    texts, labels = [], []
    for has, is_head in zip(shown, head, strict=True):
        found = tuple(key for key, here in zip(FINDINGS, has, strict=True) if here)
        texts.append(summary(rng, found, head=bool(is_head)))
        mask = sum(1 << bit for bit, here in enumerate(has) if here)
        labels.append((_HEADS_FROM if is_head else 1) + mask)
    return Pairing(texts=tuple(texts), labels=np.array(labels, np.int64))


def _statements(
    index: int,
    shown: NDArray[np.bool_],
    head: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Pairing:
    finding = FINDINGS[index]
    about_head = finding == "haemorrhage"
    phrasings = {
        present: [statement(rng, finding, present=present) for _ in range(_PHRASINGS)]
        for present in (False, True)
    }
    here = shown[:, index]
    texts = tuple(
        phrasings[bool(has)][int(turn)]
        for has, turn in zip(
            here, rng.integers(_PHRASINGS, size=len(here)), strict=True
        )
    )
    labels = np.where(head == about_head, 1 + here.astype(np.int64), _LEFT_OUT)
    return Pairing(texts=texts, labels=labels)
