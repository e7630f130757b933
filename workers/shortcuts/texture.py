"""A baseline without a network: texture and edges, in a support vector machine.

Uniform local binary patterns (Ojala et al., IEEE PAMI 2002; 24: 971-987) counted in a
grid of cells, and histograms of oriented gradients (Dalal and Triggs, CVPR 2005), both
by scikit-image; a support vector machine with an RBF kernel, its penalty and its
kernel's width chosen in inner folds. A model that is not above it has learnt little.
"""

from functools import partial
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import hog, local_binary_pattern
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from workers.shortcuts.nested import Candidate, Features, Rowed, out_of_fold

SIZE_PX: Final = 160
_CELL_PX: Final = 16
_PATTERNS: Final = ((8, 1), (16, 2))
"""Neighbours, and their distance in pixels."""
_GRID: Final = 4
_PENALTIES: Final = (0.3, 1.0, 3.0, 10.0)
_WIDTHS: Final = (0.1, 0.3, 1.0, 3.0)
"""Of the kernel: gamma times the number of features."""
_BLOCKS: Final = (SIZE_PX // _CELL_PX - 1) ** 2
FEATURES: Final = _BLOCKS * 4 * 9 + _GRID**2 * sum(n + 2 for n, _ in _PATTERNS)
NO_TEXTURE: Final = np.full(FEATURES, np.nan, np.float32)
"""Of an image that cannot be read."""


def texture_baseline(
    images: NDArray[np.uint8],
    labels: NDArray[np.bool_],
    patients: NDArray[np.integer],
    folds: NDArray[np.integer],
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return out-of-fold scores (N,) of the baseline: log odds at even prevalence.

    Parameters
    ----------
    images
        (N, H, W) uint8, 0 black to 255 white.
    labels, patients, folds
        (N,) truth, number of the patient, number of the outer fold.
    """
    rowed = Rowed(truth=labels, patient=patients, fold=folds)
    return texture_scores(texture(images), rowed, seed=seed)


def texture_scores(
    features: Features, rowed: Rowed, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return the baseline's scores (N,) of features (N, D): of images, or means of them."""
    return out_of_fold(features, rowed, machines(), seed=seed).logit


def texture(images: NDArray[np.uint8]) -> Features:
    """Return LBP and HOG features (N, D) of images (N, H, W) uint8, at 160 x 160."""
    return np.stack([_features(image) for image in images])


def machines() -> tuple[Candidate, ...]:
    """Return the support vector machines that are chosen from."""
    return tuple(
        Candidate(name=f"C {c:g}, gamma {g:g}/D", make=partial(RbfMachine, c, g))
        for c in _PENALTIES
        for g in _WIDTHS
    )


class RbfMachine:
    """A support vector machine with an RBF kernel, its features standardised.

    Parameters
    ----------
    penalty
        C.
    width
        gamma times the number of features that vary.
    """

    def __init__(self, penalty: float, width: float) -> None:
        self._width = width
        self._scaler = StandardScaler()
        self._machine = SVC(C=penalty, kernel="precomputed", class_weight="balanced")
        self._known: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def fit(self, features: Features, truth: NDArray[np.bool_]) -> Self:
        """Learn from rows of features (N, D) and their truth (N,)."""
        self._known = self._scaler.fit_transform(features)
        self._machine.fit(self._kernel(self._known), truth)
        return self

    def decision_function(self, features: Features) -> NDArray[np.float64]:
        """Return the distance (N,) from the separating surface, positives above 0."""
        found: NDArray[np.float64] = self._machine.decision_function(
            self._kernel(self._scaler.transform(features))
        )
        return found

    def _kernel(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        varying = max(1, int(np.count_nonzero(self._scaler.var_)))
        squared = euclidean_distances(rows, self._known, squared=True)
        kernel: NDArray[np.float64] = np.exp(-self._width / varying * squared)
        return kernel


def _features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = np.asarray(
        Image.fromarray(image).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    )
    edges = hog(small, pixels_per_cell=(_CELL_PX, _CELL_PX), cells_per_block=(2, 2))
    patterns = [_patterns(small, points, radius) for points, radius in _PATTERNS]
    return np.concatenate([edges, *patterns]).astype(np.float32)


def _patterns(
    image: NDArray[np.uint8], points: int, radius: int
) -> NDArray[np.float64]:
    """Return how often each uniform pattern occurs in each cell of the grid."""
    found = local_binary_pattern(image, points, radius, method="uniform")  # type: ignore[no-untyped-call]
    codes = found.astype(int)
    size, kinds = SIZE_PX // _GRID, points + 2
    cells = codes.reshape(_GRID, size, _GRID, size).swapaxes(1, 2).reshape(-1, size**2)
    counts = [np.bincount(cell, minlength=kinds) / cell.size for cell in cells]
    return np.concatenate(counts)
