"""One finding of a study: its score, its flag, and the frames that it rests on.

Pure, numpy only. A finding that cannot be evaluated says why; no score is made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_node.domain import Finding, Flag, Score
from workers.asked import OF_VOLUMES, FindingSpec
from workers.heads import Embeddings, Scores, ZeroShotWeights, score_frames
from workers.pack import LinearWeights, Pack
from workers.study import NO_NUMBER, EmbeddedImage, Seen, Study, evidence_of, images_in
from workers.volumes import volume_embedding


def find(
    pack: Pack,
    head: LinearWeights | ZeroShotWeights,
    spec: FindingSpec,
    study: Study,
) -> Finding:
    """Return what the frames of `study` say of one finding."""
    seen = study.seen
    if seen.why_not:
        return _not_evaluated(spec, seen.why_not)
    scored = _score(head, spec.aggregation, seen)
    if not np.isfinite([scored.value, *scored.scores]).all():
        return _not_evaluated(spec, NO_NUMBER)
    point = pack.operating_point(spec)
    value = scored.value
    return Finding(
        key=spec.key,
        concept=spec.concept,
        site=spec.anatomy,
        score=Score(value=value),
        operating_point=point,
        flag=point.flag_of(value),
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scored:
    """The study's score, and those (N,) of the frames that it rests on."""

    value: float
    frames: Sequence[EmbeddedImage]
    scores: Scores


def _score(
    head: LinearWeights | ZeroShotWeights, aggregation: str, seen: Seen
) -> _Scored:
    """Return the score of all frames together, or of the highest volume."""
    frames: Sequence[EmbeddedImage] = seen.frames
    if not aggregation.startswith(OF_VOLUMES):
        scores = score_frames(head, _vectors(frames))
        return _Scored(
            value=aggregate(aggregation, scores), frames=frames, scores=scores
        )
    method = aggregation.removeprefix(OF_VOLUMES)
    of_volumes = score_frames(
        head, np.stack([volume_embedding(_vectors(run), method) for run in seen.runs])
    )
    highest = int(of_volumes.argmax())
    frames = seen.runs[highest]
    scores = score_frames(head, _vectors(frames))
    return _Scored(value=float(of_volumes[highest]), frames=frames, scores=scores)


def _vectors(frames: Sequence[EmbeddedImage]) -> Embeddings:
    return np.stack([frame.vector for frame in frames])


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
