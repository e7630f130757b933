"""A gate as a value, and what it says of a vector: numpy only, nothing is fitted here.

Two measures, each on a scale of its own, of which the greater one counts:

- the distance of section 3.6 of the MedImageInsight notes: the mean of the Euclidean
  distances to the two nearest validated vectors, here after whitening. It needs no idea
  of what a stranger looks like;
- a support vector machine (Schoelkopf & Smola 2002) that tells validated vectors from
  those of the same images inverted and turned, and from blank ones: outlier exposure
  (Hendrycks et al., ICLR 2019).

Scales are set by conformal prediction (Vovk et al. 2005) on vectors that the measures were
not fitted on, so that a share `Scope.rate` of validated images lies beyond 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]
"""(N,) float64, 0 and above; validated images end at 1."""

KINDS = ("nearest", "nearest and learned")
"""By which measures: what a pack's manifest calls the gate."""

NEAREST = 2
"""Validated vectors whose distances are averaged (section 3.6)."""

_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A support vector machine with a radial kernel: positive for a stranger.

    Parameters
    ----------
    supports
        (M, K) float32, whitened.
    weights
        (M,) float32.
    bias
        What it says of a vector that is like none of `supports`.
    """

    supports: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: float
    gamma: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """What is validated, among images of some modalities.

    Parameters
    ----------
    modalities
        Values of Modality (0008,0060); empty stands for any.
    centre, axes
        Of the whitening: (D,) and (D, K) float32.
    bank
        (R, K) float32: validated vectors, whitened; at least `NEAREST`.
    learned
        None where no strangers were shown to the gate.
    scales
        Offset and unit of each measure: those of the two, in their order.
    rate
        Share of validated images that lie beyond 1.
    """

    modalities: tuple[str, ...]
    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    bank: NDArray[np.float32]
    learned: Learned | None
    scales: tuple[tuple[float, float], ...]
    rate: float

    def __post_init__(self) -> None:
        count = self.axes.shape[1]
        wide = [self.bank, *([self.learned.supports] if self.learned else [])]
        if self.axes.shape[0] != len(self.centre) or any(
            part.ndim != 2 or part.shape[1] != count  # noqa: PLR2004 - (R, K)
            for part in wide
        ):
            raise ValueError("the parts of a gate do not fit together")
        if len(self.bank) < NEAREST:
            raise ValueError(f"a gate needs at least {NEAREST} validated vectors")
        if len(self.scales) != 1 + (self.learned is not None):
            raise ValueError("a gate needs a scale for each measure")
        if not all(unit > 0 for _, unit in self.scales):
            raise ValueError("the units of a gate are above 0")

    @property
    def dimension(self) -> int:
        """Return the length D of the vectors that it judges."""
        return len(self.centre)

    def covers(self, modality: str) -> bool:
        """Return whether images of `modality` are judged by it."""
        return not self.modalities or modality in self.modalities

    def distances(self, vectors: NDArray[np.float32]) -> Distances:
        """Return (N,) of (N, D): the greater of the measures, on their scales."""
        measured = self.measures(vectors)
        offsets, units = np.array(self.scales, np.float64).T
        scaled: Distances = ((measured - offsets) / units).max(axis=1)
        return np.maximum(scaled, 0)

    def measures(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, 1 or 2) of (N, D): each measure in its own unit."""
        points = whiten(vectors, self.centre, self.axes)
        columns = [nearest(points, self.bank)]
        if self.learned is not None:
            columns.append(margins(points, self.learned))
        return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """What is validated, by modality: the first scope that covers an image holds.

    Parameters
    ----------
    limit
        An image is outside if its distance is greater.
    """

    scopes: tuple[Scope, ...]
    limit: float = 1.0

    def __post_init__(self) -> None:
        if len({scope.dimension for scope in self.scopes}) != 1:
            raise ValueError("a gate needs scopes, all for vectors of one length")

    @property
    def dimension(self) -> int:
        """Return the length D of the vectors that it judges."""
        return self.scopes[0].dimension

    @property
    def kind(self) -> str:
        """Return by which measures it judges: one of `KINDS`."""
        return KINDS[any(scope.learned for scope in self.scopes)]

    def scope(self, modality: str) -> Scope | None:
        """Return what judges images of `modality`, or None."""
        return next((s for s in self.scopes if s.covers(modality)), None)

    def distances(self, vectors: NDArray[np.float32], modality: str) -> Distances:
        """Return (N,) of (N, D); infinite where nothing of that modality is known."""
        scope = self.scope(modality)
        if scope is None:
            return np.full(len(vectors), np.inf)
        return scope.distances(vectors)

    def outside(self, vector: NDArray[np.float32], modality: str) -> str:
        """Return why an image with this vector (D,) is not looked at; empty if it is."""
        return self.outside_volume(vector[None], modality)

    def outside_volume(self, vectors: NDArray[np.float32], modality: str) -> str:
        """Return why a volume with these slices (N, D) is not looked at; empty if it is.

        The median of their distances decides: the ends of a volume, or a slice full of
        metal, do not. So a volume is all inside or all outside.
        """
        scope = self.scope(modality)
        if scope is None:
            return f"this pack was not validated on images of modality {modality}"
        values = scope.distances(vectors)
        distance = float(np.median(values)) if np.isfinite(values).all() else np.inf
        if distance <= self.limit:
            return ""
        return (
            "unlike the images that this pack was validated on "
            f"(distance {distance:.2f}, limit {self.limit:.2f})"
        )


def whiten(
    vectors: NDArray[np.float32], centre: NDArray[np.float32], axes: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return (N, K) float64 of (N, D)."""
    shifted = vectors.astype(np.float64) - centre
    points: NDArray[np.float64] = shifted @ axes.astype(np.float64)
    return points


def nearest(
    points: NDArray[np.float64], bank: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (N,): mean distance of (N, K) to the `NEAREST` ones of (R, K)."""
    found = [
        np.sqrt(np.partition(_squares(part, bank), NEAREST - 1, axis=1)[:, :NEAREST])
        for part in _parts(points)
    ]
    means: NDArray[np.float64] = np.concatenate(found).mean(axis=1)
    return means


def margins(points: NDArray[np.float64], learned: Learned) -> NDArray[np.float64]:
    """Return (N,): how far (N, K) are on the strangers' side."""
    found = [
        np.exp(-learned.gamma * _squares(part, learned.supports)) @ learned.weights
        for part in _parts(points)
    ]
    return np.asarray(np.concatenate(found) + learned.bias, np.float64)


def _parts(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [points[at : at + _CHUNK] for at in range(0, len(points) or 1, _CHUNK)]


def _squares(
    points: NDArray[np.float64], others: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Squared Euclidean distances (N, R)."""
    far = others.astype(np.float64)
    squares = (
        (points**2).sum(axis=1)[:, None] + (far**2).sum(axis=1) - 2 * points @ far.T
    )
    return np.asarray(np.maximum(squares, 0), np.float64)
