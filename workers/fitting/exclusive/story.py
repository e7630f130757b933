"""From labels and embeddings to a pack with a category: ``pack fit --exclusive``.

As `workers.fitting.story`, of labels that exclude one another. Nothing is written before
everything is fitted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.domain import Sha256
from workers.cohort import (
    Examples,
    ScoreTable,
    Truth,
    by_study,
    check_encoder,
    folds,
    write_scores,
)
from workers.fitting.byrole import roles_of
from workers.fitting.choosing import Plan
from workers.fitting.exclusive.asking import Question
from workers.fitting.exclusive.nested import Outcome, Procedure
from workers.fitting.exclusive.packing import write_category
from workers.fitting.exclusive.report import CategoryFit, judged
from workers.fitting.exclusive.samples import Samples, samples_of
from workers.fitting.packing import Identity
from workers.fitting.story import Material, outline
from workers.heads import TextEncoder
from workers.labels import LabelWeights, label_weights
from workers.pack import Pack
from workers.placing import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryReport:
    """The pack that was written, and the figures of its new category."""

    pack: Pack
    data: Sha256
    plan: Plan
    fit: CategoryFit

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            **outline(self.pack, self.data, self.plan),
            "categories": [self.fit.to_json()],
        }


def fit_category(  # noqa: PLR0913 - what a fit is made of
    pack: Pack,
    out: Path,
    material: Material,
    question: Question,
    *,
    plan: Plan,
    identity: Identity,
    progress: Progress,
    scores_out: Path | None = None,
) -> CategoryReport:
    """Return the pack that was written to `out`, with what is known of its category.

    Parameters
    ----------
    scores_out
        Where the shares of studies go that no head had seen: a column for each value.

    Raises
    ------
    Permanent
        If labels, embeddings and pack do not fit together, contradict themselves, or
        say too little.
    """
    check_encoder(material.embeddings, pack.encoder_key, pack.name)
    samples, examples = samples_of(material.cohort, material.embeddings, question)
    procedure = Procedure(
        samples=samples, plan=plan, texts=_texts(question, material.texts)
    )
    outcome = _outcome(procedure, examples, progress)
    kind = "test" if material.cohort.has_roles else "out-of-fold"
    fit = judged(question.key, samples, outcome, kind=kind)
    data = material.cohort.digest
    sealed = write_category(
        pack,
        out,
        question,
        outcome.head,
        fit,
        identity=identity,
        data=data,
        progress=progress,
    )
    report = CategoryReport(pack=sealed, data=data, plan=plan, fit=fit)
    if scores_out is not None:
        write_scores(_scores(question, samples, examples, outcome, report), scores_out)
    return report


def _outcome(procedure: Procedure, examples: Examples, progress: Progress) -> Outcome:
    samples, plan = procedure.samples, procedure.plan
    has_roles = any(role is not None for role in examples.roles)
    steps, done = 2 if has_roles else plan.outer + 1, 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("fitting", done, steps)

    if has_roles:
        return procedure.by_role(roles_of(examples), step)
    outer = folds(
        samples.study_patient, samples.study_value, plan.outer, seed=plan.seed
    )
    return procedure.crossed(outer, step)


def _texts(question: Question, encoder: TextEncoder | None) -> LabelWeights | None:
    """Return the head of the values' prompts, where each has some."""
    if encoder is None or not question.prompted:
        return None
    return label_weights(
        [encoder.embed_texts(value.prompts) for value in question.values],
        logit_scale=encoder.logit_scale,
    )


def _scores(
    question: Question,
    samples: Samples,
    examples: Examples,
    outcome: Outcome,
    report: CategoryReport,
) -> ScoreTable:
    """Return the shares of the studies that were scored, a column for each value."""
    kept = np.isfinite(outcome.shares).all(axis=1)
    values = np.arange(len(samples.names))
    known = samples.known[kept, None]
    has = samples.study_value[kept, None] == values
    truth = np.where(known, has.astype(np.int8), np.int8(Truth.MISSING))
    studies = by_study(examples)
    return ScoreTable(
        findings=tuple(f"{question.key}={name}" for name in samples.names),
        scores=outcome.shares[kept],
        truth=truth.astype(np.int8),
        values=np.full(truth.shape, np.nan),
        patient=samples.study_patient[kept],
        units=tuple(examples.studies[i] for i in studies.study[kept].tolist()),
        level="study",
        fold=outcome.fold[kept],
        calibrated=(report.fit.calibrated,) * len(values),
        pack=report.pack.digest,
        data=report.data,
        kind="test" if report.fit.kind == "test" else "out-of-fold",
    )
