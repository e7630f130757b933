"""The inner loop: which head, with which parameters, and which calibration.

Every candidate is fitted on the inner folds but one and scores that one. The head is the
candidate with the highest area under the ROC curve of studies, mean over the folds; its
out-of-fold scores decide on the calibration. Of equal ones the first wins: they are in
order of simplicity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dicom_node.errors import Permanent
from workers.cohort import folds
from workers.fitting import adapter, linear, nearest, vectormachine
from workers.fitting.calibrating import Calibration, calibrate
from workers.fitting.fitted import Fitted, Kind
from workers.fitting.samples import Floats, Mask, Samples, Training, Weighing
from workers.heads import ZeroShotWeights

Parameters = Mapping[str, Any]
Grids = Mapping[Kind, Sequence[Parameters]]

GRIDS: Grids = {
    "zero-shot": ({},),
    "linear": linear.GRID,
    "knn": nearest.GRID,
    "mixture": nearest.MIXTURES,
    "svm": vectormachine.GRID,
    "mlp": adapter.GRID,
}
"""What is tried, in order of simplicity."""

_OF_TEXT: tuple[Kind, ...] = ("zero-shot", "mixture")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How heads are fitted and chosen.

    Parameters
    ----------
    heads
        Kinds that are tried.
    outer, inner
        Folds.
    seed
        Everything follows from it.
    """

    heads: tuple[Kind, ...] = ("linear", "knn", "svm", "mlp", "zero-shot", "mixture")
    outer: int = 5
    inner: int = 4
    seed: int = 0
    weighing: Weighing = Weighing.PATIENTS
    grids: Grids = field(default_factory=lambda: GRIDS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What the inner loop chose.

    Parameters
    ----------
    kind, parameters
        The head's.
    auc
        Mean over the inner folds: flattered by the choice, no estimate of anything.
    calibration
        Of its out-of-fold scores.
    """

    kind: Kind
    parameters: Parameters
    auc: float
    calibration: Calibration


def choose(
    samples: Samples, studies: Mask, plan: Plan, prompts: ZeroShotWeights | None
) -> Choice:
    """Return the best candidate, judged on some studies (S,) alone.

    Raises
    ------
    Permanent
        If they are too few, or there is nothing to choose from.
    """
    studies = studies & samples.known
    fold = inner_folds(samples, studies, plan)
    present = samples.present[studies]
    best: Choice | None = None
    best_scores = np.empty(0)
    for kind, grid in candidates(plan, prompts, count=len(samples.truth)).items():
        scores = _left_out(samples, fold, kind, grid, plan, prompts)
        areas = [_mean_auc(row[studies], present, fold[studies]) for row in scores]
        number = int(np.argmax(areas))
        if best is None or areas[number] > best.auc:
            best_scores = scores[number][studies]
            best = Choice(
                kind=kind,
                parameters=grid[number],
                auc=areas[number],
                calibration=calibrate(best_scores, present, fold[studies]),
            )
    if best is None:
        raise Permanent("a zero-shot head or a mixture needs prompts for the finding")
    return best


def fit(
    samples: Samples,
    studies: Mask,
    choice: Choice,
    plan: Plan,
    prompts: ZeroShotWeights | None,
) -> Fitted:
    """Return the head of a choice, fitted on some studies (S,)."""
    training = samples.training(studies, plan.weighing)
    return next(fits(choice.kind, training, [choice.parameters], plan.seed, prompts))


def fits(
    kind: Kind,
    training: Training,
    grid: Sequence[Parameters],
    seed: int,
    prompts: ZeroShotWeights | None,
) -> Iterator[Fitted]:
    """Yield a head of one kind for each set of parameters."""
    if kind == "linear":
        return linear.fits(training, grid)
    if kind == "svm":
        return vectormachine.fits(training, grid)
    if kind == "knn":
        return nearest.fits(training, grid)
    if kind == "mlp":
        return adapter.fits(training, grid, seed=seed)
    if prompts is None:
        raise Permanent(f"a {kind} head needs prompts for the finding")
    if kind == "mixture":
        return nearest.mixtures(training, grid, prompts)
    return iter([Fitted(kind="zero-shot", prompts=prompts)])


def inner_folds(samples: Samples, studies: Mask, plan: Plan) -> NDArray[np.int8]:
    """Return the inner fold of each study (S,); -1 for those that are not meant.

    Raises
    ------
    Permanent
        If there are too few patients with the finding, or without it.
    """
    for wanted, truth in (("with", True), ("without", False)):
        has = studies & samples.known & (samples.present == truth)
        patients = len(np.unique(samples.study_patient[has]))
        if patients < plan.inner:
            raise Permanent(
                f"{patients} patients {wanted} the finding are too few "
                f"for {plan.inner} inner folds"
            )
    fold = np.full(len(studies), -1, dtype=np.int8)
    fold[studies] = folds(
        samples.study_patient[studies],
        samples.study_truth[studies],
        plan.inner,
        seed=plan.seed,
    )
    return fold


def candidates(plan: Plan, prompts: ZeroShotWeights | None, *, count: int) -> Grids:
    """Return what is tried: without prompts nothing of text, of many images no SVM."""
    kinds = [kind for kind in plan.grids if kind in plan.heads]
    if prompts is None:
        kinds = [kind for kind in kinds if kind not in _OF_TEXT]
    if count > vectormachine.MOST and len(kinds) > 1:
        kinds = [kind for kind in kinds if kind != "svm"]
    return {kind: plan.grids[kind] for kind in kinds}


def _left_out(
    samples: Samples,
    fold: NDArray[np.int8],
    kind: Kind,
    grid: Sequence[Parameters],
    plan: Plan,
    prompts: ZeroShotWeights | None,
) -> Floats:
    """Return the out-of-fold scores of studies for each candidate, (G, S); NaN outside."""
    scores = np.full((len(grid), len(fold)), np.nan)
    for number in range(plan.inner):
        inside = fold == number
        training = samples.training((fold >= 0) & ~inside, plan.weighing)
        items = samples.items_of(inside)
        heads = fits(kind, training, grid, plan.seed, prompts)
        for row, head in zip(scores, heads, strict=True):
            row[inside] = samples.of_studies(head.scores(items), inside)
    return scores


def _mean_auc(scores: Floats, present: Mask, fold: NDArray[np.int8]) -> float:
    """Return the mean area over the folds that have both labels."""
    areas = [
        roc_auc_score(present[inside], scores[inside])
        for inside in (fold == number for number in np.unique(fold))
        if 0 < present[inside].sum() < inside.sum()
    ]
    return float(np.mean(areas)) if areas else 0.5
