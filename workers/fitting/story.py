"""From labels and embeddings to a pack: the story of ``pacsight pack fit``.

Labels and embeddings are read once and joined; the outer folds are made once, by
patient, for all findings; each finding gets its own head. Nothing is written before
everything is fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import (
    Cohort,
    EmbeddingFile,
    Examples,
    ScoreTable,
    StudyTruth,
    Truth,
    by_study,
    check_encoder,
    folds,
    join,
    write_scores,
)
from workers.fitting.asking import Asked
from workers.fitting.byrole import by_role, roles_of
from workers.fitting.choosing import Plan
from workers.fitting.nested import Outcome, cross_validated
from workers.fitting.packing import Identity, Made, write_pack
from workers.fitting.report import Fit, judged
from workers.fitting.samples import Samples, samples_of
from workers.heads import TextEncoder, ZeroShotWeights, zero_shot
from workers.pack import Pack
from workers.placing import Progress

IMAGES = "-images"
"""After the name of a file of scores: those of images beside those of studies."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitReport:
    """The pack that was written, and the figures of each of its new heads."""

    pack: Pack
    data: str
    plan: Plan
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            **outline(self.pack, self.data, self.plan),
            "findings": [fit.to_json() for fit in self.fits],
        }


def outline(pack: Pack, data: str, plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` says of every fit: the pack, the labels, the plan."""
    return {
        "folder": str(pack.folder),
        "name": pack.name,
        "version": pack.version,
        "device_uid": pack.device_uid,
        "data": data,
        "seed": plan.seed,
        "outer_folds": plan.outer,
        "inner_folds": plan.inner,
        "weighing": str(plan.weighing),
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What heads are fitted on: labels, embeddings, and texts where prompts are used."""

    cohort: Cohort
    embeddings: EmbeddingFile
    texts: TextEncoder | None = None


def fit_pack(  # noqa: PLR0913 - what a fit is made of
    pack: Pack,
    out: Path,
    material: Material,
    asked: Sequence[Asked],
    *,
    plan: Plan,
    identity: Identity,
    progress: Progress,
    scores_out: Path | None = None,
) -> FitReport:
    """Return the pack that was written to `out`, with what is known of its new heads.

    Parameters
    ----------
    asked
        Any number of findings.
    scores_out
        Where the scores of studies go that no head had seen; those of images go beside.

    Raises
    ------
    Permanent
        If labels, embeddings and pack do not fit together, or say too little.
    """
    check_encoder(material.embeddings, pack.encoder_key, pack.name)
    examples = join(
        material.cohort, material.embeddings, need=[one.label for one in asked]
    )
    _check_labels(examples)
    run = _Run(examples=examples, plan=plan, texts=material.texts, progress=progress)
    outcomes = run.outcomes(asked)
    made = [
        Made(asked=one, head=outcome.head, fit=run.judge(number, one, outcome))
        for number, (one, outcome) in enumerate(zip(asked, outcomes, strict=True))
    ]
    data = material.cohort.digest
    sealed = write_pack(
        pack, out, made, identity=identity, data=data, progress=progress
    )
    if scores_out is not None:
        tables = _Tables(run=run, pack=sealed, data=data, made=made, outcomes=outcomes)
        write_scores(tables.of_studies(), scores_out)
        images = scores_out.with_stem(scores_out.stem + IMAGES)
        write_scores(tables.of_images(), images)
    return FitReport(
        pack=sealed, data=data, plan=plan, fits=tuple(one.fit for one in made)
    )


def _check_labels(examples: Examples) -> None:
    """Refuse a finding of which there is one label only."""
    truth = by_study(examples).truth
    for finding, column in zip(examples.findings, truth.T, strict=True):
        for word, value in (("with", Truth.PRESENT), ("without", Truth.ABSENT)):
            if not (column == value).any():
                raise Permanent(
                    f"the labels know no study {word} {finding}: nothing can be fitted"
                )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """One way through the findings."""

    examples: Examples
    plan: Plan
    texts: TextEncoder | None
    progress: Progress

    @property
    def has_roles(self) -> bool:
        """Return whether roles are fixed."""
        return any(role is not None for role in self.examples.roles)

    def samples(self, number: int, asked: Asked) -> Samples:
        """Return the items of one finding."""
        return samples_of(self.examples, number, asked.aggregation)

    def judge(self, number: int, asked: Asked, outcome: Outcome) -> Fit:
        """Return the figures of one finding."""
        kind = "test" if self.has_roles else "out-of-fold"
        return judged(asked.label, self.samples(number, asked), outcome, kind=kind)

    def outcomes(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Return the head of each finding, with scores of patients it has not seen."""
        studies = by_study(self.examples)
        steps = 2 if self.has_roles else self.plan.outer + 1
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self.progress("fitting", done, steps * len(asked))

        if self.has_roles:
            roles = roles_of(self.examples)
            return [
                by_role(
                    self.samples(number, one),
                    roles,
                    self.plan,
                    prompts=self._prompts(one),
                    step=step,
                )
                for number, one in enumerate(asked)
            ]
        outer = _outer(studies, self.plan)
        return [
            cross_validated(
                self.samples(number, one),
                outer,
                self.plan,
                prompts=self._prompts(one),
                step=step,
            )
            for number, one in enumerate(asked)
        ]

    def _prompts(self, asked: Asked) -> ZeroShotWeights | None:
        if self.texts is None or asked.prompts is None:
            return None
        return zero_shot(
            self.texts.embed_texts(asked.prompts.positive),
            self.texts.embed_texts(asked.prompts.negative),
            logit_scale=self.texts.logit_scale,
        )


def _outer(studies: StudyTruth, plan: Plan) -> NDArray[np.int8]:
    return folds(studies.patient, studies.truth, plan.outer, seed=plan.seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tables:
    """The scores of all findings, of studies and of images."""

    run: _Run
    pack: Pack
    data: str
    made: Sequence[Made]
    outcomes: Sequence[Outcome]

    def of_studies(self) -> ScoreTable:
        """Return the calibrated scores of the studies that were scored."""
        studies = by_study(self.run.examples)
        scores = np.stack([outcome.scores for outcome in self.outcomes], axis=1)
        names = self.run.examples.studies
        kept = np.isfinite(scores).any(axis=1)
        return ScoreTable(
            **self._common(),
            scores=scores[kept],
            truth=studies.truth[kept],
            values=studies.values[kept],
            patient=studies.patient[kept],
            units=tuple(names[i] for i in studies.study[kept].tolist()),
            level="study",
            fold=self.outcomes[0].fold[kept],
            calibrated=tuple(one.fit.calibrated for one in self.made),
        )

    def of_images(self) -> ScoreTable:
        """Return the scores of frames as heads give them; of volumes there are none."""
        examples = self.run.examples
        of_row = by_study(examples).of_row
        rows = len(examples.vectors)
        scores = np.stack(
            [
                outcome.images if len(outcome.images) == rows else np.full(rows, np.nan)
                for outcome in self.outcomes
            ],
            axis=1,
        )
        kept = np.isfinite(scores).any(axis=1)
        units = examples.frame_unit[kept].tolist()
        return ScoreTable(
            **self._common(),
            scores=scores[kept],
            truth=examples.truth[kept],
            values=examples.values[kept],
            patient=examples.patient[kept],
            units=tuple(examples.units[i] for i in units),
            level="image",
            fold=self.outcomes[0].fold[of_row][kept],
            calibrated=(False,) * len(self.made),
        )

    def _common(self) -> Mapping[str, Any]:
        return {
            "findings": tuple(one.asked.key for one in self.made),
            "pack": self.pack.digest,
            "data": self.data,
            "kind": "test" if self.run.has_roles else "out-of-fold",
        }
