"""The outer loop: scores by heads that were chosen, fitted and calibrated without them.

Varma and Simon, BMC Bioinformatics 2006; 7: 91. For each outer fold everything is chosen
on the others (`workers.fitting.choosing`), so the pooled out-of-fold scores judge the
whole procedure. The head that is kept is chosen and fitted in the same way on all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.fitting.choosing import Choice, Plan, choose, fit
from workers.fitting.fitted import Fitted
from workers.fitting.samples import Floats, Mask, Samples
from workers.heads import ZeroShotWeights

Step = Callable[[], None]
"""Called whenever something has been chosen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A head, and how the procedure that made it does on patients it has not seen.

    Parameters
    ----------
    head, choice
        What is kept.
    fold
        (S,) int8: the outer fold of each study; -1: not scored, or a held-out set.
    raw, scores
        (S,) of studies, out of fold or of the held-out set: as heads give them, and
        calibrated; NaN where not scored.
    images
        (N,) of items, as heads give them.
    choices
        Of each outer fold.
    """

    head: Fitted
    choice: Choice
    fold: NDArray[np.int8]
    raw: Floats
    scores: Floats
    images: Floats
    choices: tuple[Choice, ...]


def cross_validated(
    samples: Samples,
    outer: NDArray[np.int8],
    plan: Plan,
    *,
    prompts: ZeroShotWeights | None,
    step: Step,
) -> Outcome:
    """Return out-of-fold scores by outer folds (S,), and the head of all studies."""
    count = len(samples.study_truth)
    raw, scores = np.full(count, np.nan), np.full(count, np.nan)
    images = np.full(len(samples.truth), np.nan)
    choices = []
    for number in range(plan.outer):
        inside = outer == number
        choice, head = _made(samples, ~inside & (outer >= 0), plan, prompts)
        items = head.scores(samples.items_of(inside))
        images[inside[samples.study]] = items
        raw[inside] = samples.of_studies(items, inside)
        scores[inside] = choice.calibration.apply(raw[inside])
        choices.append(choice)
        step()
    choice, head = _made(samples, outer >= 0, plan, prompts)
    step()
    return Outcome(
        head=head,
        choice=choice,
        fold=outer,
        raw=raw,
        scores=scores,
        images=images,
        choices=tuple(choices),
    )


def _made(
    samples: Samples, studies: Mask, plan: Plan, prompts: ZeroShotWeights | None
) -> tuple[Choice, Fitted]:
    """Return what is chosen on some studies, and the head fitted on them."""
    choice = choose(samples, studies, plan, prompts)
    return choice, fit(samples, studies, choice, plan, prompts)
