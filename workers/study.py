"""The images of a study as far as a rule accepts them, and what is seen of them.

Pure. Where nothing can be said of them, there is a reason; results refer to its images
by `image_ref`, and to the frames that speak most for an answer by `evidence_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import FrameScore, ImageRef, InputFile, Unreadable
from workers.accepting import Accepts
from workers.geometry import NOWHERE, Geometry
from workers.heads import Scores
from workers.selection import select
from workers.volumes import Place, Volume

EVIDENCE = 5
"""Frames at most that are named for an answer."""

ONLY_LOCALISERS = "of its images, only localisers can be read"
NO_NUMBER = "the model gave a score that is no number"


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


class Gate(Protocol):
    """What tells whether images are like those that a pack was validated on."""

    def outside_volume(self, vectors: NDArray[np.float32], modality: str) -> str:
        """Return why frames that belong together, (N, D), are not; empty if they are."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Frames of a volume, or of an image, that lie outside the validated range."""

    frames: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """The images of a revision, or those of them that a rule accepts.

    Parameters
    ----------
    images
        Every one, embedded or not.
    volumes
        Of every frame of the revision that was read.
    limit
        Slices of a volume that are scored at most; None for all.
    refused
        Why the rules accept none of the images; empty if they accept one.
    outside
        Frames of accepted images that a gate has left out.
    """

    images: Sequence[InputFile]
    frames: Sequence[EmbeddedImage]
    unreadable: Sequence[Unreadable]
    volumes: Sequence[Volume]
    limit: int | None
    refused: str = ""
    outside: Sequence[LeftOut] = ()

    def accepted(self, rules: Sequence[Accepts]) -> "Study":
        """Return the part of it that any of `rules` covers."""
        images = [
            image
            for image in self.images
            if any(rule.covers(image.exam) for rule in rules)
        ]
        uids = {image.sop_instance_uid for image in images}
        return replace(
            self,
            images=images,
            frames=[f for f in self.frames if f.source.sop_instance_uid in uids],
            unreadable=[u for u in self.unreadable if u.image.sop_instance_uid in uids],
            refused=self.refused or ("" if images else _refusal(rules, self.images)),
        )

    def inside(self, gate: Gate | None) -> "Study":
        """Return the part of it that `gate` lets through; None lets all through.

        Volumes and images are in or out as a whole. What is no number passes: it gets
        no score later.
        """
        if gate is None:
            return self
        frames = {frame.place: frame for frame in self.frames}
        kept: list[EmbeddedImage] = []
        outside = []
        for volume in self.volumes:
            run = [frames[s.place] for s in volume.slices if s.place in frames]
            reason = _objection(gate, run) if run else ""
            if reason:
                outside.append(LeftOut(frames=len(run), reason=reason))
            else:
                kept += run
        return replace(self, frames=kept, outside=outside)

    @property
    def seen(self) -> "Seen":
        """Return its frames volume by volume, as far as they are scored."""
        frames = {frame.place: frame for frame in self.frames}
        if not frames:
            return Seen(runs=(), words="", why_not=self._why_not)
        selection = select(self.volumes, frames.keys(), self.limit)
        runs = [[frames[place] for place in run] for run in selection.runs]
        lost = selection.surveys_only and self.unreadable
        words = "; ".join(filter(None, [selection.words, self._left_out]))
        return Seen(runs=runs, words=words, why_not=ONLY_LOCALISERS if lost else "")

    def narrowed(self, rule: Accepts | None) -> "Study":
        """Return the part of it that `rule` covers; None covers all."""
        return self if rule is None else self.accepted([rule])

    @property
    def _why_not(self) -> str:
        """Return why it has no frame."""
        if self.refused:
            return self.refused
        if self.outside:
            return self._left_out
        reasons = sorted({unread.reason for unread in self.unreadable})
        count = len({unread.image.sop_instance_uid for unread in self.unreadable})
        if not reasons:
            return "no accepted image of this study was embedded"
        others = len(reasons) - 1
        more = f", and for {others} other reason{'s'[: others > 1]}" if others else ""
        return f"none of the accepted images ({count}) can be read: {reasons[0]}{more}"

    @property
    def _left_out(self) -> str:
        """Return what a gate has left out, and why; empty if nothing."""
        if not self.outside:
            return ""
        count = sum(one.frames for one in self.outside)
        reasons = "; ".join(dict.fromkeys(one.reason for one in self.outside))
        all_of = "all " if not self.frames else ""
        return (
            f"{all_of}{count} image{'s'[: count > 1]} left out, "
            f"outside the validated range: {reasons}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """The frames that are scored, volume by volume in order, and what was left out.

    Parameters
    ----------
    words
        What was left out, for the report; empty if nothing was.
    why_not
        Why nothing can be said of them; empty if something can.
    """

    runs: Sequence[Sequence[EmbeddedImage]]
    words: str
    why_not: str

    @property
    def frames(self) -> list[EmbeddedImage]:
        """Return all of them."""
        return [frame for run in self.runs for frame in run]


def image_ref(source: InputFile) -> ImageRef:
    """Return how results refer to an instance."""
    return ImageRef(
        series_uid=source.series_uid,
        sop_class_uid=source.sop_class_uid,
        sop_instance_uid=source.sop_instance_uid,
        sha256=source.sha256,
        frames=source.frames,
    )


def evidence_of(
    frames: Sequence[EmbeddedImage], scores: Scores
) -> tuple[FrameScore, ...]:
    """Return the frames with the highest of `scores` (N,), highest first."""
    highest = np.argsort(-scores, kind="stable")[:EVIDENCE]
    return tuple(
        FrameScore(
            image=image_ref(frames[i].source),
            frame=frames[i].frame,
            score=float(scores[i]),
        )
        for i in highest
    )


def images_in(frames: Sequence[EmbeddedImage]) -> int:
    """Return how many instances they are frames of."""
    return len({frame.source.sop_instance_uid for frame in frames})


def _objection(gate: Gate, run: Sequence[EmbeddedImage]) -> str:
    vectors = np.stack([frame.vector for frame in run])
    if not np.isfinite(vectors).all():
        return ""
    return gate.outside_volume(vectors, run[0].source.exam.modality)


def _refusal(rules: Sequence[Accepts], images: Sequence[InputFile]) -> str:
    needed = ", or ".join(str(rule) for rule in rules)
    objections = {
        rule.objection(image.exam)
        for rule in rules
        for image in images
        if rule.covers_kind(image.exam)
    }
    if objections:
        why = ", or ".join(sorted(objections))
        return f"no image of this study is accepted: needs {needed}, and {why}"
    kinds = sorted({(image.exam.modality, image.exam.body_part) for image in images})
    found = ", ".join(
        f"{modality or 'images without modality'} "
        f"{f'of {part}' if part else 'without body part'}"
        for modality, part in kinds
    )
    return f"no image of this study is accepted: needs {needed}; found {found}"
