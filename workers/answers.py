"""What is said of a study beside findings: a category's label, an estimate's value.

Pure, numpy only. Neither raises a flag; without an answer there is a reason.
"""

import numpy as np

from dicom_node.domain import Category, Choice, Estimate, FrameScore, Score
from workers.asked import CategorySpec, EstimateSpec
from workers.labels import LabelHead, shares
from workers.neighbours import References, nearby
from workers.study import EVIDENCE, NO_NUMBER, Study, evidence_of, image_ref, images_in

NO_REFERENCES = (
    "this pack has no labelled reference images: supply them with "
    "`pacsight pack references`"
)


def categorise(head: LabelHead, spec: CategorySpec, study: Study) -> Category:
    """Return the label that the frames of `study` show most."""
    seen = study.seen
    frames, why_not = seen.frames, seen.why_not
    if not why_not:
        whole, each = shares(
            head,
            np.stack([frame.vector for frame in frames]),
            temperature=spec.calibration.temperature if spec.calibration else 1.0,
        )
        if not np.isfinite(each).all():
            why_not = NO_NUMBER
    if why_not:
        return Category(
            key=spec.key,
            concept=spec.concept,
            chosen=None,
            runner_up=None,
            labels=len(spec.labels),
            evidence=(),
            images_scored=0,
            reason=why_not,
        )
    first, second = np.argsort(-whole, kind="stable")[:2].tolist()
    return Category(
        key=spec.key,
        concept=spec.concept,
        chosen=_choice(spec, first, whole[first]),
        runner_up=_choice(spec, second, whole[second]),
        labels=len(spec.labels),
        evidence=evidence_of(frames, each[:, first]),
        images_scored=images_in(frames),
        selection=seen.words,
    )


def _choice(spec: CategorySpec, index: int, share: float) -> Choice:
    score = Score(
        value=float(share),
        calibration_set=spec.calibration.set if spec.calibration else "",
    )
    return Choice(label=spec.labels[index].concept, score=score)


def estimate(
    references: References | None, spec: EstimateSpec, study: Study
) -> Estimate:
    """Return the value that references near to the frames of `study` have."""
    seen = study.seen
    frames = seen.frames
    why_not = seen.why_not or (NO_REFERENCES if references is None else "")
    if not why_not and not all(np.isfinite(frame.vector).all() for frame in frames):
        why_not = NO_NUMBER
    if references is None or why_not:
        return _estimated(spec, references, reason=why_not)
    head = spec.head
    found = nearby(
        references,
        np.stack([frame.vector for frame in frames]),
        k=head.k,
        values=head.values,
        temperature=head.temperature,
    )
    evidence = tuple(
        FrameScore(image=image_ref(frame.source), frame=frame.frame, score=value)
        for frame, value in zip(frames, found.frames, strict=True)
    )
    return _estimated(
        spec,
        references,
        value=found.value,
        spread=found.spread,
        evidence=evidence[:EVIDENCE],
        images_scored=images_in(frames),
        selection=seen.words,
    )


def _estimated(  # noqa: PLR0913 - the parts of an estimate
    spec: EstimateSpec,
    references: References | None,
    *,
    value: float | None = None,
    spread: float | None = None,
    evidence: tuple[FrameScore, ...] = (),
    images_scored: int = 0,
    selection: str = "",
    reason: str = "",
) -> Estimate:
    return Estimate(
        key=spec.key,
        concept=spec.concept,
        value=value,
        spread=spread,
        unit=spec.measured_in,
        references=0 if references is None else len(references.values),
        validated=spec.validated is not None,
        evidence=evidence,
        images_scored=images_scored,
        selection=selection,
        reason=reason,
        unequipped=reason == NO_REFERENCES,
    )
