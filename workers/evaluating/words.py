"""What figures come to, in plain words: no more than a rule or an interval says."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from workers.evaluating.figures import (
    Comparison,
    Counts,
    Evaluation,
    FindingFigures,
    PointFigures,
    ShortcutFigures,
)
from workers.evaluating.rows import too_few
from workers.measures import Area, Difference, Gap

CHANCE: Final = 0.5


def summary(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what a reader should know first: one line for each finding, and of all."""
    shortcuts = {found.finding: found for found in evaluation.shortcuts}
    return (
        *(
            f"{finding.meaning}: {in_short(finding, shortcuts.get(finding.key))}"
            for finding in evaluation.findings
        ),
        *(
            f"{quantity.meaning}: off by {quantity.mae} {quantity.unit} on average, in "
            f"{quantity.rows} studies of {quantity.patients} patients."
            for quantity in evaluation.quantities
            if quantity.mae is not None
        ),
        *_of_any_flag(evaluation),
        *(of_comparison(evaluation.comparison) if evaluation.comparison else ()),
    )


def in_short(finding: FindingFigures, shortcut: ShortcutFigures | None = None) -> str:
    """Return what the figures of one finding come to, in a line."""
    return " ".join(_sentences(finding, shortcut))


def at_length(finding: FindingFigures) -> str:
    """Return what the operating point and the groups of one finding show."""
    if finding.area is None or too_few(finding.counts):
        return " ".join(_sentences(finding, None))
    return " ".join(
        [*(_at(p) for p in finding.points), *_of_gaps(finding, limits=True)]
    )


def of_comparison(comparison: Comparison) -> list[str]:
    """Return whether one pack is ahead of the other, by finding."""
    said = []
    for found in comparison.findings:
        if found.area is None:
            said.append(f"{found.meaning}, both packs: {found.why_not}.")
            continue
        ahead = comparison.first if found.area.value > 0 else comparison.second
        verdict = f"{ahead} is ahead" if _shows(found.area) else "no difference shown"
        said.append(
            f"{found.meaning}, {comparison.first} less {comparison.second}: "
            f"area {found.area}: {verdict}."
        )
    return said


def _of_any_flag(evaluation: Evaluation) -> Iterator[str]:
    flagged = evaluation.any_flag
    if flagged is not None:
        yield (
            f"Of {flagged.n} studies without any finding, {flagged.hits} have a flag: "
            f"{flagged}."
        )


def _sentences(
    finding: FindingFigures, shortcut: ShortcutFigures | None
) -> Iterator[str]:
    if finding.area is None or too_few(finding.counts):
        yield f"{finding.why_not or too_few(finding.counts)}."
        return
    yield _of_area(finding.area)
    yield from _of_silence(finding.counts)
    if shortcut is not None:
        yield f"Shortcuts: {shortcut.verdict}."
    yield from _of_gaps(finding, limits=False)
    if not finding.calibrated:
        yield "Its score is no probability."
    if finding.mode == "shadow":
        yield "It runs in shadow mode and flags nothing."


def _of_silence(counts: Counts) -> Iterator[str]:
    """Yield how many studies got no score: no figure holds them."""
    silent, ill = counts.not_evaluated, counts.not_evaluated_positives
    if silent:
        labelled = counts.positives + counts.negatives + silent
        yield (
            f"{silent} of {labelled} labelled were not evaluated ({ill} with it, "
            f"{silent - ill} without), and no figure holds them."
        )


def _of_area(area: Area) -> str:
    if area.low > CHANCE:
        return "It separates better than chance."
    if area.high < CHANCE:
        return "It separates worse than chance."
    return "Chance is not excluded: the interval of its area holds 0.5."


def _at(point: PointFigures) -> str:
    alarms = point.at[0]
    return (
        f"At {point.name} it finds {_percent(point.sensitivity.value)} "
        f"({_percent(point.sensitivity.low)} to {_percent(point.sensitivity.high)}) of "
        f"studies with it and clears {_percent(point.specificity.value)} "
        f"({_percent(point.specificity.low)} to {_percent(point.specificity.high)}) of "
        f"those without; at {_percent(alarms.prevalence)} prevalence that is "
        f"{alarms.alarms_per_100:.0f} flags in 100 studies, {_ppv(alarms.ppv[0])}."
    )


def _ppv(value: float) -> str:
    if math.isnan(value):
        return "nothing is flagged"
    return f"{_percent(value)} of them right"


def _of_gaps(finding: FindingFigures, *, limits: bool) -> Iterator[str]:
    every = [
        (f"{attribute.name} {group.name}", group)
        for attribute in finding.attributes
        for group in attribute.groups
    ]
    if not every:
        return
    shown = [
        f"{name} ({', '.join(found)})"
        for name, group in every
        for found in [_shown(group.gaps, limits=limits)]
        if found
    ]
    if shown:
        yield f"Groups that differ from the rest: {'; '.join(shown)}."
    elif any(group.gaps for _, group in every):
        yield "No gap between groups is shown."
    small = sum(1 for _, group in every if group.too_few)
    if small:
        yield f"{small} of {len(every)} groups are too small to say."


def _shown(gaps: Mapping[str, Gap], *, limits: bool) -> list[str]:
    return [
        f"{figure} {gap if limits else format(gap.value, '+.3f')}"
        for figure, gap in gaps.items()
        if gap.shows
    ]


def _shows(difference: Difference) -> bool:
    return difference.low > 0 or difference.high < 0


def _percent(value: float) -> str:
    share = 100 * value
    digits = 1 if 0 < share < 10 or 90 < share < 100 else 0  # noqa: PLR2004 - per cent
    return f"{share:.{digits}f} %"
