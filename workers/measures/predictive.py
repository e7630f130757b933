"""What a flag means where the finding has a given prevalence: Bayes' rule."""

from dataclasses import dataclass

from workers.measures.proportions import Proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictive:
    """Predictive values at a prevalence, and flags among 100 studies.

    Parameters
    ----------
    ppv, npv
        nan where nothing would be flagged, or everything.
    """

    prevalence: float
    ppv: float
    npv: float
    alarms_per_100: float


def predictive(sensitivity: float, specificity: float, prevalence: float) -> Predictive:
    """Return what flags mean at a prevalence, all in [0, 1]."""
    true = sensitivity * prevalence
    false = (1 - specificity) * (1 - prevalence)
    missed = (1 - sensitivity) * prevalence
    clear = specificity * (1 - prevalence)
    return Predictive(
        prevalence=prevalence,
        ppv=_share(true, true + false),
        npv=_share(clear, clear + missed),
        alarms_per_100=100 * (true + false),
    )


def predictive_range(
    sensitivity: Proportion, specificity: Proportion, prevalence: float
) -> tuple[Predictive, Predictive]:
    """Return the values at both lower limits, and at both upper limits.

    Predictive values grow with sensitivity and with specificity, so theirs lie between.
    Alarms do not: take those of the values themselves.
    """
    low = predictive(sensitivity.low, specificity.low, prevalence)
    high = predictive(sensitivity.high, specificity.high, prevalence)
    return low, high


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
