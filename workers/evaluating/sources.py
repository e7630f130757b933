"""From packs, labels, embeddings and files of scores to what is evaluated.

A pack scores as it does where studies are concluded (`workers.scoring`). Where the labels
say which patients are for testing, only those are evaluated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.asked import EstimateSpec, FindingSpec
from workers.cohort import (
    Cohort,
    EmbeddingFile,
    Examples,
    Role,
    ScoreTable,
    by_study,
    check_encoder,
    join,
    read_embeddings,
    read_scores,
)
from workers.evaluating.asked import Cases, Point, Question
from workers.evaluating.retrieving import Library
from workers.heads import Heads
from workers.neighbours import nearby
from workers.pack import Pack
from workers.scoring import Inside, inside, rows_of_studies, score_studies

_SHORT = 12
_IN_WORDS: Final[Mapping[str, str]] = {
    "PatientSex": "sex",
    "ViewPosition": "view",
    "BodyPartExamined": "body part",
    "PatientOrientation": "orientation",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What is evaluated, the names of its rows, and the images behind them.

    Parameters
    ----------
    units
        UIDs of the rows.
    fold
        (S,) int8: in which fold a row was left out; -1: a held-out set.
    images, of_row
        SOP Instance UIDs (or those of series), and which row each belongs to; none of a
        file of scores.
    library
        Embeddings of the images; None of a file of scores.
    """

    cases: Cases
    units: tuple[str, ...]
    fold: NDArray[np.int8]
    images: tuple[str, ...] = ()
    of_row: NDArray[np.int32] | None = None
    library: Library | None = None


def from_scores(path: Path, pack: Pack | None, *, at: Pack | None = None) -> Source:
    """Return what a file of scores holds; thresholds are those of the pack, if any.

    Parameters
    ----------
    at
        The same pack at other thresholds.

    Raises
    ------
    Permanent
        If it is no such file, or its scores are another pack's.
    """
    table = read_scores(path)
    if pack is not None and table.pack != pack.digest:
        raise Permanent(
            f"{path} holds scores of another pack than {pack.name} {pack.version}, or of "
            "another version of it: score the studies again"
        )
    named = f"scores of pack {table.pack[:_SHORT]}" if pack is None else pack_name(pack)
    cases = _cases(
        table,
        _questions_of_table(table, at or pack),
        named,
        f"{path.name} ({table.data[:_SHORT]})",
    )
    return Source(
        cases=replace(cases, thresholds=thresholds_of(at or pack)),
        units=table.units,
        fold=table.fold,
    )


def from_pack(
    pack: Pack,
    heads: Heads,
    cohort: Cohort,
    embeddings: Sequence[Path],
    *,
    at: Pack | None = None,
) -> Source:
    """Return what a pack makes of labelled embeddings, and what is true of them.

    Parameters
    ----------
    embeddings
        Files of ``pacsight embed``: that of this pack's encoder is taken.
    at
        The same pack at other thresholds.

    Raises
    ------
    Permanent
        If no file is of its encoder, no finding of the pack is labelled, or no patient
        is for testing.
    """
    file = _of_encoder([read_embeddings(path) for path in embeddings], pack)
    specs = [s for s in pack.findings if s.key in cohort.findings and s.against is None]
    estimates = [e for e in pack.manifest.estimates if e.key in cohort.findings]
    if not specs and not estimates:
        known = ", ".join(spec.key for spec in pack.findings)
        raise Permanent(
            f"{cohort.origin} labels nothing that pack {pack.name} looks for: {known}"
        )
    keys = [*(spec.key for spec in specs), *(spec.key for spec in estimates)]
    examples = _for_testing(join(cohort, file, need=keys), cohort)
    narrowed = replace(pack, manifest=replace(pack.manifest, findings=tuple(specs)))
    through = inside(pack, examples)
    table = _scored(narrowed, heads, examples, through, estimates, cohort)
    pointed = {spec.key: spec for spec in (at or pack).findings}
    questions = (
        *(_finding(pointed[spec.key]) for spec in specs),
        *map(_quantity, estimates),
    )
    roles = "patients for testing" if cohort.has_roles else "all labelled patients"
    data = f"{Path(cohort.origin).name} ({cohort.digest[:_SHORT]}), {roles}"
    rows = by_study(examples)
    return Source(
        cases=replace(
            _cases(table, questions, pack_name(pack), data),
            thresholds=thresholds_of(at or pack),
            gate=_of_gate(pack, specs, examples, through),
        ),
        units=table.units,
        fold=table.fold,
        images=tuple(examples.units[unit] for unit in examples.frame_unit.tolist()),
        of_row=rows.of_row,
        library=library_of(examples),
    )


def pack_name(pack: Pack) -> str:
    """Return a pack as people call it, with the start of its digest."""
    return f"{pack.name} {pack.version} ({pack.digest[:_SHORT]})"


def thresholds_of(pack: Pack | None) -> str:
    """Return which threshold set a pack is at, as people call it; "" without a pack."""
    if pack is None:
        return ""
    named = f"{pack.manifest.threshold_set.name} ({pack.threshold_set_digest[:_SHORT]})"
    whose = (
        "as the pack ships them" if pack.thresholds is None else "a set of this site"
    )
    return f"{named}, {whose}"


def on_the_same_rows(first: Source, second: Source) -> tuple[Cases, Cases]:
    """Return the rows that two sources have in common, in the order of the first.

    Raises
    ------
    Permanent
        If there are none.
    """
    place = {unit: row for row, unit in enumerate(second.units)}
    rows = [row for row, unit in enumerate(first.units) if unit in place]
    if not rows:
        raise Permanent("the two have no study in common: nothing can be compared")
    others = [place[first.units[row]] for row in rows]
    one, other = _only(first.cases, rows), _only(second.cases, others)
    # patients are numbered by each source for itself
    return one, replace(other, patient=one.patient)


def library_of(examples: Examples) -> Library:
    """Return an embedding for each image (the mean of its frames), with its labels."""
    units, first, of_frame = np.unique(
        examples.frame_unit, return_index=True, return_inverse=True
    )
    vectors = examples.vectors[first]
    if len(units) < len(of_frame):
        vectors = np.zeros_like(vectors)
        np.add.at(vectors, of_frame, examples.vectors)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return Library(
        vectors=vectors,
        truth=examples.truth[first],
        patient=examples.patient[first],
        level="image",
    )


def _of_encoder(files: Sequence[EmbeddingFile], pack: Pack) -> EmbeddingFile:
    for file in files:
        if file.encoder_key == pack.encoder_key:
            return file
    check_encoder(files[0], pack.encoder_key, pack.name)
    return files[0]


def _for_testing(examples: Examples, cohort: Cohort) -> Examples:
    """Return the examples of patients for testing; all where nobody has a role."""
    if not cohort.has_roles:
        return examples
    rows = examples.in_role(Role.TEST)
    if not rows.any():
        raise Permanent(f"{cohort.origin} has no patient with the role test")
    if rows.all():
        return examples
    return replace(
        examples,
        vectors=examples.vectors[rows],
        frame_unit=examples.frame_unit[rows],
        patient=examples.patient[rows],
        study=examples.study[rows],
        volume=examples.volume[rows],
        truth=examples.truth[rows],
        values=examples.values[rows],
    )


def _scored(
    pack: Pack,
    heads: Heads,
    examples: Examples,
    through: Inside,
    estimates: Sequence[EstimateSpec],
    cohort: Cohort,
) -> ScoreTable:
    """Return the scores of findings, and after them the estimates."""
    table = score_studies(pack, heads, examples, data=cohort.digest, through=through)
    if not estimates:
        return table
    studies = by_study(examples)
    columns = [examples.findings.index(spec.key) for spec in estimates]
    rows = rows_of_studies(studies.of_row)
    found = [_estimates(pack, spec, examples, rows, through) for spec in estimates]
    return replace(
        table,
        findings=(*table.findings, *(spec.key for spec in estimates)),
        scores=np.column_stack([table.scores, *found]),
        truth=np.column_stack([table.truth, studies.truth[:, columns]]),
        values=np.column_stack([table.values, studies.values[:, columns]]),
        calibrated=(*table.calibrated, *(False for _ in estimates)),
    )


def _estimates(
    pack: Pack,
    spec: EstimateSpec,
    examples: Examples,
    rows: Sequence[NDArray[np.intp]],
    through: Inside,
) -> NDArray[np.float64]:
    """Return the estimate of each study; nan where the pack has none."""
    found = np.full(len(rows), np.nan)
    references, head = pack.references.get(spec.key), spec.head
    if references is None:
        return found
    kept = through.of([spec.accepts] if spec.accepts else pack.manifest.accepts)
    for study, every in enumerate(rows):
        some = every[kept[every]]
        if some.size:
            found[study] = nearby(
                references,
                examples.vectors[some],
                k=head.k,
                values=head.values,
                temperature=head.temperature,
            ).value
    return found


def _of_gate(
    pack: Pack, specs: Sequence[FindingSpec], examples: Examples, through: Inside
) -> str:
    """Return how many images the gate leaves out; "" where the pack has none."""
    if pack.gate is None:
        return ""
    out = np.zeros(len(examples.vectors), np.bool_)
    for spec in specs:
        out |= ~through.of_finding(pack, spec)
    left = len(np.unique(examples.frame_unit[out]))
    every = len(np.unique(examples.frame_unit))
    return (
        f"the pack's gate left out {left} of {every} images (or series), which lie "
        "outside what the pack was validated on"
    )


def _questions_of_table(table: ScoreTable, pack: Pack | None) -> tuple[Question, ...]:
    specs = {spec.key: spec for spec in pack.findings} if pack else {}
    estimates = {spec.key: spec for spec in pack.manifest.estimates} if pack else {}
    found = []
    for column, key in enumerate(table.findings):
        if key in specs:
            question = _finding(specs[key])
        elif key in estimates:
            question = _quantity(estimates[key])
        else:
            numbers = np.isfinite(table.values[:, column]).any()
            unit = "(unit not stated)" if numbers else ""
            question = Question(key=key, meaning=key, unit=unit)
        found.append(replace(question, calibrated=table.calibrated[column]))
    return tuple(found)


def _finding(spec: FindingSpec) -> Question:
    point = spec.operating_point
    return Question(
        key=spec.key,
        meaning=spec.meaning,
        points=(
            Point(name=point.name, threshold=point.threshold, rule_out=point.rule_out),
        ),
        calibrated=spec.calibration is not None,
        prevalence=None if spec.calibration is None else spec.calibration.prevalence,
        mode=spec.mode,
        itself=() if spec.against is None else (_IN_WORDS[spec.against.attribute],),
    )


def _quantity(spec: EstimateSpec) -> Question:
    return Question(key=spec.key, meaning=spec.meaning, unit=spec.measured_in.meaning)


def _cases(
    table: ScoreTable, questions: tuple[Question, ...], pack: str, data: str
) -> Cases:
    return Cases(
        questions=questions,
        scores=table.scores,
        truth=table.truth,
        values=table.values,
        patient=table.patient,
        level=table.level,
        kind=table.kind,
        pack=pack,
        data=data,
    )


def _only(cases: Cases, rows: Sequence[int]) -> Cases:
    return replace(
        cases,
        scores=cases.scores[rows],
        truth=cases.truth[rows],
        values=cases.values[rows],
        patient=cases.patient[rows],
    )
