"""Whether a finding may be flagged, as far as shortcuts go: a rule written beforehand."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from workers.measures import Area, Difference

HIGHEST_LIMIT: Final = 0.65
FEWEST_MATCHED: Final = 30

RULE: Final = (
    "Shadow mode where the lower 95 % limit of a probe's area exceeds 0.65, where the "
    "matched area lies below the raw one by more than the paired interval of their "
    "difference (its lower 95 % limit is above 0), or where fewer than 30 matched "
    "positives or negatives are left; also where no probe could be measured. "
    "Otherwise: no shortcut found by these probes."
)
"""Applied as it stands; it is not changed once figures are known."""


class Verdict(StrEnum):
    """What the rule says."""

    SHADOW = "shadow mode"
    CLEAN = "no shortcut found by these probes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A model's area on matched samples, beside its area on all of them.

    Parameters
    ----------
    on
        The probe that was matched for.
    balance
        The probe's own area after matching: near 0.5 where matching has worked.
    lost
        Raw minus matched area, paired by patient.
    """

    on: str
    caliper: float
    controls: int
    positives: int
    negatives: int
    patients: int
    balance: Area | None
    area: Area | None
    lost: Difference | None


def judged(
    probes: dict[str, Area], left: Left | None
) -> tuple[Verdict, tuple[str, ...]]:
    """Return what the rule says, and a sentence for each reason.

    Parameters
    ----------
    probes
        The areas of those that count, by name.
    left
        None where there was no probe to match for.
    """
    reasons = [
        f"The probe of {name} alone reaches {area}: its lower limit exceeds "
        f"{HIGHEST_LIMIT:.2f}."
        for name, area in probes.items()
        if area.low > HIGHEST_LIMIT
    ]
    if left is None:
        reasons.append("No probe could be measured.")
    else:
        reasons += _of_matching(left)
    return (Verdict.SHADOW if reasons else Verdict.CLEAN), tuple(reasons)


def _of_matching(left: Left) -> list[str]:
    reasons = []
    if left.lost is not None and left.lost.low > 0:
        reasons.append(
            f"On samples matched for {left.on} the area is lower by {left.lost}."
        )
    if min(left.positives, left.negatives) < FEWEST_MATCHED:
        reasons.append(
            f"Matching for {left.on} leaves {left.positives} positives and "
            f"{left.negatives} negatives: fewer than {FEWEST_MATCHED}."
        )
    return reasons
