"""A threshold chosen on some patients and measured on others.

Two ways: the studies that choose and those that judge are of different patients, or
they are out-of-fold scores and every fold is judged at the threshold that the others
chose. Pure: arrays in, a frozen value out.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.measures import clustered_proportion, exact_proportion, roc
from workers.thresholds.cuts import Cuts, Ends, cuts_of, ends_for
from workers.thresholds.limits import lower_limit, patients_needed, stricter
from workers.thresholds.nested import Spread, by_folds, spread
from workers.thresholds.rules import (
    Rule,
    RuleInOut,
    Sensitivity,
    Specificity,
)
from workers.thresholds.samples import Answers, Sample, answers
from workers.thresholds.sets import MOST_ROC_POINTS, Counts, Figure

RUNS = 500
"""Samples of the bootstrap."""
OUT_OF_FOLD = "out of fold: each fold is judged at the threshold that the others chose"
HELD_OUT = "held out: patients that had no part in choosing"

_ROUNDING = 1e-9

What = Literal["sensitivity", "specificity", "kept"]
_WORDS: dict[What, str] = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "kept": "sensitivity of the rule-out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a threshold.

    Parameters
    ----------
    confidence
        That the lower limit reaches the target with; None: the figure itself has to.
    allow_undemonstrated
        Whether a threshold is given that could not be shown to reach it.
    runs, seed
        Of the bootstrap.
    """

    finding: str
    rule: Rule
    confidence: float | None = None
    allow_undemonstrated: bool = False
    runs: int = RUNS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.confidence is None:
            return
        if not 0.5 <= self.confidence < 1:  # noqa: PLR2004 - less is no confidence
            raise Permanent(
                f"a confidence lies from 0.5 to 1, and {self.confidence:g} does not"
            )
        if any(share == 1 for share in self.targets.values()):
            raise Permanent("a share of 1 cannot be demonstrated, whatever the number")
        if not self.targets:
            raise Permanent(
                "a confidence goes with a sensitivity, a specificity or a pair: of a "
                "PPV and of Youden's index there is no share of studies to demonstrate"
            )

    @property
    def targets(self) -> dict[What, float]:
        """Return the shares that can be demonstrated."""
        match self.rule:
            case Sensitivity(at_least=share):
                return {"sensitivity": share}
            case Specificity(at_least=share):
                return {"specificity": share}
            case RuleInOut(rule_in=inside, rule_out=outside):
                return {"specificity": inside.at_least, "kept": outside.at_least}
            case _:
                return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A threshold, and what was measured at it.

    Parameters
    ----------
    indeterminate
        Share of studies between the two ends; None where there is one end.
    roc
        Points of (false positive rate, sensitivity, threshold).
    data
        Digest of what chose and what measured.
    """

    ends: Ends
    demonstrated: bool | None
    chosen_on: Counts
    measured_on: Counts
    sensitivity: Figure
    specificity: Figure
    rule_out_sensitivity: Figure | None
    indeterminate: float | None
    roc: tuple[tuple[float, float, float], ...]
    split: str
    data: str


def choose(wish: Wish, sample: Sample, judge: Sample | None = None) -> Chosen:
    """Return the threshold that `sample` chooses, measured on `judge`, or by its folds.

    Parameters
    ----------
    judge
        Studies of other patients; None: `sample` has folds.

    Raises
    ------
    Permanent
        If a class is missing, the target cannot be reached, or `wish.confidence`
        cannot be met and nobody allowed that.
    """
    seen = judge or sample
    _check_classes(wish, sample, seen)
    _check_numbers(wish, seen)
    rule = _strict(wish, sample)
    cuts = cuts_of(sample.scores, sample.truth)
    ends = _useful(ends_for(rule, cuts), wish, cuts)
    told = by_folds(rule, sample) if judge is None else answers(ends, judge.scores)
    varied = (
        spread(rule, sample, runs=wish.runs, seed=wish.seed) if judge is None else None
    )
    limits = _limits(wish, ends, seen)
    figures = {what: _figure(what, told, seen, varied, limits) for what in _WORDS}
    band = ends.rule_out is not None
    return Chosen(
        ends=ends,
        demonstrated=_demonstrated(wish, limits),
        chosen_on=sample.counts,
        measured_on=seen.counts,
        sensitivity=figures["sensitivity"],
        specificity=figures["specificity"],
        rule_out_sensitivity=figures["kept"] if band else None,
        indeterminate=told.indeterminate if band else None,
        roc=_curve(seen),
        split=OUT_OF_FOLD if judge is None else HELD_OUT,
        data=sha256(f"{sample.digest} {seen.digest}".encode()).hexdigest(),
    )


def _check_classes(wish: Wish, *samples: Sample) -> None:
    for sample in samples:
        counts = sample.counts
        if not counts.positive_studies or not counts.negative_studies:
            missing = "with" if not counts.positive_studies else "without"
            raise Permanent(
                f"there is no study {missing} {wish.finding}: a threshold needs "
                "studies of both kinds, to choose on and to judge on"
            )


def _check_numbers(wish: Wish, seen: Sample) -> None:
    """Raise where so few patients could not show the target, whatever is found."""
    if wish.confidence is None or wish.allow_undemonstrated:
        return
    counts = seen.counts
    for what, share in wish.targets.items():
        specific = what == "specificity"
        patients = counts.negative_patients if specific else counts.positive_patients
        needed = patients_needed(share, confidence=wish.confidence)
        if patients < needed:
            raise Permanent(
                f"{patients} patients {'without' if specific else 'with'} "
                f"{wish.finding} cannot show a {_WORDS[what]} of {share:g} at confidence "
                f"{wish.confidence:g}, even if every one is right: at least {needed} are "
                "needed, or --allow-undemonstrated"
            )


def _strict(wish: Wish, sample: Sample) -> Rule:
    """Return the rule, so much stricter that its limit reaches the target."""
    match wish.rule:
        case _ if wish.confidence is None:
            return wish.rule
        case Sensitivity(at_least=share):
            return _sensitive(share, sample, wish.confidence)
        case Specificity(at_least=share):
            return _specific(share, sample, wish.confidence)
        case RuleInOut(rule_in=inside, rule_out=outside):
            return RuleInOut(
                rule_in=_specific(inside.at_least, sample, wish.confidence),
                rule_out=_sensitive(outside.at_least, sample, wish.confidence),
            )
    return wish.rule


def _sensitive(share: float, sample: Sample, confidence: float) -> Sensitivity:
    ranks, patient = sample.scores[sample.truth], sample.patient[sample.truth]
    strict = stricter(ranks, patient, share, confidence=confidence)
    return Sensitivity(at_least=strict)


def _specific(share: float, sample: Sample, confidence: float) -> Specificity:
    ranks, patient = -sample.scores[~sample.truth], sample.patient[~sample.truth]
    strict = stricter(ranks, patient, share, confidence=confidence)
    return Specificity(at_least=strict)


def _useful(ends: Ends | None, wish: Wish, cuts: Cuts) -> Ends:
    """Return the ends, unless they would flag every study or none."""
    if ends is None:
        raise Permanent(
            f"no threshold reaches {wish.rule.name} for {wish.finding}: "
            f"the scores do not allow it"
        )
    if ends.threshold > cuts.tops[0]:
        raise Permanent(
            f"{wish.rule.name} for {wish.finding} is reached only where nothing is "
            "flagged: ask for less, or for another finding"
        )
    if ends.lowest <= cuts.bottoms[-1]:
        raise Permanent(
            f"{wish.rule.name} for {wish.finding} is reached only where every study is "
            "flagged, or none ruled out: ask for less, or fit the finding anew"
        )
    return ends


def _hits(what: What, told: Answers, seen: Sample) -> NDArray[np.bool_]:
    match what:
        case "sensitivity":
            return told.flagged[seen.truth]
        case "specificity":
            return ~told.flagged[~seen.truth]
        case "kept":
            return told.kept[seen.truth]


def _limits(wish: Wish, ends: Ends, seen: Sample) -> dict[What, float]:
    """Return the lower limit of each target, at the threshold itself."""
    if wish.confidence is None:
        return {}
    told = answers(ends, seen.scores)
    return {
        what: lower_limit(
            _hits(what, told, seen),
            seen.patient[~seen.truth if what == "specificity" else seen.truth],
            confidence=wish.confidence,
        )
        for what in wish.targets
    }


def _demonstrated(wish: Wish, limits: dict[What, float]) -> bool | None:
    """Return whether every limit reaches its target; None where nobody asked.

    Raises
    ------
    Permanent
        If one does not, and nobody allowed that.
    """
    if wish.confidence is None:
        return None
    for what, share in wish.targets.items():
        if limits[what] >= share - _ROUNDING:
            continue
        if wish.allow_undemonstrated:
            return False
        raise Permanent(
            f"the {_WORDS[what]} of {wish.finding} is not shown to reach {share:g}: its "
            f"lower limit at confidence {wish.confidence:g} is {limits[what]:.3f}; more "
            "patients are needed, or --allow-undemonstrated"
        )
    return True


def _figure(
    what: What,
    told: Answers,
    seen: Sample,
    varied: Spread | None,
    limits: dict[What, float],
) -> Figure:
    of = ~seen.truth if what == "specificity" else seen.truth
    # a threshold chosen on these very patients has the limits of its rank: exact ones
    measure = clustered_proportion if varied is None else exact_proportion
    found = measure(_hits(what, told, seen), seen.patient[of])
    low, high = found.low, found.high
    if varied is not None:
        samples = getattr(varied, what)
        low, high = min(low, samples[0]), max(high, samples[1])
    return Figure(
        value=found.value,
        low=low,
        high=high,
        hits=found.hits,
        n=found.n,
        patients=found.patients,
        lower_limit=limits.get(what),
    )


def _curve(seen: Sample) -> tuple[tuple[float, float, float], ...]:
    curve = roc(seen.scores, seen.truth).thinned(MOST_ROC_POINTS)
    highest = float(np.nextafter(seen.scores.max(), np.inf))
    return tuple(
        (float(1 - right), float(found), min(float(threshold), highest))
        for threshold, found, right in zip(
            curve.thresholds, curve.sensitivity, curve.specificity, strict=True
        )
    )
