"""What probes for shortcuts find, finding by finding, as the report shows it.

On the model's own outer folds where its scores are out of fold; else the probes are
cross-validated by patient on the rows themselves (`workers.shortcuts.looking`).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import Truth as Label
from workers.evaluating.asked import Cases
from workers.evaluating.beside import Beside
from workers.evaluating.figures import Alone, BaselineFigures, ShortcutFigures
from workers.evaluating.rows import rows_of, too_few
from workers.measures import Area, Undefined, paired_difference
from workers.placing import Progress
from workers.shortcuts.areas import area, measurable
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.nested import Features, Rowed
from workers.shortcuts.report import ShortcutReport
from workers.shortcuts.texture import texture_scores
from workers.shortcuts.verdict import Verdict

_STEPS = 100


def probed(
    cases: Cases,
    fold: NDArray[np.int8],
    beside: Beside,
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[ShortcutFigures, ...]:
    """Return what tells each finding of `cases` beside anatomy.

    Parameters
    ----------
    fold
        (S,) in which outer fold a row was left out; -1: a held-out set.
    """
    columns = [n for n, question in enumerate(cases.questions) if not question.unit]
    found = []
    for done, column in enumerate(columns):

        def step(_: str, part: int, parts: int, done: int = done) -> None:
            share = _STEPS * done + (_STEPS - 1) * part // parts
            progress("shortcuts", share, _STEPS * len(columns))

        found.append(_of_finding(cases, column, fold, beside, seed, step))
    progress("shortcuts", _STEPS * len(columns), _STEPS * len(columns))
    return tuple(found)


def shortcut_figures(
    key: str, report: ShortcutReport, baseline: BaselineFigures | None = None
) -> ShortcutFigures:
    """Return the part of an `Evaluation` that says what probes found."""
    return ShortcutFigures(
        finding=key,
        shadow=report.verdict is Verdict.SHADOW,
        verdict=report.verdict.value,
        sentences=report.sentences,
        alone=tuple(_alone(report, baseline)),
        detail=report,
        baseline=baseline,
    )


def _of_finding(
    cases: Cases,
    column: int,
    fold: NDArray[np.int8],
    beside: Beside,
    seed: int,
    progress: Progress,
) -> ShortcutFigures:
    question, truth = cases.questions[column], cases.truth[:, column]
    why = too_few(rows_of(cases, column).counts)
    if why:
        return _unseen(question.key, why)
    where = np.flatnonzero((truth == Label.PRESENT) | (truth == Label.ABSENT))
    names = [beside.attributes.names[row] for row in where]
    scores = cases.scores[where, column]
    try:
        rowed = Rowed(
            truth=truth[where] == Label.PRESENT,
            patient=np.unique(cases.patient[where], return_inverse=True)[1],
            fold=fold[where],
        )
        found = look(
            scores,
            rowed,
            beside.attributes.reordered(names),
            Looked(finding=question.meaning, leave_out=question.itself, seed=seed),
            progress=progress,
        )
        plain = _baseline(scores, rowed, found, beside.texture[where], seed)
    except (Permanent, Undefined) as error:  # folds that leave too little to learn from
        return _unseen(question.key, str(error))
    return shortcut_figures(question.key, found.report, plain)


def _baseline(
    scores: NDArray[np.float64],
    rowed: Rowed,
    found: Found,
    texture: Features,
    seed: int,
) -> BaselineFigures:
    """Return the plain baseline of the rows that were scored, on the probes' folds."""
    kept = np.flatnonzero(found.fold >= 0)
    matched = np.searchsorted(kept, found.rows)
    ours = replace(
        rowed,
        truth=rowed.truth[kept],
        patient=np.unique(rowed.patient[kept], return_inverse=True)[1],
        fold=found.fold[kept],
    )
    plain = texture_scores(texture[kept], ours, seed=seed)
    truth, patient, model = ours.truth, ours.patient, scores[kept]
    enough = measurable(truth, patient, matched)
    columns = truth[matched], patient[matched]
    return BaselineFigures(
        area=area(plain, truth, patient),
        gap=paired_difference(model, plain, truth, patient),
        matched=area(plain, truth, patient, matched) if enough else None,
        matched_gap=paired_difference(model[matched], plain[matched], *columns)
        if enough
        else None,
    )


def _unseen(key: str, why: str) -> ShortcutFigures:
    """Return what is said where no probe could be measured: the rule asks for shadow."""
    return ShortcutFigures(
        finding=key,
        shadow=True,
        verdict=Verdict.SHADOW.value,
        sentences=(f"No probe could be measured: {why}.",),
        alone=(),
    )


def _alone(report: ShortcutReport, baseline: BaselineFigures | None) -> Iterator[Alone]:
    """Yield the model, the model on matched samples, baseline, probes, best first."""
    yield _one("the model", report.raw)
    if report.matched is not None and report.matched.area is not None:
        yield _one("the model, matched", report.matched.area)
    if baseline is not None:
        yield _one("plain baseline", baseline.area)
    found = [(probe.name, probe.area) for probe in report.probes if probe.area]
    for name, each in sorted(found, key=lambda one: -one[1].value):
        yield _one(name, each)


def _one(name: str, found: Area) -> Alone:
    return Alone(name=name, value=found.value, low=found.low, high=found.high)
