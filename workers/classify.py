"""From embeddings to what is said of a study, or the reason why nothing is.

Pure, numpy only: embeddings, heads and thresholds come in as values, and nothing is
read, looked up or dated here. What cannot be evaluated says so: no finding is ever left
out, and no score is made up. Findings get scores and flags, categories the label that
fits best, estimates a value; flags and urgency come from findings alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import (
    Category,
    Choice,
    Completion,
    Estimate,
    Finding,
    Flag,
    FrameScore,
    ImageRef,
    InputFile,
    OperatingPoint,
    Score,
    Unreadable,
)
from workers.asked import (
    OF_VOLUMES,
    Accepts,
    CategorySpec,
    EstimateSpec,
    FindingSpec,
    ZeroShotHead,
)
from workers.geometry import NOWHERE, Geometry
from workers.labels import LabelWeights, ensemble, label_weights, shares
from workers.neighbours import References, nearby
from workers.pack import LinearWeights, Pack
from workers.selection import select
from workers.volumes import Place, Volume, slice_of, volume_embedding, volumes

Embeddings = NDArray[np.float32]
"""(N, D) float32, rows of length one."""

Scores = NDArray[np.float64]
"""(N,) in the head's own scale."""

EVIDENCE = 5

NO_NUMBER = "the model gave a score that is no number"
NO_REFERENCES = (
    "this pack has no labelled reference images: supply them with "
    "`pacsight pack references`"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZeroShotWeights:
    """Prompt ensembles (D,), each of length one, and the temperature between them."""

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    temperature: float


Heads = Mapping[str, LinearWeights | ZeroShotWeights]
"""By finding."""

Labels = Mapping[str, LabelWeights]
"""By category."""

NO_LABELS: Labels = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedImage:
    """One frame that was read, and its embedding (D,) float32 of length one."""

    source: InputFile
    frame: int
    vector: NDArray[np.float32]
    geometry: Geometry = NOWHERE

    @property
    def place(self) -> Place:
        """Return which frame of which image it is."""
        return self.source.sop_instance_uid, self.frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a pack says of a study.

    Parameters
    ----------
    findings
        One for each of the pack, in its order.
    reason
        Why nothing at all could be evaluated; empty otherwise.
    completion
        PARTIAL if an image that the pack would look at could not be read.
    categories, estimates
        One for each of the pack, in its order.
    """

    findings: tuple[Finding, ...]
    reason: str
    completion: Completion
    categories: tuple[Category, ...] = ()
    estimates: tuple[Estimate, ...] = ()


class TextEncoder(Protocol):
    """What zero-shot heads are made with."""

    @property
    def logit_scale(self) -> float:
        """Return the logarithm of the temperature between images and texts."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (N, D) float32 of length one."""
        ...


def heads_of(pack: Pack, encoder: TextEncoder) -> Heads:
    """Return the head of each finding; prompts are embedded for zero-shot ones."""
    sides = {
        spec.key: spec.prompts
        for spec in pack.findings
        if isinstance(spec.head, ZeroShotHead) and spec.prompts is not None
    }
    row = _embedded(
        [text for side in sides.values() for text in (*side.positive, *side.negative)],
        encoder,
    )
    return dict(pack.heads) | {
        key: zero_shot(
            np.stack([row[text] for text in side.positive]),
            np.stack([row[text] for text in side.negative]),
            logit_scale=encoder.logit_scale,
        )
        for key, side in sides.items()
    }


def labels_of(pack: Pack, encoder: TextEncoder) -> Labels:
    """Return the head of each category, made from the prompts of its labels."""
    categories = pack.manifest.categories
    labels = [label for category in categories for label in category.labels]
    row = _embedded([text for label in labels for text in label.prompts], encoder)
    return {
        category.key: label_weights(
            [np.stack([row[t] for t in label.prompts]) for label in category.labels],
            logit_scale=encoder.logit_scale,
        )
        for category in categories
    }


def zero_shot(
    positive: Embeddings, negative: Embeddings, *, logit_scale: float
) -> ZeroShotWeights:
    """Return the head of two sets of prompts, each (P, D), averaged and made unit."""
    return ZeroShotWeights(
        positive=ensemble(positive),
        negative=ensemble(negative),
        temperature=float(np.exp(logit_scale)),
    )


def score_frames(head: LinearWeights | ZeroShotWeights, vectors: Embeddings) -> Scores:
    """Return the score of each frame (N,), in [0, 1]: raw, not calibrated."""
    return _sigmoid(frame_logits(head, vectors))


def frame_logits(head: LinearWeights | ZeroShotWeights, vectors: Embeddings) -> Scores:
    """Return the logit of the score of each frame (N,)."""
    precise = vectors.astype(np.float64)
    if isinstance(head, LinearWeights):
        logits: Scores = precise @ head.weight + head.bias
        return logits
    # the softmax of two logits is the sigmoid of their difference
    contrast = head.positive.astype(np.float64) - head.negative
    return head.temperature * (precise @ contrast)


def conclude(
    pack: Pack,
    heads: Heads,
    *,
    images: Sequence[InputFile],
    frames: Sequence[EmbeddedImage],
    unreadable: Sequence[Unreadable] = (),
    labels: Labels = NO_LABELS,
) -> Conclusion:
    """Return what `pack` says of a study.

    Parameters
    ----------
    heads
        For every finding of the pack: ``pack.heads``, and zero-shot ones.
    labels
        For every category of the pack.
    images
        Every image instance of the revision, whether it was embedded or not.
    frames
        Those that could be read, in any order.
    unreadable
        Those that could not.
    """
    study = _Study(
        images=images,
        frames=frames,
        unreadable=unreadable,
        volumes=volumes(slice_of(f.source, f.frame, f.geometry) for f in frames),
        limit=pack.manifest.volume.limit if pack.manifest.volume else None,
    )
    accepted = study.accepted(pack.manifest.accepts)
    findings = tuple(
        _find(pack, heads[spec.key], spec, accepted.narrowed(spec.accepts))
        for spec in pack.findings
    )
    categories = tuple(
        _categorise(labels[spec.key], spec, accepted.narrowed(spec.accepts))
        for spec in pack.manifest.categories
    )
    estimates = tuple(
        _estimate(pack.references.get(spec.key), spec, accepted.narrowed(spec.accepts))
        for spec in pack.manifest.estimates
    )
    reasons = [
        *(finding.reason for finding in findings),
        *(category.reason for category in categories),
        *(estimate.reason for estimate in estimates),
    ]
    return Conclusion(
        findings=findings,
        reason=_why_nothing(pack, reasons, study) if all(reasons) else "",
        completion=Completion.PARTIAL if accepted.unreadable else Completion.COMPLETE,
        categories=categories,
        estimates=estimates,
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


def image_ref(source: InputFile) -> ImageRef:
    """Return how results refer to an instance."""
    return ImageRef(
        series_uid=source.series_uid,
        sop_class_uid=source.sop_class_uid,
        sop_instance_uid=source.sop_instance_uid,
        sha256=source.sha256,
        frames=source.frames,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Study:
    """The images of a revision, or those of them that a rule accepts."""

    images: Sequence[InputFile]
    frames: Sequence[EmbeddedImage]
    unreadable: Sequence[Unreadable]
    volumes: Sequence[Volume]
    limit: int | None
    refused: str = ""

    def accepted(self, rules: Sequence[Accepts]) -> "_Study":
        """Return the part of it that any of `rules` covers."""
        images = [
            image
            for image in self.images
            if any(rule.covers(image.modality, image.body_part) for rule in rules)
        ]
        uids = {image.sop_instance_uid for image in images}
        return _Study(
            images=images,
            frames=[f for f in self.frames if f.source.sop_instance_uid in uids],
            unreadable=[u for u in self.unreadable if u.image.sop_instance_uid in uids],
            volumes=self.volumes,
            limit=self.limit,
            refused=self.refused or ("" if images else _refusal(rules, self.images)),
        )

    @property
    def seen(self) -> "_Seen":
        """Return its frames volume by volume, as far as they are scored."""
        frames = {frame.place: frame for frame in self.frames}
        selection = select(self.volumes, frames.keys(), self.limit)
        runs = [[frames[place] for place in run] for run in selection.runs]
        return _Seen(
            runs=runs, words=selection.words, surveys_only=selection.surveys_only
        )

    def narrowed(self, rule: Accepts | None) -> "_Study":
        """Return the part of it that `rule` covers; None covers all."""
        return self if rule is None else self.accepted([rule])

    @property
    def why_not(self) -> str:
        """Return why no frame of it can be scored; empty if one can."""
        if self.frames:
            return ""
        if self.refused:
            return self.refused
        reasons = sorted({unread.reason for unread in self.unreadable})
        count = len({unread.image.sop_instance_uid for unread in self.unreadable})
        if not reasons:
            return "no accepted image of this study was embedded"
        others = len(reasons) - 1
        more = f", and for {others} other reason{'s'[: others > 1]}" if others else ""
        return f"none of the accepted images ({count}) can be read: {reasons[0]}{more}"


def _embedded(
    texts: Sequence[str], encoder: TextEncoder
) -> Mapping[str, NDArray[np.float32]]:
    """Return the embedding (D,) of each text, computed once however often it is there."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    return dict(zip(distinct, encoder.embed_texts(distinct), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """The frames that are scored, volume by volume in order, and what was left out."""

    runs: Sequence[Sequence[EmbeddedImage]]
    words: str
    surveys_only: bool

    @property
    def frames(self) -> list[EmbeddedImage]:
        """Return all of them."""
        return [frame for run in self.runs for frame in run]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scored:
    """The study's score, and those (N,) of the frames that it rests on."""

    value: float
    frames: Sequence[EmbeddedImage]
    scores: Scores


def _score(
    head: LinearWeights | ZeroShotWeights, aggregation: str, seen: _Seen
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


def _find(
    pack: Pack,
    head: LinearWeights | ZeroShotWeights,
    spec: FindingSpec,
    study: _Study,
) -> Finding:
    """Return what the frames of `study` say of one finding."""
    if study.why_not:
        return _not_evaluated(spec, study.why_not)
    seen = study.seen
    if seen.surveys_only and study.unreadable:
        return _not_evaluated(spec, "of its images, only localisers can be read")
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
        flag=_flag(value, point),
        urgency=spec.urgency,
        evidence=_evidence(scored.frames, scored.scores),
        images_scored=_images_in(seen.frames),
        selection=seen.words,
    )


def _flag(score: float, point: OperatingPoint) -> Flag:
    if abs(score - point.threshold) < point.tolerance:
        return Flag.INDETERMINATE
    return Flag.ABOVE if score >= point.threshold else Flag.BELOW


def _categorise(head: LabelWeights, spec: CategorySpec, study: _Study) -> Category:
    """Return the label that the frames of `study` show most."""
    frames = study.seen.frames
    why_not = study.why_not
    if not why_not:
        whole, each = shares(head, np.stack([frame.vector for frame in frames]))
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
        evidence=_evidence(frames, each[:, first]),
        images_scored=_images_in(frames),
    )


def _choice(spec: CategorySpec, index: int, share: float) -> Choice:
    return Choice(label=spec.labels[index].concept, score=Score(value=float(share)))


def _estimate(
    references: References | None, spec: EstimateSpec, study: _Study
) -> Estimate:
    """Return the value that references near to the frames of `study` have."""
    frames = study.seen.frames
    why_not = study.why_not or (NO_REFERENCES if references is None else "")
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
        images_scored=_images_in(frames),
    )


def _estimated(  # noqa: PLR0913 - the parts of an estimate
    spec: EstimateSpec,
    references: References | None,
    *,
    value: float | None = None,
    spread: float | None = None,
    evidence: tuple[FrameScore, ...] = (),
    images_scored: int = 0,
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
        reason=reason,
        unequipped=reason == NO_REFERENCES,
    )


def _why_nothing(pack: Pack, reasons: Iterable[str], study: _Study) -> str:
    """Return one reason for all that is asked, where there is one."""
    manifest = pack.manifest
    narrowed = [
        *(finding.accepts for finding in manifest.findings),
        *(category.accepts for category in manifest.categories),
        *(estimate.accepts for estimate in manifest.estimates),
    ]
    rules = dict.fromkeys(
        rule
        for accepts in narrowed
        for rule in ([accepts] if accepts else manifest.accepts)
    )
    refused = study.accepted(list(rules)).refused
    return refused or "; ".join(dict.fromkeys(reasons))


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


def _evidence(
    frames: Sequence[EmbeddedImage], scores: Scores
) -> tuple[FrameScore, ...]:
    """Return the frames with the highest scores, highest first."""
    highest = np.argsort(-scores, kind="stable")[:EVIDENCE]
    return tuple(
        FrameScore(
            image=image_ref(frames[i].source),
            frame=frames[i].frame,
            score=float(scores[i]),
        )
        for i in highest
    )


def _images_in(frames: Sequence[EmbeddedImage]) -> int:
    return len({frame.source.sop_instance_uid for frame in frames})


def _refusal(rules: Sequence[Accepts], images: Sequence[InputFile]) -> str:
    needed = ", or ".join(str(rule) for rule in rules)
    kinds = sorted({(image.modality, image.body_part) for image in images})
    found = ", ".join(
        f"{modality or 'images without modality'} "
        f"{f'of {part}' if part else 'without body part'}"
        for modality, part in kinds
    )
    return f"no image of this study is accepted: needs {needed}; found {found}"


def _sigmoid(logits: Scores) -> Scores:
    """Return 1 / (1 + exp(-x)), without overflow for any x."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
