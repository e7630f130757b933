"""The story: probes, strata, matching, verdict, for one label and one model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.measures import Area, Scores
from workers.placing import Progress
from workers.shortcuts.areas import area, lost, measurable
from workers.shortcuts.attributes import Attributes
from workers.shortcuts.families import families
from workers.shortcuts.matching import Matched, match
from workers.shortcuts.nested import Rowed, patientwise_folds
from workers.shortcuts.probing import Probe, probe
from workers.shortcuts.report import ShortcutReport, told
from workers.shortcuts.strata import Strata, quantiles, strata
from workers.shortcuts.verdict import Left, judged

OWN_FOLDS: Final = 5
_WITHIN: Final = ("view", "scanner", "site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How shortcuts are looked for.

    Parameters
    ----------
    leave_out
        Attributes that are the label itself, as "view" or "sex".
    controls
        Of the commoner class, matched to each of the rarer.
    """

    finding: str
    leave_out: tuple[str, ...] = ()
    controls: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What was found, and by which rows: to compare two models on the same ones.

    Parameters
    ----------
    rows
        Of the given ones, those that were matched, ascending.
    logit
        (N,) of the strongest probe, out of fold; nan where it says nothing.
    fold
        (N,) the fold that each row was probed in; -1 where it was left out.
    """

    report: ShortcutReport
    rows: NDArray[np.intp]
    logit: NDArray[np.float64]
    fold: NDArray[np.int8]


def look(
    scores: Scores,
    rowed: Rowed,
    attributes: Attributes,
    how: Looked,
    *,
    progress: Progress = lambda *_: None,
) -> Found:
    """Return what predicts a label beside anatomy, and what is left of a model.

    Parameters
    ----------
    scores
        (N,) of the model, higher for positives; nan where it did not evaluate.
    rowed
        Truth, patient, outer fold of each row; folds all -1 where the rows were held
        out: the probes then have folds of their own.
    attributes
        The same N rows.

    Raises
    ------
    Permanent
        If a patient is in two folds, or too few patients are there.
    """
    kept = np.flatnonzero(np.isfinite(scores))
    ours, own = _kept(rowed, kept, how.seed)
    seen = attributes.reordered([attributes.names[row] for row in kept])
    probes = _probed(seen, ours, how, progress)
    strongest = _strongest(probes)
    pairs = strongest and _matched(strongest, ours, how)
    rows = pairs.rows if pairs else np.zeros(0, np.intp)
    left = _left(scores[kept], ours, strongest, pairs) if strongest and pairs else None
    counted = {p.name: p.area for p in probes if p.counts and p.area is not None}
    verdict, reasons = judged(counted, left)
    report = ShortcutReport(
        finding=how.finding,
        raw=area(scores[kept], ours.truth, ours.patient),
        probes=tuple(told(p, _after(p, ours, rows)) for p in probes),
        strongest=strongest.name if strongest else "",
        strata=_within(scores[kept], ours, seen, strongest, how.leave_out),
        matched=left,
        verdict=verdict,
        reasons=reasons,
        left_out=len(scores) - len(kept),
        own_folds=own,
        seed=how.seed,
    )
    logit = np.full(len(scores), np.nan)
    if strongest is not None:
        logit[kept] = strongest.logit
    fold = np.full(len(scores), -1, np.int8)
    fold[kept] = ours.fold
    return Found(report=report, rows=kept[rows], logit=logit, fold=fold)


def _kept(rowed: Rowed, kept: NDArray[np.intp], seed: int) -> tuple[Rowed, bool]:
    """Return the rows that count, patients from 0 on, and whether folds are our own."""
    truth, fold = rowed.truth[kept], rowed.fold[kept]
    patient = np.unique(rowed.patient[kept], return_inverse=True)[1]
    own = bool((fold < 0).any())
    if own:
        fold = patientwise_folds(truth, patient, count=OWN_FOLDS, seed=seed)
    return Rowed(truth=truth, patient=patient, fold=fold), own


def _probed(
    seen: Attributes, ours: Rowed, how: Looked, progress: Progress
) -> list[Probe]:
    asked = families(seen, leave_out=how.leave_out)
    probes = []
    for done, family in enumerate(asked, 1):
        probes.append(probe(family, ours, seed=how.seed))
        progress("probing", done, len(asked))
    return probes


def _strongest(probes: Iterable[Probe]) -> Probe | None:
    fitted = [p for p in probes if p.counts and p.area is not None]
    return max(fitted, key=lambda p: p.area.value if p.area else 0.0, default=None)


def _matched(strongest: Probe, ours: Rowed, how: Looked) -> Matched:
    return match(
        strongest.logit,
        ours.truth,
        ours.patient,
        seed=how.seed,
        controls=how.controls,
    )


def _left(scores: Scores, ours: Rowed, strongest: Probe, pairs: Matched) -> Left:
    rows = pairs.rows
    truth, patient = ours.truth, ours.patient
    enough = measurable(truth, patient, rows)
    return Left(
        on=strongest.name,
        caliper=pairs.caliper,
        controls=pairs.controls.shape[1],
        positives=int(truth[rows].sum()),
        negatives=int((~truth[rows]).sum()),
        patients=len(np.unique(patient[rows])),
        balance=area(strongest.logit, truth, patient, rows) if enough else None,
        area=area(scores, truth, patient, rows) if enough else None,
        lost=lost(scores, truth, patient, rows) if enough else None,
    )


def _after(found: Probe, ours: Rowed, rows: NDArray[np.intp]) -> Area | None:
    if found.area is None or not measurable(ours.truth, ours.patient, rows):
        return None
    return area(found.logit, ours.truth, ours.patient, rows)


def _within(
    scores: Scores,
    ours: Rowed,
    seen: Attributes,
    strongest: Probe | None,
    leave_out: Iterable[str],
) -> tuple[Strata, ...]:
    groups: Mapping[str, tuple[str, ...]] = seen.groups()
    found = [
        strata(name, groups[name], scores, ours)
        for name in _WITHIN
        if name not in leave_out and len({*groups[name]} - {""}) > 1
    ]
    if strongest is not None:
        fifths = quantiles(strongest.logit)
        found.append(strata(f"score of {strongest.name}", fifths, scores, ours))
    return tuple(found)
