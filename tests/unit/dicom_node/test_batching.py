"""Batches: no frame twice, priorities in order, bounds kept, one encoder each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.batching import BatchLimits, NewBatch, form_batches
from dicom_node.domain import PendingFrame, Priority, Sha256

A, B = Sha256("a" * 64), Sha256("b" * 64)
LIMITS = BatchLimits(frames=4, in_flight=2)

priorities = st.sampled_from(Priority)
kinds = st.lists(st.tuples(priorities, st.sampled_from([A, B])), max_size=60)
on_the_way = st.dictionaries(priorities, st.integers(0, 4))


def frames(kinds_of: Sequence[tuple[Priority, Sha256]]) -> list[PendingFrame]:
    """Return waiting frames in the order of their arrival."""
    return [
        PendingFrame(embedding=number, encoder=encoder, priority=priority)
        for number, (priority, encoder) in enumerate(kinds_of)
    ]


def formed(
    waiting: Sequence[PendingFrame],
    in_flight: Mapping[Priority, int] | None = None,
    limits: BatchLimits = LIMITS,
) -> tuple[NewBatch, ...]:
    """Return the batches that are formed now."""
    return form_batches(waiting, in_flight=in_flight or {}, limits=limits)


@given(kinds, on_the_way)
def test_no_frame_comes_twice_or_from_nowhere(
    kinds_of: list[tuple[Priority, Sha256]], in_flight: dict[Priority, int]
) -> None:
    """Every frame of a batch waited, and is in that batch alone."""
    batches = formed(frames(kinds_of), in_flight)
    counts = Counter(e for b in batches for e in b.embeddings)
    assert counts.keys() <= set(range(len(kinds_of)))
    assert set(counts.values()) <= {1}


@given(kinds, on_the_way)
def test_a_batch_has_one_encoder_and_one_priority(
    kinds_of: list[tuple[Priority, Sha256]], in_flight: dict[Priority, int]
) -> None:
    """Its frames are of the encoder and the priority that it names."""
    for batch in formed(frames(kinds_of), in_flight):
        of_frames = {kinds_of[e] for e in batch.embeddings}
        assert of_frames == {(batch.priority, batch.encoder)}


@given(kinds, on_the_way)
def test_bounds_are_kept(
    kinds_of: list[tuple[Priority, Sha256]], in_flight: dict[Priority, int]
) -> None:
    """No batch is empty or too large, and of no priority too many are on the way."""
    batches = formed(frames(kinds_of), in_flight)
    assert all(1 <= len(b.embeddings) <= LIMITS.frames for b in batches)
    new = Counter(b.priority for b in batches)
    for priority in new:
        assert new[priority] + in_flight.get(priority, 0) <= LIMITS.in_flight


@given(kinds, on_the_way)
def test_urgent_batches_come_first_then_the_order_of_arrival(
    kinds_of: list[tuple[Priority, Sha256]], in_flight: dict[Priority, int]
) -> None:
    """Batches are ordered by priority and first frame, frames by arrival."""
    batches = formed(frames(kinds_of), in_flight)
    order = [(b.priority, b.embeddings[0]) for b in batches]
    assert order == sorted(order)
    for batch in batches:
        assert all(a < b for a, b in pairwise(batch.embeddings))


@given(kinds)
def test_with_room_for_all_no_frame_is_left(
    kinds_of: list[tuple[Priority, Sha256]],
) -> None:
    """Where nothing bounds the number of batches, every frame is in one."""
    batches = formed(frames(kinds_of), limits=BatchLimits(frames=4, in_flight=99))
    assert sum(len(b.embeddings) for b in batches) == len(kinds_of)


@given(kinds, on_the_way)
def test_no_frame_overtakes_one_of_its_kind(
    kinds_of: list[tuple[Priority, Sha256]], in_flight: dict[Priority, int]
) -> None:
    """Of frames with one priority and encoder, those that came first are taken."""
    waiting = frames(kinds_of)
    taken = {e for b in formed(waiting, in_flight) for e in b.embeddings}
    for kind in set(kinds_of):
        of_kind = [
            f.embedding in taken for f in waiting if kinds_of[f.embedding] == kind
        ]
        assert of_kind == sorted(of_kind, reverse=True)


def test_no_encoder_starves_another() -> None:
    """Two encoders that look at the same frames take turns, as the frames came."""
    waiting = frames([(Priority.ROUTINE, e) for e in (A, B) for _ in range(20)])
    mixed = [waiting[i + 20 * e] for i in range(20) for e in (0, 1)]
    encoders = [b.encoder for b in formed(mixed)]
    assert encoders == [A, B]


def test_frames_of_many_studies_share_a_batch() -> None:
    """Three chest X-rays and a series fill batches together."""
    waiting = frames([(Priority.ROUTINE, A)] * 7)
    assert [b.embeddings for b in formed(waiting)] == [(0, 1, 2, 3), (4, 5, 6)]


def test_urgent_frames_have_room_of_their_own() -> None:
    """However many routine batches are on the way, an urgent one is formed."""
    waiting = frames([(Priority.ROUTINE, A), (Priority.STAT, A)])
    batches = formed(waiting, {Priority.ROUTINE: 2})
    assert [(b.priority, b.embeddings) for b in batches] == [(Priority.STAT, (1,))]
