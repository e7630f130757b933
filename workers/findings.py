"""One finding of a study: its score, its flag, and the frames that it rests on.

Pure, numpy only. A finding that cannot be evaluated says why; no score is made up. Where
the pack calibrates it, the study's score is a probability; those of frames stay raw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dicom_node.domain import Finding, Flag, Score
from workers.asked import OF_VOLUMES, AgainstSpec, FindingSpec
from workers.calibration import calibrated
from workers.heads import AnyHead, Embeddings, Scores, score_frames
from workers.pack import Pack
from workers.study import NO_NUMBER, EmbeddedImage, Seen, Study, evidence_of, images_in
from workers.volumes import volume_embedding

Runs = Sequence[Sequence[EmbeddedImage]]
"""Frames, volume by volume; none of them empty."""


def find(pack: Pack, head: AnyHead, spec: FindingSpec, study: Study) -> Finding:
    """Return what the frames of `study` say of one finding."""
    seen = study.seen if spec.against is None else comparable(study.seen, spec.against)
    if seen.why_not:
        return _not_evaluated(spec, seen.why_not)
    if spec.against is None:
        scored = _calibrated(spec, _score(head, spec.aggregation, seen.runs))
    else:
        scored = _contradiction(head, spec, spec.against, seen)
    if not np.isfinite([scored.value, *scored.scores]).all():
        return _not_evaluated(spec, NO_NUMBER)
    point = pack.operating_point(spec)
    return Finding(
        key=spec.key,
        concept=spec.concept,
        site=spec.anatomy,
        score=Score(
            value=scored.value,
            calibration_set=spec.calibration.set if spec.calibration else "",
        ),
        operating_point=point,
        flag=point.flag_of(scored.value),
        urgency=spec.urgency,
        evidence=evidence_of(scored.frames, scored.scores),
        images_scored=images_in(seen.frames),
        selection=seen.words,
    )


def aggregate(name: str, scores: Scores) -> float:
    """Return the study's score from those of its frames (N,), by the pack's rule."""
    if name == "max":
        return float(scores.max())
    if name == "mean":
        return float(scores.mean())
    if name == "median":
        return float(np.median(scores))
    highest = int(name.removeprefix("top").removesuffix("-mean"))
    return float(np.sort(scores)[-highest:].mean())


# ── scores ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scored:
    """The study's score, and those (N,) of the frames that it rests on."""

    value: float
    frames: Sequence[EmbeddedImage]
    scores: Scores


def _score(head: AnyHead, aggregation: str, runs: Runs) -> _Scored:
    """Return the score of all frames together, or of the highest volume."""
    frames: Sequence[EmbeddedImage] = [frame for run in runs for frame in run]
    if not aggregation.startswith(OF_VOLUMES):
        scores = score_frames(head, _vectors(frames))
        return _Scored(
            value=aggregate(aggregation, scores), frames=frames, scores=scores
        )
    method = aggregation.removeprefix(OF_VOLUMES)
    of_volumes = score_frames(
        head, np.stack([volume_embedding(_vectors(run), method) for run in runs])
    )
    highest = int(of_volumes.argmax())
    frames = runs[highest]
    scores = score_frames(head, _vectors(frames))
    return _Scored(value=float(of_volumes[highest]), frames=frames, scores=scores)


def _calibrated(spec: FindingSpec, scored: _Scored) -> _Scored:
    """Return it with the study's score as a probability, where the pack has one."""
    if spec.calibration is None:
        return scored
    return replace(scored, value=float(calibrated(spec.calibration, scored.value)))


def _vectors(frames: Sequence[EmbeddedImage]) -> Embeddings:
    return np.stack([frame.vector for frame in frames])


# ── what the header says ────────────────────────────────────────────────────


def comparable(seen: Seen, against: AgainstSpec) -> Seen:
    """Return the frames whose header says something that is expected of it."""
    runs = [
        kept
        for run in seen.runs
        if (kept := [f for f in run if against.expected(f.source.exam) is not None])
    ]
    left = len(seen.frames) - sum(map(len, runs))
    if not seen.why_not and not runs:
        return replace(
            seen,
            why_not=f"the header's {against.attribute} is absent, or none of the values "
            "that this check compares with the image",
        )
    words = (
        f"{left} of {len(seen.frames)} images without a {against.attribute} to check"
    )
    return replace(
        seen, runs=runs, words="; ".join(filter(None, [seen.words, words * (left > 0)]))
    )


def _contradiction(
    head: AnyHead, spec: FindingSpec, against: AgainstSpec, seen: Seen
) -> _Scored:
    """Return how much the images contradict their headers: the most of any value."""
    found = _contradictions(head, spec, against, seen)
    return max(found, key=lambda scored: scored.value)


def _contradictions(
    head: AnyHead, spec: FindingSpec, against: AgainstSpec, seen: Seen
) -> Iterator[_Scored]:
    """Yield it for the images that shall show the positive class, and for the others."""
    for expected in (1, -1):
        runs = [
            kept
            for run in seen.runs
            if (kept := [f for f in run if against.expected(f.source.exam) == expected])
        ]
        if not runs:
            continue
        shown = _calibrated(spec, _score(head, spec.aggregation, runs))
        yield (
            shown
            if expected < 0
            else replace(shown, value=1.0 - shown.value, scores=1.0 - shown.scores)
        )


def _not_evaluated(spec: FindingSpec, reason: str) -> Finding:
    return Finding(
        key=spec.key,
        concept=spec.concept,
        site=spec.anatomy,
        score=None,
        operating_point=None,
        flag=Flag.NOT_EVALUATED,
        urgency=spec.urgency,
        evidence=(),
        images_scored=0,
        reason=reason,
    )
