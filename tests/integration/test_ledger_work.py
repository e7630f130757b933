"""Work of the ledger: batches and jobs, and the leases under which they are done."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier

import pytest

from dicom_node.batching import NewBatch
from dicom_node.domain import EmbeddedFrame, Lease, Priority
from dicom_node.ledger import Ledger, leases, motion, results, work
from dicom_node.ledger.leases import BATCHES, JOBS, Waiting, WorkTable
from dicom_node.ledger.overview import journal
from tests.arrivals import ENCODER, T0, later, received, series, study_uid
from tests.ledgers import (
    LEASE_S,
    VECTOR,
    batch,
    claim,
    complete,
    embed,
    job_input,
    jobs,
    leased,
    open_revision,
    pending,
    record,
    settle_batch,
    settle_job,
    standing,
)

PATIENCE_S = 30.0


@pytest.fixture
def key(ledger: Ledger) -> int:
    """Return the key of a batch of three frames that nobody has leased."""
    record(ledger, *series(1, 3))
    return batch(ledger, pending(ledger))


def undispatched(
    ledger: Ledger, now: datetime, *, table: WorkTable = BATCHES, limit: int = 100
) -> list[Waiting]:
    """Return what is to be put on the queue."""
    with ledger.read() as tx:
        return leases.undispatched(
            tx, table, now=now, patience_s=PATIENCE_S, limit=limit
        )


def dispatch(
    ledger: Ledger, now: datetime, *, table: WorkTable = BATCHES
) -> Sequence[Waiting]:
    """Put what is due on a queue that loses everything, and note it."""
    sent = undispatched(ledger, now, table=table)
    with ledger.write() as tx:
        leases.dispatched(tx, table, sent, now=now)
    return sent


def give_back(ledger: Ledger, lease: Lease) -> bool:
    """Give work back that could not be done now."""
    with ledger.write() as tx:
        return leases.give_back(tx, BATCHES, lease)


# ── leases ──────────────────────────────────────────────────────────────────


def test_work_is_leased_to_one_at_a_time(ledger: Ledger, key: int) -> None:
    """A message that comes twice finds nothing to claim."""
    assert claim(ledger, BATCHES, key) == Lease(work=key, token=1)
    assert claim(ledger, BATCHES, key) is None


def test_of_many_workers_at_once_one_gets_the_work(ledger: Ledger, key: int) -> None:
    """Eight claim in the same moment, on connections of their own."""
    together = Barrier(8)

    def attempt(_number: int) -> Lease | None:
        together.wait()
        return claim(ledger, BATCHES, key)

    with ThreadPoolExecutor(8) as workers:
        got = list(workers.map(attempt, range(8)))
    assert [lease for lease in got if lease] == [Lease(work=key, token=1)]


def test_of_many_pieces_of_work_each_is_leased_once(ledger: Ledger) -> None:
    """Four workers that go for everything share it without a double."""
    record(ledger, *series(1, 12))
    keys = [batch(ledger, [frame]) for frame in pending(ledger)]

    def work_off(_number: int) -> list[Lease]:
        got = [claim(ledger, BATCHES, key) for key in keys]
        return [lease for lease in got if lease]

    with ThreadPoolExecutor(4) as workers:
        done = [lease for share in workers.map(work_off, range(4)) for lease in share]
    assert sorted(lease.work for lease in done) == keys
    assert {lease.token for lease in done} == {1}


def test_an_expired_lease_passes_on_and_the_former_holder_is_fenced(
    ledger: Ledger, key: int
) -> None:
    """Under an older token nothing can be renewed, given back or stored."""
    old = leased(ledger, BATCHES, key)
    new = leased(ledger, BATCHES, key, now=later(LEASE_S + 1))
    assert new == Lease(work=key, token=2)
    with ledger.write() as tx:
        assert not leases.renew(tx, BATCHES, old, now=later(17), lease_s=LEASE_S)
        assert not leases.give_back(tx, BATCHES, old)
        assert not leases.finish(tx, BATCHES, old)
    assert not settle_batch(ledger, old)
    assert settle_batch(ledger, new)
    assert not settle_batch(ledger, new)


def test_a_lease_that_is_renewed_does_not_expire(ledger: Ledger, key: int) -> None:
    """Long work stays with whoever shows that he lives."""
    lease = leased(ledger, BATCHES, key)
    with ledger.write() as tx:
        assert leases.renew(tx, BATCHES, lease, now=later(10), lease_s=LEASE_S)
    assert claim(ledger, BATCHES, key, now=later(LEASE_S + 5)) is None
    assert claim(ledger, BATCHES, key, now=later(10 + LEASE_S + 1)) is not None


def test_work_given_back_is_free_at_once_and_costs_no_attempt(
    ledger: Ledger, key: int
) -> None:
    """A worker that stops, or a network that fails, is nobody's fault."""
    for _ in range(9):
        assert give_back(ledger, leased(ledger, BATCHES, key))
    with ledger.read() as tx:
        assert leases.exhausted(tx, BATCHES, now=later(1), attempts=1) == []
    assert [w.work for w in undispatched(ledger, later(1))] == [key]


def test_work_whose_holders_die_is_given_up(ledger: Ledger, key: int) -> None:
    """After so many leases that ran out; while one is running it may succeed."""
    for attempt in range(3):
        leased(ledger, BATCHES, key, now=later(attempt * 20))
    with ledger.write() as tx:
        assert leases.give_up(tx, BATCHES, now=later(50), attempts=3) == []
        assert leases.give_up(tx, BATCHES, now=later(60), attempts=4) == []
        assert leases.exhausted(tx, BATCHES, now=later(60), attempts=3) == [key]
        assert leases.give_up(tx, BATCHES, now=later(60), attempts=3) == [key]
    assert claim(ledger, BATCHES, key, now=later(60)) is None


# ── the queue ───────────────────────────────────────────────────────────────


def test_new_work_is_sent_once(ledger: Ledger, key: int) -> None:
    """While its message may still be on the queue, no other is sent."""
    assert [w.work for w in dispatch(ledger, T0)] == [key]
    assert dispatch(ledger, later(PATIENCE_S - 1)) == []


def test_work_whose_message_was_lost_is_sent_again(ledger: Ledger, key: int) -> None:
    """A broker that forgets everything costs a moment."""
    dispatch(ledger, T0)
    assert [w.work for w in dispatch(ledger, later(PATIENCE_S + 1))] == [key]


def test_work_that_is_being_done_is_not_sent(ledger: Ledger, key: int) -> None:
    """However old its message is."""
    dispatch(ledger, T0)
    leased(ledger, BATCHES, key, now=later(60))
    assert dispatch(ledger, later(70)) == []


def test_an_expired_lease_is_sent_again_at_once_and_once(
    ledger: Ledger, key: int
) -> None:
    """Whether the dispatch before was noted or the node died in between."""
    leased(ledger, BATCHES, key)
    assert [w.work for w in dispatch(ledger, later(LEASE_S + 1))] == [key]
    assert dispatch(ledger, later(LEASE_S + 2)) == []
    leased(ledger, BATCHES, key, now=later(20))
    assert [w.work for w in dispatch(ledger, later(20 + LEASE_S + 1))] == [key]


def test_a_dispatch_that_is_noted_late_hides_nothing(ledger: Ledger, key: int) -> None:
    """A worker was quicker than the note, and gave the work back: it is sent again."""
    sent = undispatched(ledger, T0)
    give_back(ledger, leased(ledger, BATCHES, key))
    with ledger.write() as tx:
        leases.dispatched(tx, BATCHES, sent, now=T0)
    assert [w.work for w in undispatched(ledger, later(1))] == [key]


def test_urgent_work_is_sent_first(ledger: Ledger) -> None:
    """The most urgent within the limit, the oldest first."""
    record(ledger, *series(1, 2))
    record(ledger, *series(2, 2, priority=Priority.STAT))
    keys = [batch(ledger, [frame]) for frame in reversed(pending(ledger))]
    order = [w.work for w in undispatched(ledger, T0)]
    assert order == [*sorted(keys[2:]), *sorted(keys[:2])]
    assert [w.work for w in undispatched(ledger, T0, limit=1)] == order[:1]


# ── batches ─────────────────────────────────────────────────────────────────


def test_a_frame_in_a_batch_no_longer_waits(ledger: Ledger, key: int) -> None:
    """It is embedded once, and then the batch is over."""
    assert pending(ledger) == []
    with ledger.read() as tx:
        assert work.batch_encoder(tx, key) == ENCODER.digest
        assert [t.path for t in work.batch_tasks(tx, key)] == [
            received(number=n).path for n in (1, 2, 3)
        ]
        assert work.batches_in_flight(tx) == {Priority.ROUTINE: 1}
    assert settle_batch(ledger, leased(ledger, BATCHES, key))
    with ledger.read() as tx:
        assert work.batch_tasks(tx, key) == []
        assert work.batches_in_flight(tx) == {}
        assert work.frames_done(tx) == (3, 3)


def test_two_nodes_never_put_a_frame_into_two_batches(ledger: Ledger, key: int) -> None:
    """The second finds it taken, and makes no empty batch."""
    with ledger.read() as tx:
        taken = tuple(t.embedding for t in work.batch_tasks(tx, key))
    again = NewBatch(
        priority=Priority.ROUTINE, encoder=ENCODER.digest, embeddings=taken
    )
    with ledger.write() as tx:
        work.add_batches(tx, [again])
    with ledger.read() as tx:
        assert work.batches_in_flight(tx) == {Priority.ROUTINE: 1}
        assert len(work.batch_tasks(tx, key)) == 3


def test_a_frame_that_a_worker_does_not_tell_of_waits_again(
    ledger: Ledger, key: int
) -> None:
    """No frame is lost between a batch that is over and the next one."""
    with ledger.read() as tx:
        first, *_ = work.batch_tasks(tx, key)
    told = EmbeddedFrame(embedding=first.embedding, vector=VECTOR, pixels="a" * 64)
    lease = leased(ledger, BATCHES, key)
    with ledger.write() as tx:
        assert work.settle_batch(tx, lease, [told], now=T0)
    assert len(pending(ledger)) == 2


def test_a_batch_that_was_superseded_meanwhile_is_still_embedded(
    ledger: Ledger, key: int
) -> None:
    """Its version may count again; one that waits and no longer counts does not."""
    record(ledger, received(content="second"))
    record(ledger, received(content="third"))
    assert len(pending(ledger)) == 1
    assert settle_batch(ledger, leased(ledger, BATCHES, key))


def test_unknown_work_is_nothing_to_do(ledger: Ledger) -> None:
    """Messages of another ledger do no harm."""
    with ledger.read() as tx:
        assert work.batch_encoder(tx, 4711) is None
        assert results.job_device(tx, 4711) is None
    assert claim(ledger, BATCHES, 4711) is None
    assert claim(ledger, JOBS, 4711) is None


# ── embeddings ──────────────────────────────────────────────────────────────


def test_vectors_are_kept_bit_by_bit(ledger: Ledger, key: int) -> None:
    """What a job gets is what a worker stored, in the order of the frames."""
    settle_batch(ledger, leased(ledger, BATCHES, key))
    complete(ledger)
    open_revision(ledger)
    about = job_input(ledger, jobs(ledger)[0].id)
    assert [(e.frame, e.vector, e.reason) for e in about.embeddings] == [
        (0, VECTOR, "")
    ] * 3


def test_an_unreadable_frame_is_noted_and_holds_up_nothing(ledger: Ledger) -> None:
    """The job is told why; the journal names image and frame."""
    record(ledger, received(frames=2))
    embed(ledger, picture=lambda _path: "")
    complete(ledger)
    with ledger.read() as tx:
        key = standing(ledger).key
        assert motion.embedded(tx, now=T0) == [key]
        lines = journal(tx, study_uid(), limit=10)
    assert [line.detail for line in lines if line.kind == "unreadable"] == [
        "frame 2: no codec can decode it",
        "frame 1: no codec can decode it",
    ]
    open_revision(ledger)
    about = job_input(ledger, jobs(ledger)[0].id)
    assert {e.reason for e in about.embeddings} == {"no codec can decode it"}


# ── jobs ────────────────────────────────────────────────────────────────────


def test_the_first_result_stored_wins(ledger: Ledger) -> None:
    """A worker whose lease passed on writes no second one."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    (row,) = jobs(ledger)
    slow = leased(ledger, JOBS, row.id)
    quick = leased(ledger, JOBS, row.id, now=later(LEASE_S + 1))
    assert settle_job(ledger, quick)
    assert not settle_job(ledger, slow)


def test_a_job_that_cannot_be_done_says_why(ledger: Ledger) -> None:
    """Whoever holds the lease may say so; then it can be tried again on request."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    (row,) = jobs(ledger)
    old = leased(ledger, JOBS, row.id)
    new = leased(ledger, JOBS, row.id, now=later(LEASE_S + 1))
    study = standing(ledger).key
    with ledger.write() as tx:
        assert not results.fail_job(tx, old, detail="I say so", now=T0)
        assert results.fail_job(tx, new, detail="weights missing", now=T0)
        assert results.failure(tx, study) == "weights missing"
        results.retry_jobs(tx, study)
        assert results.failure(tx, study) == ""
    assert [w.work for w in undispatched(ledger, T0, table=JOBS)] == [row.id]
