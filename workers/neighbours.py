"""A value from labelled images nearby: weighted nearest neighbours in embedding space.

Pure, numpy only. The protocol is that of MedImageInsight's bone age benchmark: softmax
of temperature times cosine over all references, the k largest, equal values added up,
and the mean of the highest few values, weighted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent

Floats = NDArray[np.float64]

_LENGTH_TOLERANCE = 1e-3
_BLOCK = 1024
"""Frames at a time that are compared with every reference: bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class References:
    """Labelled images: embeddings (N, D) float32 of length one, values (N,) float32.

    Raises
    ------
    Permanent
        If the arrays are others.
    """

    embeddings: NDArray[np.float32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape, values = self.embeddings.shape, self.values.shape
        if len(shape) != 2 or values != shape[:1] or 0 in shape:  # noqa: PLR2004 - (N, D)
            raise Permanent(
                f"references need embeddings (N, D) and values (N,), "
                f"not {shape} and {values}"
            )
        lengths = np.linalg.norm(self.embeddings.astype(np.float64), axis=1)
        if not np.allclose(lengths, 1.0, atol=_LENGTH_TOLERANCE):
            raise Permanent("an embedding of the references does not have length one")
        if not np.isfinite(self.values).all():
            raise Permanent("a value of the references is no number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearby:
    """What the references nearby say.

    Parameters
    ----------
    value, spread
        In the references' unit: weighted mean and standard deviation of the values
        that all frames found.
    frames
        The value that each frame gave.
    """

    value: float
    spread: float
    frames: tuple[float, ...]


def nearby(
    references: References,
    vectors: NDArray[np.float32],
    *,
    k: int,
    values: int,
    temperature: float,
) -> Nearby:
    """Return the value of a study, of whose frames each has the same say.

    Parameters
    ----------
    vectors
        (N, D) float32 of length one.
    k, values
        How many references count, and how many of their distinct values.
    temperature
        Before the softmax.
    """
    means, squares = weighted(
        ranked(references, vectors, k=k), k=k, values=values, temperature=temperature
    )
    value = float(means.mean())
    variance = float(squares.mean()) - value**2
    return Nearby(
        value=value,
        spread=float(np.sqrt(max(variance, 0.0))),
        frames=tuple(means.tolist()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """The nearest references of each frame, nearest first.

    Parameters
    ----------
    cosines
        (N, K) float64, falling.
    values
        (N, K) float64, in the references' unit.
    """

    cosines: Floats
    values: Floats


def ranked(references: References, vectors: NDArray[np.float32], *, k: int) -> Ranked:
    """Return the `k` nearest references of frames (N, D); all, where they are fewer."""
    embeddings = references.embeddings.astype(np.float64)
    cosines, places = [], []
    for block in blocks(vectors.astype(np.float64)):
        found = block @ embeddings.T
        places.append(nearest(found, k))
        cosines.append(np.take_along_axis(found, places[-1], axis=1))
    return Ranked(
        cosines=np.concatenate(cosines),
        values=references.values.astype(np.float64)[np.concatenate(places)],
    )


def weighted(
    near: Ranked, *, k: int, values: int, temperature: float
) -> tuple[Floats, Floats]:
    """Return the weighted mean of the nearest values of each frame, and of their squares.

    The softmax over all references has one denominator for each frame; it cancels.

    Parameters
    ----------
    k
        No more than were ranked.
    """
    cosines = near.cosines[:, :k]
    powers = np.exp(temperature * (cosines - cosines[:, :1]))
    order = np.argsort(near.values[:, :k], axis=1, kind="stable")
    labels = np.take_along_axis(near.values[:, :k], order, axis=1)
    begins = np.diff(labels, axis=1, prepend=-np.inf) != 0
    rows, width = labels.shape
    # equal values share a number; those that nothing has weigh nothing
    number = np.cumsum(begins, axis=1) - 1 + width * np.arange(rows)[:, None]
    powers = np.take_along_axis(powers, order, axis=1)
    added = np.bincount(number.ravel(), powers.ravel(), minlength=rows * width)
    sums = added.astype(np.float64).reshape(rows, width)
    distinct = np.zeros((rows, width))
    distinct.ravel()[number.ravel()] = labels.ravel()
    highest = np.argsort(-sums, axis=1, kind="stable")[:, :values]
    weights = np.take_along_axis(sums, highest, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    kept = np.take_along_axis(distinct, highest, axis=1)
    return (weights * kept).sum(axis=1), (weights * kept**2).sum(axis=1)


def nearest(cosines: Floats, k: int) -> NDArray[np.intp]:
    """Return the places (N, k) of the highest of each row (N, R), highest first.

    Of equal ones the first: what a stable sort of whole rows gives, in less time.
    """
    count = min(k, cosines.shape[1])
    places = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    least = np.take_along_axis(cosines, places, axis=1).min(axis=1, keepdims=True)
    tied = np.flatnonzero((cosines >= least).sum(axis=1) > count)
    places[tied] = np.argsort(-cosines[tied], axis=1, kind="stable")[:, :count]
    places.sort(axis=1)
    falling = np.argsort(
        -np.take_along_axis(cosines, places, axis=1), axis=1, kind="stable"
    )
    found: NDArray[np.intp] = np.take_along_axis(places, falling, axis=1)
    return found


def blocks(rows: Floats) -> Iterator[Floats]:
    """Yield rows (N, D) in parts that may be compared with every reference at once."""
    yield from np.array_split(rows, max(1, -(-len(rows) // _BLOCK)))
