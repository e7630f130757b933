"""What a person is shown: the pictures on the page, and the headers of their images.

Where a finding is flagged, the frames that its score rests on; else the middle of the
volume that was looked at. Frames are named and ordered by where they lie in the
patient: see `workers.volumes`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.domain import Finding, Flag, InputFile, Result, SopInstanceUid
from sr_writer.page import PICTURES_SHOWN, Picture, reading_order
from workers.decode import read_header
from workers.decoding import Failure, FrameInput, Shown
from workers.study import image_ref
from workers.volumes import Kind, Place, Volume

_MIDDLE = (0.2, 0.8)
"""Part of a series that is shown where nothing is flagged."""


_NOUNS = {Kind.VOLUME: "slice", Kind.IMAGE: "frame", Kind.LOCALISER: "localiser"}


class Viewer(Protocol):
    """What makes frames visible: `workers.decoding.DecodePool`."""

    def show(self, inputs: Sequence[FrameInput]) -> list[Shown | Failure]:
        """Return what each of `inputs` looks like, in their order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A frame to be shown.

    Parameters
    ----------
    score
        Of this frame, for the finding that leads the page; or None.
    """

    file: InputFile
    frame: int
    label: str
    score: float | None = None


def pictures(
    result: Result,
    files: Sequence[InputFile],
    volumes: Sequence[Volume],
    spool: Path,
    viewer: Viewer,
) -> tuple[Picture, ...]:
    """Return the pictures for the result's page, the most relevant first.

    What cannot be read is left out.
    """
    shots = choose(result, files, volumes)
    shown = viewer.show(
        [FrameInput(path=spool / shot.file.path, frame=shot.frame) for shot in shots]
    )
    return tuple(
        Picture(
            pixels=seen.image,
            image=image_ref(shot.file),
            frame=shot.frame,
            pixel_aspect_ratio=seen.aspect,
            label=shot.label,
            score=shot.score,
        )
        for shot, seen in zip(shots, shown, strict=True)
        if isinstance(seen, Shown)
    )


def sources(
    result: Result,
    files: Sequence[InputFile],
    volumes: Sequence[Volume],
    spool: Path,
) -> tuple[Dataset, ...]:
    """Return the headers of the images that the result's objects refer to.

    Those that are shown, those that scores rest on, and at least one.

    Raises
    ------
    Permanent
        If one cannot be read.
    """
    shown = [shot.file.sop_instance_uid for shot in choose(result, files, volumes)]
    scored = [evidence.image.sop_instance_uid for evidence in result.evidence]
    first = [result.images[0].sop_instance_uid]
    wanted = dict.fromkeys([*shown, *scored] or first)
    paths = {file.sop_instance_uid: spool / file.path for file in files}
    return tuple(read_header(paths[uid]) for uid in wanted)


def choose(
    result: Result, files: Sequence[InputFile], volumes: Sequence[Volume]
) -> tuple[Shot, ...]:
    """Return the frames to show, the most relevant first; at most as fit the page.

    Parameters
    ----------
    volumes
        Of the frames that were embedded.
    """
    findings = reading_order(result.findings)
    series = _series(result, files, volumes)
    chosen: Iterator[Shot]
    if result.flagged:
        flagged = [finding for finding in findings if finding.flag is Flag.ABOVE]
        shots = {_place(shot): shot for shots in series for shot in shots}
        chosen = (shots[place] for place in _that_matter(flagged) if place in shots)
    else:
        chosen = _overview(series, _looked_at(result))
    scores = _scores(findings[0]) if findings else {}
    return tuple(
        replace(shot, score=scores.get(_place(shot)))
        for shot in islice(chosen, PICTURES_SHOWN)
    )


def _that_matter(flagged: Sequence[Finding]) -> Iterator[Place]:
    """Yield the frames that flags rest on, once each, findings in turn."""
    runs = [
        [(one.image.sop_instance_uid, one.frame) for one in finding.decisive]
        for finding in flagged
    ]
    in_turn = (place for rank in zip_longest(*runs) for place in rank if place)
    yield from dict.fromkeys(in_turn)


def _overview(
    series: Sequence[Sequence[Shot]], looked_at: set[SopInstanceUid]
) -> Iterator[Shot]:
    """Yield the middle of the volume that was looked at, else of the longest one.

    Where that is a single image, the others give their middle image each.
    """
    if not series:
        return
    main = max(
        series,
        key=lambda shots: (
            any(shot.file.sop_instance_uid in looked_at for shot in shots),
            len(shots),
        ),
    )
    if len(main) > 1:
        spread = np.linspace(*_MIDDLE, PICTURES_SHOWN) * (len(main) - 1)
        yield from (main[i] for i in np.unique(np.rint(spread).astype(int)))
        return
    yield main[0]
    yield from (other[len(other) // 2] for other in series if other is not main)


def _series(
    result: Result, files: Sequence[InputFile], volumes: Sequence[Volume]
) -> list[tuple[Shot, ...]]:
    """Return the readable frames of each volume, in order.

    Localisers are left out where there is anything else.
    """
    unreadable = {(u.image.sop_instance_uid, u.frame) for u in result.unreadable}
    by_uid = {file.sop_instance_uid: file for file in files}
    found = []
    bodies = [volume for volume in volumes if volume.kind is not Kind.LOCALISER]
    for volume in bodies or volumes:
        shots = _labelled(volume, by_uid)
        readable = tuple(s for s in shots if _place(s) not in unreadable)
        if readable:
            found.append(readable)
    return found


def _labelled(
    volume: Volume, files: Mapping[SopInstanceUid, InputFile]
) -> Iterator[Shot]:
    """Yield every frame of a volume, named as a reader would call it."""
    count = len(volume.slices)
    for number, one in enumerate(volume.slices, start=1):
        file = files[one.sop_instance_uid]
        if count == 1 and volume.kind is not Kind.LOCALISER:
            label = " ".join(filter(None, (file.exam.modality, file.exam.view)))
        else:
            label = f"{_NOUNS[volume.kind]} {number} of {count}"
        apart = f", {volume.apart}" if volume.apart else ""
        yield Shot(file=file, frame=one.frame, label=f"{label}{apart}")


def _looked_at(result: Result) -> set[SopInstanceUid]:
    """Return the images that scores rest on."""
    return {evidence.image.sop_instance_uid for evidence in result.evidence}


def _scores(finding: Finding) -> dict[Place, float]:
    return {(e.image.sop_instance_uid, e.frame): e.score for e in finding.evidence}


def _place(shot: Shot) -> Place:
    return shot.file.sop_instance_uid, shot.frame
