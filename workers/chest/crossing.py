"""Cross-validation by patient, the encoders trained anew in every outer fold.

A fold's encoders and heads have seen the images and labels of its training patients and
nothing else. The recipe is fixed beforehand. What was trained is kept, so that figures
can be made again without training.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.chest.folding import (
    Embedded,
    Fold,
    embed_fold,
    joined,
    key_of,
    learn_fold,
    outer_folds,
    truths,
)
from workers.chest.heads import fit_linear, fit_ordinary
from workers.chest.radiographs import Radiographs, read_radiographs
from workers.chest.recipe import MEMBERS, POLICY, Recipe

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""

TOPICS: Final = ("sex", "view", "pneumonia")
"""Columns of truth and scores: M and not F, AP and not PA, Pneumonia and no finding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossed:
    """What encoders and heads of other patients say of each of N images.

    Parameters
    ----------
    files, patient, fold
        (N,) name of the image, number of its patient, its outer fold.
    truth
        (N, 3) int8: 1, 0, or -1 where the topic does not apply.
    scores
        (N, 3) float64, log odds, out of fold.
    states
        (6, N) float64: log odds that an image is as it should be, in each of `STATES`,
        out of fold.
    embedded
        By fold. Row n was a test image for the encoder of fold ``fold[n]``, and is a
        training image for the others.
    learned
        By fold, the members of its ensemble; their encoders are there.
    """

    files: tuple[str, ...]
    patient: NDArray[np.int32]
    fold: NDArray[np.int8]
    truth: NDArray[np.int8]
    scores: NDArray[np.float64]
    states: NDArray[np.float64]
    embedded: tuple[Embedded, ...]
    learned: tuple[tuple[Fold, ...], ...]

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How the members of every ensemble have learned."""
        return tuple(member.recipe for member in self.learned[0])


def cross_validate(
    folder: Path,
    seed: int,
    folds: int = 5,
    *,
    cache: Path,
    recipes: Sequence[Recipe] = MEMBERS,
    progress: Progress,
) -> Crossed:
    """Return out-of-fold embeddings and scores of the radiographs in `folder`.

    Parameters
    ----------
    cache
        A folder for what is trained; what is there already is not trained again. As
        many are trained at the same time as there are cores.
    recipes
        Of the members of each fold's ensemble.
    """
    data = read_radiographs(folder, POLICY)
    places = [cache / key_of(data, seed, folds, recipe) for recipe in recipes]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    wanted = [
        tuple(
            Fold(
                number=number,
                folds=folds,
                folder=folder,
                seed=seed,
                recipe=recipe,
                cache=place,
            )
            for recipe, place in zip(recipes, places, strict=True)
        )
        for number in range(folds)
    ]
    every = [member for members in wanted for member in members]
    missing = [member for member in every if not member.embedded.exists()]
    _learn(missing, len(every), progress)
    return _gathered(data, outer_folds(data, folds, seed), wanted)


def _learn(missing: Sequence[Fold], count: int, progress: Progress) -> None:
    there = count - len(missing)
    progress("training encoders", there, count)
    for done, _ in enumerate(_learned(missing), start=there + 1):
        progress("training encoders", done, count)


def _learned(missing: Sequence[Fold]) -> Iterator[None]:
    processes = min(len(missing), len(os.sched_getaffinity(0)))
    if processes < 2:  # noqa: PLR2004 - one needs no company
        yield from map(learn_fold, missing)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(learn_fold, missing)


def _gathered(
    data: Radiographs, outer: NDArray[np.int8], folds: Sequence[tuple[Fold, ...]]
) -> Crossed:
    embedded = [joined([embed_fold(one) for one in members]) for members in folds]
    truth = truths(data)
    scores = np.full(truth.shape, np.nan)
    states = np.full(embedded[0].states.shape[:2], np.nan)
    for number, found in enumerate(embedded):
        seen, test = (np.flatnonzero(x) for x in (outer != number, outer == number))
        for topic in range(len(TOPICS)):
            use = seen[truth[seen, topic] >= 0]
            head = fit_linear(found.views[:, use], truth[use, topic])
            scores[test, topic] = head.decision_function(found.states[0, test])
        head = fit_ordinary(found.states[:, seen])
        states[:, test] = [head.decision_function(s) for s in found.states[:, test]]
    return Crossed(
        files=data.files,
        patient=data.patient,
        fold=outer,
        truth=truth,
        scores=scores,
        states=states,
        embedded=tuple(embedded),
        learned=tuple(folds),
    )
