"""The worker's side of the decode processes: who does what, and what became of it."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256
from dicom_node.errors import Transient
from workers.decoding.child import Child, Failure, Frame, Request
from workers.geometry import NOWHERE, Geometry
from workers.policy import Preprocessing
from workers.preprocess import channels

FRAMES_PER_REQUEST = 16
FALSE_STARTS = 3
ATTEMPTS = 2
"""So many processes a file may end; one may have been ended for another's sake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInput:
    """A frame to decode, counted from 0."""

    path: Path
    frame: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedInput:
    """A frame as the model takes it.

    Parameters
    ----------
    image
        (3, S, S) uint8 RGB, not yet normalised; a read-only view.
    digest
        Of the decoded pixels (`workers.decode.Decoded.digest`).
    geometry
        Where the frame lies, as far as its header says.
    """

    image: NDArray[np.uint8]
    digest: Sha256
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """A frame as a viewer shows it, no side longer than a screen has use for.

    Parameters
    ----------
    image
        (H, W) or (H, W, 3) uint8, 0 black.
    aspect
        Height of a pixel over its width.
    """

    image: NDArray[np.uint8]
    aspect: float


Outcome = DecodedInput | Failure


class DecodePool:
    """Processes that decode, one file at a time each.

    A file that kills its process, or exceeds its memory or time, is tried once more; then
    it costs its own frames, and no others. The process is replaced. Processes start at once, without torch, and end with the pool
    or with the process that owns it, however that ends.

    Parameters
    ----------
    processes
        How many.
    memory_bytes
        Of each (RLIMIT_DATA).
    timeout_s
        For one frame.
    """

    def __init__(self, *, processes: int, memory_bytes: int, timeout_s: float) -> None:
        self._processes = processes
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._false_starts = 0
        self._fill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; returns when they are gone."""
        with self._lock:
            self._discard(*self._children)

    def map(self, inputs: Sequence[FrameInput], policy: Preprocessing) -> list[Outcome]:
        """Return what became of each of `inputs`, in their order.

        Frames of one file that follow each other are decoded together. One caller at a
        time is served; others wait.

        Raises
        ------
        Transient
            If decode processes do not start.
        """
        return [
            frame if isinstance(frame, Failure) else _as_input(frame)
            for frame in self._run(inputs, policy.to_json())
        ]

    def show(self, inputs: Sequence[FrameInput]) -> list[Shown | Failure]:
        """Return what each of `inputs` looks like, in their order.

        Raises
        ------
        Transient
            If decode processes do not start.
        """
        return [
            frame
            if isinstance(frame, Failure)
            else Shown(image=frame.pixels, aspect=frame.aspect)
            for frame in self._run(inputs, None)
        ]

    def _run(
        self, inputs: Sequence[FrameInput], policy: str | None
    ) -> list[Frame | Failure]:
        with self._lock:
            job = _Job(_requests(inputs, policy, self._processes))
            try:
                while job.pending or any(child.request for child in self._children):
                    self._turn(job)
            except BaseException:
                self._discard(*self._children)
                raise
        return [job.outcomes[place] for place in range(len(inputs))]

    def _turn(self, job: "_Job") -> None:
        """Hand out what there is, then wait until a process says something."""
        self._fill()
        for child in self._children:
            if child.idle and job.pending:
                child.begin(job.pending.popleft())
        active = {c.pipe: c for c in self._children if not c.idle}
        patience_s = min(c.deadline for c in active.values()) - time.monotonic()
        heard = {active[pipe] for pipe in wait(list(active), max(patience_s, 0))}  # type: ignore[index]
        for child in heard:
            self._hear(child, job)
        for child in active.values():
            if child not in heard and child.deadline <= time.monotonic():
                job.died(child, f"decoding it took longer than {self._timeout_s:g} s")
                self._lose(child, "they take too long")

    def _hear(self, child: Child, job: "_Job") -> None:
        try:
            outcome = child.receive()
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            cause = child.end()
            job.died(child, f"decoding it ended its process ({cause})")
            self._lose(child, cause)
            return
        if outcome is None:
            self._false_starts = 0
        elif isinstance(outcome, Failure) and outcome.fatal:
            job.died(child, outcome.reason)
            self._lose(child, outcome.reason)
        else:
            job.settle(child, outcome)

    def _lose(self, child: Child, cause: str) -> None:
        """Do without a process, but not without end if none ever gets started."""
        self._false_starts += not child.ready
        self._discard(child)
        if self._false_starts == FALSE_STARTS:
            self._false_starts = 0
            raise Transient(f"decode processes do not start: {cause}")

    def _fill(self) -> None:
        while len(self._children) < self._processes:
            child = Child(memory_bytes=self._memory_bytes, timeout_s=self._timeout_s)
            self._children.append(child)

    def _discard(self, *children: Child) -> None:
        for child in children:
            self._children.remove(child)
            child.pipe.close()
        for child in children:
            child.end()


def _as_input(frame: Frame) -> DecodedInput:
    return DecodedInput(
        image=channels(frame.pixels),
        digest=frame.digest,
        geometry=frame.geometry or NOWHERE,
    )


def _requests(
    inputs: Sequence[FrameInput], policy: str | None, processes: int
) -> list[Request]:
    """Return runs of frames of one file, short enough to keep every process busy."""
    longest = min(FRAMES_PER_REQUEST, max(1, -(-len(inputs) // processes)))
    requests = []
    for path, run in groupby(enumerate(inputs), key=lambda item: item[1].path):
        places, items = zip(*run, strict=True)
        whole = Request(
            path=path,
            policy=policy,
            frames=tuple(item.frame for item in items),
            places=places,
        )
        starts = range(0, len(places), longest)
        requests += [whole.part(start, start + longest) for start in starts]
    return requests


class _Job:
    """The work of one call: what is still to be handed out, and what is settled."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.pending = deque(requests)
        self.outcomes: dict[int, Frame | Failure] = {}
        self._ended: Counter[Path] = Counter()

    def settle(self, child: Child, outcome: Frame | Failure) -> None:
        """Note the outcome of the frame that `child` is at."""
        if child.request is not None:
            self.outcomes[child.request.places[child.position]] = outcome
            child.advance()

    def died(self, child: Child, reason: str) -> None:
        """Note that a file ended its process; give it up where that is too often.

        The frame is tried again in a new process, before the others. A process may have
        been ended by something else, such as a machine that is out of memory; the second
        time it was the file.
        """
        request, position = child.request, child.position
        if request is None:
            return
        self._ended[request.path] += 1
        rest = request.part(position, len(request.frames))
        if self._ended[request.path] < ATTEMPTS:
            self._again(rest.part(1, len(rest.frames)))
            self._again(rest.part(0, 1))
            return
        same = [other for other in self.pending if other.path == request.path]
        self.pending = deque(r for r in self.pending if r.path != request.path)
        for given_up in (rest, *same):
            for place in given_up.places:
                self.outcomes[place] = Failure(reason=reason, fatal=True)

    def _again(self, request: Request) -> None:
        if request.frames:
            self.pending.appendleft(request)
