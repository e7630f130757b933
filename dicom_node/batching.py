"""Pending frames become batches: by priority, across studies, in bounds. Pure."""

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
    """Return the batches to queue now: most urgent first, then as frames arrived.

    Parameters
    ----------
    pending
        In the order of arrival within a priority.
    in_flight
        How many batches of each priority are already on the way.

    A batch may hold frames of several studies; a frame that is suspected of ending its
    workers has one of its own. A batch that is not full is formed
    only where room is left, so frames wait, and gather, while workers are busy.
    """
    open_batches: dict[tuple[Priority, Sha256], list[int]] = {}
    filled: dict[Priority, list[tuple[Sha256, list[int]]]] = {p: [] for p in Priority}
    for frame in pending:
        key = frame.priority, frame.encoder
        batch = None if frame.alone else open_batches.get(key)
        if batch is None or len(batch) == limits.frames:
            batch = []
            filled[frame.priority].append((frame.encoder, batch))
            if not frame.alone:
                open_batches[key] = batch
        batch.append(frame.embedding)
    return tuple(
        NewBatch(priority=priority, encoder=encoder, embeddings=tuple(embeddings))
        for priority in Priority
        for encoder, embeddings in filled[priority][
            : max(limits.in_flight - in_flight.get(priority, 0), 0)
        ]
    )
