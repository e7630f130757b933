"""Fitting a gate to an encoder: embeddings of validation images in, a gate out.

Deterministic from the seed. The limit is set on scores of patients that the measures
were not fitted on (five folds by patient, as in cross-conformal prediction: Vovk, Ann
Math Artif Intell 74, 2015); the measures are then fitted on all of them.

The whitening rests on validated vectors and strangers together. With the validated ones
alone, the directions in which strangers differ are so narrow that a stranger lies
nowhere near another, and nothing can be learned of it: measured in ``docs/gate.md``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC

from workers.gate.conformal import conformal_limit
from workers.gate.exposure import FROM_NONE, strangers
from workers.gate.values import Gate, Learned, Scope, whiten

Images = Callable[[NDArray[np.intp]], NDArray[np.uint8]]
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

EXPOSED = 500
"""Images that strangers are made of, where nothing else is asked for."""

FOLDS = 5
COST = 10.0
WIDTH = 0.5
"""Of the kernel: gamma is this over the number of whitened axes."""

MOST = 3000
"""Validated vectors that are kept, and shown to the machine."""

MOST_STRANGERS = 8000
NEAREST_SHARE = 0.1
"""Of the false alarms, those that the nearest vectors alone may raise.

Few, because the machine finds more: the nearest vectors are for strangers that are like
nothing it was shown.
"""

NARROWEST = 1e-5
"""Deviation along an axis, over that along the widest: below it, there is only noise."""

_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """Embeddings of validation images of some modalities.

    Parameters
    ----------
    modalities
        Of the images that are judged by them; empty stands for any.
    vectors
        (N, D) float32.
    groups
        (N,) whose each image is: patients, or studies where patients are not known.
    strangers
        (M, D) float32: embeddings of images that are outside; none where M is 0.
    origin
        (M,) of which validation image each was made, or `FROM_NONE`.
    """

    modalities: tuple[str, ...]
    vectors: NDArray[np.float32]
    groups: NDArray[np.int32]
    strangers: NDArray[np.float32]
    origin: NDArray[np.int32]

    def rows(self, mask: NDArray[np.bool_]) -> "Validation":
        """Return the images where `mask` (N,) is true, and the strangers made of them."""
        made = (self.origin == FROM_NONE) | mask[self.origin]
        place = np.cumsum(mask) - 1
        moved = np.where(self.origin == FROM_NONE, FROM_NONE, place[self.origin])
        return replace(
            self,
            vectors=self.vectors[mask],
            groups=self.groups[mask],
            strangers=self.strangers[made],
            origin=moved[made].astype(np.int32),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """Patients that an encoder was not trained on, and the others, as it embeds them.

    Parameters
    ----------
    fitted
        Images that the encoder has seen.
    vectors, groups
        (n, D) and (n,): images of patients that are not among them.
    """

    fitted: Validation
    vectors: NDArray[np.float32]
    groups: NDArray[np.int32]


def validation(  # noqa: PLR0913 - vectors, whose they are, and what strangers come from
    vectors: NDArray[np.float32],
    groups: NDArray[np.int32],
    images: Images,
    *,
    modalities: tuple[str, ...],
    embed: Embed,
    exposed: int = EXPOSED,
    seed: int = 0,
) -> Validation:
    """Return validation images with strangers made of some of them.

    Parameters
    ----------
    vectors, groups
        (N, D) and (N,), as in `Validation`.
    images
        Gives model input, (n, 3, S, S) or (n, S, S) uint8, of n of the N.
    embed
        The encoder that gave `vectors`.
    exposed
        Images at most that strangers are made of, five of each.
    """
    rng = np.random.default_rng([13, seed])
    chosen = _some(rng, len(vectors), exposed)
    made = strangers(images(chosen), seed=seed)
    origin = np.where(made.origin == FROM_NONE, FROM_NONE, chosen[made.origin])
    return Validation(
        modalities=modalities,
        vectors=vectors,
        groups=groups,
        strangers=embed(made.images),
        origin=origin.astype(np.int32),
    )


def without_strangers(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int32],
    *,
    modalities: tuple[str, ...],
) -> Validation:
    """Return validation images alone: the gate will know nothing but distances."""
    return Validation(
        modalities=modalities,
        vectors=vectors,
        groups=groups,
        strangers=np.empty((0, vectors.shape[1]), np.float32),
        origin=np.empty(0, np.int32),
    )


def fit(parts: Sequence[Validation], *, rate: float = 0.02, seed: int = 0) -> Gate:
    """Return the gate that takes a share `rate` of validated images for strangers.

    Parameters
    ----------
    parts
        One for each set of modalities.

    Raises
    ------
    ValueError
        If there are too few patients for the rate, or vectors that are no numbers.
    """
    return Gate(scopes=tuple(_scope(part, rate, seed) for part in parts))


def fit_across(
    part: Validation, folds: Sequence[HeldOut], *, rate: float = 0.02, seed: int = 0
) -> Gate:
    """Return the gate of an encoder that has been trained on the images of `part`.

    What an encoder has seen lies closer together than what it has not. The limit is
    therefore set on patients whom another encoder of the same recipe has not seen, one
    for each fold: measures are whitened, and so comparable from encoder to encoder.

    Raises
    ------
    ValueError
        If there are too few patients for the rate.
    """
    measured = np.concatenate(
        [_fitted(fold.fitted, rate, seed).measures(fold.vectors) for fold in folds]
    )
    groups = np.concatenate([fold.groups for fold in folds])
    return Gate(scopes=(_scaled(_fitted(part, rate, seed), measured, groups),))


def _scaled(
    scope: Scope, measured: NDArray[np.float64], groups: NDArray[np.int32]
) -> Scope:
    """Return the scope with its limit set on measures (N, 2) of patients not fitted on."""
    return replace(scope, scales=_scales(measured, groups, scope.rate))


def _scope(part: Validation, rate: float, seed: int) -> Scope:
    if not (np.isfinite(part.vectors).all() and np.isfinite(part.strangers).all()):
        raise ValueError("an embedding holds something that is no number")
    apart = np.unique(part.groups)
    folds = min(FOLDS, len(apart))
    if folds < 2:  # noqa: PLR2004 - one to fit, one to judge
        raise ValueError(f"{len(apart)} patients or studies are too few for a gate")
    held_out = np.concatenate(_held_out(part, folds, rate, seed))
    rows = np.concatenate([rows for rows, _ in _splits(part, folds, seed)])
    return _scaled(_fitted(part, rate, seed), held_out, part.groups[rows])


def _splits(
    part: Validation, folds: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Rows that are judged, and a mask of those that are fitted on, by fold."""
    cut = GroupKFold(folds, shuffle=True, random_state=seed)
    return [
        (judged, np.isin(np.arange(len(part.vectors)), fitted))
        for fitted, judged in cut.split(part.vectors, groups=part.groups)
    ]


def _held_out(
    part: Validation, folds: int, rate: float, seed: int
) -> list[NDArray[np.float64]]:
    return [
        _fitted(part.rows(fitted), rate, seed).measures(part.vectors[judged])
        for judged, fitted in _splits(part, folds, seed)
    ]


def _scales(
    measured: NDArray[np.float64], groups: NDArray[np.int32], rate: float
) -> tuple[tuple[float, float], ...]:
    """Offset and unit of each measure (N, 1 or 2): a share `rate` lies beyond 1."""
    middle = np.median(measured, axis=0)
    shares = [rate] if measured.shape[1] == 1 else [rate * NEAREST_SHARE, rate]
    high = [
        np.quantile(column, 1 - share)
        for column, share in zip(measured.T, shares, strict=True)
    ]
    units = np.maximum(high - middle, _TINY)
    limit = conformal_limit(((measured - middle) / units).max(axis=1), groups, rate)
    units *= max(limit, _TINY)
    return tuple(zip(middle.tolist(), units.tolist(), strict=True))


def _fitted(part: Validation, rate: float, seed: int) -> Scope:
    """Both measures, without scale or limit."""
    rng = np.random.default_rng([11, seed])
    kept = _some(rng, len(part.vectors), MOST)
    shown = _some(rng, len(part.strangers), MOST_STRANGERS)
    centre, axes = _whitening(np.concatenate([part.vectors, part.strangers[shown]]))
    bank = whiten(part.vectors[kept], centre, axes)
    learned = None
    if len(shown):
        learned = _learned(bank, whiten(part.strangers[shown], centre, axes))
    return Scope(
        modalities=part.modalities,
        centre=centre,
        axes=axes,
        bank=bank.astype(np.float32),
        learned=learned,
        scales=((0.0, 1.0),) * (1 + bool(len(shown))),
        rate=rate,
    )


def _some(rng: np.random.Generator, count: int, most: int) -> NDArray[np.intp]:
    rows = np.arange(count)
    return rows if count <= most else np.sort(rng.permutation(count)[:most])


def _whitening(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre (D,) and axes (D, K): along each, the vectors have a deviation of one."""
    centre = vectors.mean(axis=0, dtype=np.float64)
    _, singular, turned = np.linalg.svd(vectors - centre, full_matrices=False)
    deviation = singular / np.sqrt(max(len(vectors) - 1, 1))
    wide = deviation > NARROWEST * deviation[0]
    if not wide.any():
        raise ValueError("all embeddings are the same")
    axes = (turned[wide] / deviation[wide, None]).T
    return centre.astype(np.float32), axes.astype(np.float32)


def _learned(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Learned:
    machine = SVC(C=COST, gamma=WIDTH / inside.shape[1], class_weight="balanced")
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    machine.fit(np.concatenate([inside, outside]), truth)
    return Learned(
        supports=machine.support_vectors_.astype(np.float32),
        weights=machine.dual_coef_[0].astype(np.float32),
        bias=float(machine.intercept_[0]),
        gamma=WIDTH / inside.shape[1],
    )
