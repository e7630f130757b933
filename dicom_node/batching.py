"""Pending frames become batches: by priority, across studies, in bounds. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dicom_node.domain import PendingFrame, Priority, Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large a batch may be, and how many may be on the way.

    Parameters
    ----------
    frames
        Most frames in one batch.
    in_flight
        Most batches of one priority that are queued or being worked on. Small,
        so that what waits can still be put in a better order.
    """

    frames: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """Frames to be embedded together: one encoder, one priority."""

    priority: Priority
    encoder: Sha256
    embeddings: tuple[int, ...]


def form_batches(
    pending: Iterable[PendingFrame],
    *,
    in_flight: Mapping[Priority, int],
    limits: BatchLimits,
) -> tuple[NewBatch, ...]:
    """Return the batches to queue now, most urgent first.

    Parameters
    ----------
    pending
        In the order of arrival within a priority.
    in_flight
        How many batches of each priority are already on the way.

    A batch may hold frames of several studies. A batch that is not full is formed
    only where room is left, so frames wait, and gather, while workers are busy.
    """
    groups: dict[tuple[Priority, Sha256], list[int]] = defaultdict(list)
    for frame in pending:
        groups[frame.priority, frame.encoder].append(frame.embedding)
    room = {p: limits.in_flight - in_flight.get(p, 0) for p in Priority}
    batches = []
    for priority, encoder in sorted(groups):
        waiting = groups[priority, encoder]
        for start in range(0, len(waiting), limits.frames):
            if room[priority] <= 0:
                break
            room[priority] -= 1
            chunk = tuple(waiting[start : start + limits.frames])
            batches.append(
                NewBatch(priority=priority, encoder=encoder, embeddings=chunk)
            )
    return tuple(batches)
