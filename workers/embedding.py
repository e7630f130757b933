"""Files in, embeddings out: what `pacsight embed` does, without any network.

Three things go on at once: files are looked at, frames are decoded in processes of
their own, and the model computes. What is done is kept in ``FILE.part/``, so a run that
was stopped goes on where it was; ``FILE`` appears whole at the end.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from dicom_node.config import Settings
from dicom_node.errors import Permanent
from dicom_node.files import write_durably
from workers.ahead import Ahead
from workers.app import decode_pool
from workers.decoding import (
    DecodedInput,
    DecodePool,
    Failure,
    FrameInput,
    Outcome,
)
from workers.encoder import Encoder, open_encoder
from workers.harvest import Embedded, Harvest, Key
from workers.listing import ImageSource, LeftOut, files_in, images
from workers.pack import Pack
from workers.vectors import check_ending, encode, in_order

BATCH_FRAMES = 64
KEEP_FRAMES = 512
KEEP_S = 20.0
"""Embeddings are made durable after so many frames, or so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFrame:
    """A frame, counted from 0, that could not be decoded, and why."""

    source: ImageSource
    frame: int
    reason: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the files.

    Attributes
    ----------
    frames
        In the file, all in all.
    taken_over
        Of them, from a run that was stopped.
    unread, left_out
        What is missing, and why.
    seconds
        From the first file to the last byte, the model's loading excluded.
    """

    frames: int = 0
    taken_over: int = 0
    volumes: int = 0
    unread: list[UnreadFrame] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def broken(self) -> bool:
        """Return whether an image is missing that should be there."""
        return bool(self.unread) or any(one.broken for one in self.left_out)

    @property
    def images_per_s(self) -> float:
        """Return how many frames were embedded a second."""
        return (self.frames - self.taken_over) / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        found = f"{_count(self.frames, 'frame')}, {_count(self.volumes, 'volume')}"
        if self.taken_over:
            found += f", {self.taken_over} of them taken over"
        return f"{found}; {self.seconds:.1f} s, {self.images_per_s:.0f} images/s"

    def complaints(self) -> Iterator[str]:
        """Yield a sentence for everything that is not in the file."""
        for unread in self.unread:
            name = f"{unread.source.stamp.path}, frame {unread.frame + 1}"
            yield f"{name} was not embedded: {unread.reason}"
        for one in self.left_out:
            yield f"{one.path} was left out: {one.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return the summary that ``--json`` prints."""
        unread = [
            {
                "file": one.source.stamp.path,
                "sop_instance_uid": one.source.sop_instance_uid,
                "frame": one.frame,
                "reason": one.reason,
            }
            for one in self.unread
        ]
        left_out = [{"file": str(o.path), "reason": o.reason} for o in self.left_out]
        return {
            "frames": self.frames,
            "taken_over": self.taken_over,
            "volumes": self.volumes,
            "unreadable": unread,
            "left_out": left_out,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images_per_s, 1),
        }


def embed_files(
    paths: Sequence[Path],
    out: Path,
    *,
    pack: Pack,
    settings: Settings,
    console: Console,
    method: str = "",
) -> Tally:
    """Write the embedding of every frame of every image among the files.

    Parameters
    ----------
    paths
        Files, or folders that are searched to the bottom.
    out
        Ends in ``.safetensors`` or ``.parquet``; replaced where it exists.
    console
        Where progress is shown.
    method
        Of the volumes' embeddings; empty for none.

    Raises
    ------
    Permanent
        If there is no image, or the file cannot be written.
    """
    check_ending(out)
    files = list(files_in(paths))
    with ExitStack() as at:
        # the processes start while the model is loaded
        decoders = at.enter_context(decode_pool(settings))
        worker = settings.worker
        encoder = open_encoder(pack, device=worker.device, threads=worker.threads)
        part = out.with_name(f"{out.name}.part")
        harvest = at.enter_context(
            Harvest(folder=part.absolute(), encoder=pack.encoder_key.digest)
        )
        if harvest.done:
            console.print(f"taken over from {part}: {len(harvest.done)} frames")
        progress = at.enter_context(_progress(console))
        run = _Run(
            harvest=harvest, encoder=encoder, decoders=decoders, progress=progress
        )
        begun = time.perf_counter()
        wanted = run.gather(files)
        if not wanted:
            raise Permanent(_why_nothing(files, run.tally))
        _write(out, [harvest.done[key] for key in wanted], pack, method, run.tally)
        harvest.remove()
        run.tally.seconds = time.perf_counter() - begun
    return run.tally


Task = tuple[ImageSource, int]
"""An image, and which frame of it."""

Batch = list[tuple[Task, Outcome]]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One way through the files: a thread looks, a thread decodes, this one computes."""

    harvest: Harvest
    encoder: Encoder
    decoders: DecodePool
    progress: Progress
    tally: Tally = field(default_factory=Tally)
    _wanted: dict[Key, None] = field(default_factory=dict)

    def gather(self, files: Sequence[Path]) -> list[Key]:
        """Return which frames are embedded, once all are that can be."""
        bar = self.progress.add_task("embedding", total=len(files), speed="")
        begun = kept_at = time.monotonic()
        count = 0
        with (
            Ahead(images(files, self.harvest.known()), depth=4 * BATCH_FRAMES) as found,
            Ahead(self._decoded(self._tasks(found, bar)), depth=2) as batches,
        ):
            for batch in batches:
                self._embed(batch)
                count += len(batch)
                now = time.monotonic()
                speed = f"{count / (now - begun):.0f} images/s"
                self.progress.update(bar, advance=len(batch), speed=speed)
                if self.harvest.unkept >= KEEP_FRAMES or now > kept_at + KEEP_S:
                    self.harvest.keep()
                    kept_at = now
        return [key for key in self._wanted if key in self.harvest.done]

    def _tasks(
        self, found: Iterable[ImageSource | LeftOut], bar: TaskID
    ) -> Iterator[Task]:
        """Yield the frames that are still to be embedded."""
        total = self.progress.tasks[bar].total or 0
        for one in found:
            if isinstance(one, LeftOut):
                self.tally.left_out.append(one)
                total -= 1
            else:
                total += one.frames - 1
            self.progress.update(bar, total=total)
            if isinstance(one, ImageSource):
                yield from self._missing(one, bar)

    def _missing(self, source: ImageSource, bar: TaskID) -> Iterator[Task]:
        for frame in range(source.frames):
            key = (source.sop_instance_uid, source.sha256, frame)
            self._wanted[key] = None
            if key in self.harvest.done:
                self.tally.taken_over += 1
                self.progress.advance(bar)
            else:
                yield source, frame

    def _decoded(self, tasks: Iterator[Task]) -> Iterator[Batch]:
        """Yield frames as the model takes them, some at a time."""
        while batch := list(islice(tasks, BATCH_FRAMES)):
            inputs = [
                FrameInput(path=Path(source.stamp.path), frame=frame)
                for source, frame in batch
            ]
            outcomes = self.decoders.map(inputs, self.encoder.preprocessing)
            yield list(zip(batch, outcomes, strict=True))

    def _embed(self, batch: Batch) -> None:
        readable = [(t, o) for t, o in batch if isinstance(o, DecodedInput)]
        self.tally.unread += [
            UnreadFrame(source=source, frame=frame, reason=outcome.reason)
            for (source, frame), outcome in batch
            if isinstance(outcome, Failure)
        ]
        if not readable:
            return
        vectors = self.encoder.embed_images(np.stack([o.image for _, o in readable]))
        self.harvest.add(
            [
                Embedded(source=source, frame=frame, geometry=o.geometry, vector=vector)
                for ((source, frame), o), vector in zip(readable, vectors, strict=True)
            ]
        )


def _write(
    out: Path, frames: Sequence[Embedded], pack: Pack, method: str, tally: Tally
) -> None:
    vectors = in_order(frames, method=method)
    unread = [
        {
            "sop_instance": one.source.sop_instance_uid,
            "frame": one.frame,
            "reason": one.reason,
        }
        for one in tally.unread
    ]
    remarks = {"software": version("pacsight"), "unreadable": json.dumps(unread)}
    write_durably(out.absolute(), encode(vectors, out, pack=pack, remarks=remarks))
    tally.frames, tally.volumes = len(vectors.frames), len(vectors.volumes)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _why_nothing(files: Sequence[Path], tally: Tally) -> str:
    reasons = [u.reason for u in tally.unread] + [o.reason for o in tally.left_out]
    first = f": {reasons[0]}" if reasons else ""
    return f"none of the {len(files)} files could be embedded{first}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
