"""Where scores can be cut, and which cut a rule takes. Pure: counts in, thresholds out.

Scores that are equal in float32 are equal here, so that a score lies on the same side
of a threshold in either precision.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.thresholds.rules import (
    PositivePredictive,
    RuleInOut,
    Sensitivity,
    Single,
    Specificity,
    Youden,
)

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""A share that is so little below its target has reached it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuts:
    """Every cut of a set of scores: cut i flags the i highest levels.

    Parameters
    ----------
    tops, bottoms
        Highest and lowest score of each level, falling, (M,). They differ by less
        than float32 can tell.
    found, alarms
        Studies with and without the finding that each cut flags, (M + 1,): from none
        to all. Counts, or sums of weights.
    """

    tops: Floats
    bottoms: Floats
    found: Floats
    alarms: Floats

    @property
    def sensitivity(self) -> Floats:
        """Return the share of studies with the finding that each cut flags."""
        share: Floats = self.found / max(self.found[-1], 1e-300)
        return share

    @property
    def specificity(self) -> Floats:
        """Return the share of studies without it that each cut leaves."""
        share: Floats = 1 - self.alarms / max(self.alarms[-1], 1e-300)
        return share

    def threshold(self, cut: int) -> float:
        """Return a number t, so that ``score >= t`` flags what the cut flags.

        Midway to the next score below, so that rounding does not reach it.
        """
        if cut == 0:
            return float(np.nextafter(np.float32(self.tops[0]), np.float32(np.inf)))
        above = float(self.bottoms[cut - 1])
        if cut == len(self.tops):
            return float(np.nextafter(np.float32(above), np.float32(-np.inf)))
        below = float(self.tops[cut])
        middle = below + (above - below) / 2
        return middle if middle > below else above


def cuts_of(
    scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None
) -> Cuts:
    """Return the cuts of studies with these scores (N,); `weights` count them.

    A study of weight 0 is not there. At least one has to be.
    """
    counted = np.ones(len(scores)) if weights is None else weights
    there = np.flatnonzero(counted > 0)
    order = there[np.argsort(-scores[there], kind="stable")]
    falling = scores[order]
    last = np.append(np.diff(falling.astype(np.float32)) != 0, True)
    ends = np.flatnonzero(last)
    starts = np.append(0, ends[:-1] + 1)
    return Cuts(
        tops=falling[starts],
        bottoms=falling[ends],
        found=_running(counted[order] * truth[order], ends),
        alarms=_running(counted[order] * ~truth[order], ends),
    )


def _running(weights: Floats, ends: NDArray[np.intp]) -> Floats:
    return np.append(0.0, np.cumsum(weights)[ends])


def cut_for(rule: Single, cuts: Cuts) -> int | None:
    """Return the cut that a rule takes; None where none reaches the target.

    Of those that reach it, the one that flags most of what is to be found, and of
    these the one that flags least besides. For a sensitivity, the one that flags least.
    """
    sensitivity, specificity = cuts.sensitivity, cuts.specificity
    match rule:
        case Sensitivity(at_least=share):
            return int(np.argmax(sensitivity >= share - _ROUNDING))
        case Specificity(at_least=share):
            reached = specificity >= share - _ROUNDING
        case PositivePredictive(at_least=share):
            reached = _ppv(sensitivity, specificity, rule.prevalence) >= share
        case Youden():
            index = sensitivity + specificity
            reached = index >= index.max() - _ROUNDING
    if not reached.any():
        return None
    most = sensitivity[reached].max()
    return int(np.argmax(reached & (sensitivity >= most)))


def _ppv(sensitivity: Floats, specificity: Floats, prevalence: float) -> Floats:
    right = sensitivity * prevalence
    flagged = right + (1 - specificity) * (1 - prevalence)
    return np.where(flagged > 0, right / np.maximum(flagged, 1e-300), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A threshold, and the lower end of the band where there is one."""

    threshold: float
    rule_out: float | None = None

    @property
    def lowest(self) -> float:
        """Return below what a study is ruled out."""
        return self.threshold if self.rule_out is None else self.rule_out


def ends_for(rule: Single | RuleInOut, cuts: Cuts) -> Ends | None:
    """Return the threshold, or the pair, that a rule takes; None where none is right.

    A pair whose ends would cross needs no band: one threshold reaches both targets.
    """
    if not isinstance(rule, RuleInOut):
        cut = cut_for(rule, cuts)
        return None if cut is None else Ends(threshold=cuts.threshold(cut))
    inside, outside = cut_for(rule.rule_in, cuts), cut_for(rule.rule_out, cuts)
    if inside is None or outside is None:
        return None
    if outside <= inside:
        return Ends(threshold=cuts.threshold(inside))
    return Ends(threshold=cuts.threshold(inside), rule_out=cuts.threshold(outside))
