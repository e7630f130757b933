"""A file that ends who reads it costs itself its result: not its neighbours, not the queue."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from dicom_node.domain import EmbeddedFrame, SopInstanceUid
from dicom_node.ledger import Ledger, Tx, overview, work
from dicom_node.ledger.leases import BATCHES
from dicom_node.ledger.quarantine import (
    NotQuarantinedError,
    QuarantineLine,
    put_aside,
    quarantined,
    release,
)
from dicom_node.ledger.suspects import REASON
from dicom_node.ledger.tables import version
from tests.arrivals import OTHER_ENCODER, T0, instance_uid, later, received, study_uid
from tests.dispatched import Message
from tests.integration.test_handover import Site
from tests.ledgers import (
    LEASE_S,
    batch,
    claim,
    concluded_study,
    leased,
    pending,
    record,
    settle_batch,
    state,
)

GUILTY = 2
"""The number of the study whose only instance ends its workers."""


@pytest.fixture
def site(ledger: Ledger) -> Site:
    """Return a node without doors on an empty ledger."""
    return Site(ledger)


def lines(ledger: Ledger) -> list[QuarantineLine]:
    """Return what is in quarantine."""
    with ledger.read() as tx:
        return quarantined(tx)


def kinds(ledger: Ledger, study: int) -> list[str]:
    """Return what the journal says of a study, the oldest first."""
    with ledger.read() as tx:
        said = overview.journal(tx, study_uid(study), limit=100)
    return [line.kind for line in reversed(said)]


def held(ledger: Ledger, message: Message) -> set[str]:
    """Return the files whose frames are in the batch of a message."""
    with ledger.read() as tx:
        return {task.path for task in work.batch_tasks(tx, message.key)}


def work_with_a_killer(site: Site, guilty: str, *, rounds: int = 40) -> int:
    """Work until nothing is left; return how many workers the guilty file has ended."""
    deaths = 0
    for _ in range(rounds):
        site.tick(after_s=LEASE_S + 1)
        messages: Sequence[Message] = site.queue.take_all()
        for message in messages:
            if message.kind == "embed" and guilty in held(site.ledger, message):
                lease = claim(site.ledger, BATCHES, message.key, now=site.clock())
                deaths += lease is not None
            else:
                site.work(message)
    return deaths


def test_only_the_guilty_frame_is_given_up(site: Site) -> None:
    """It shares a batch with two innocent studies; both are reported on as ever."""
    arrived = [received(number) for number in (1, GUILTY, 3)]
    site.receive(*arrived)
    deaths = work_with_a_killer(site, arrived[1].path)
    assert deaths == 3  # once with the others, twice alone
    (line,) = lines(site.ledger)
    assert (line.sop_instance_uid, line.reason) == (instance_uid(GUILTY), REASON)
    for innocent in (1, 3):
        assert not {"unreadable", "quarantined"} & set(kinds(site.ledger, innocent))
        assert "concluding" in kinds(site.ledger, innocent)
    assert "quarantined" in kinds(site.ledger, GUILTY)
    assert state(site.ledger, GUILTY) == state(site.ledger, 1)


def test_a_file_of_many_frames_ends_no_more_workers(site: Site) -> None:
    """Deaths count for the instance: its other frames are not tried one after another."""
    guilty = received(GUILTY, frames=8)
    site.receive(received(1), guilty, received(3))
    deaths = work_with_a_killer(site, guilty.path)
    assert deaths <= 8  # those that it shared, and those at work on it at once; not 16
    assert [line.sop_instance_uid for line in lines(site.ledger)] == [
        instance_uid(GUILTY)
    ]
    assert "quarantined" not in kinds(site.ledger, 1) + kinds(site.ledger, 3)


def test_workers_that_all_die_are_not_the_files_fault(site: Site) -> None:
    """Where no other work is done, a frame has as many tries as any work."""
    arrived = received()
    site.receive(arrived)
    for deaths in range(1, site.pace.attempts + 1):
        site.tick(after_s=LEASE_S + 1)
        assert lines(site.ledger) == [], f"after {deaths - 1} deaths"
        (message,) = site.queue.take_all()
        assert claim(site.ledger, BATCHES, message.key, now=site.clock())
    site.tick(after_s=LEASE_S + 1)
    assert [line.reason for line in lines(site.ledger)] == [REASON]


def test_what_ends_its_decoder_is_put_aside_at_once(ledger: Ledger) -> None:
    """The worker says so: the frames that others hold, or that wait, are settled, too."""
    record(ledger, received(1, frames=3), received(2))
    frames = pending(ledger)
    first, second = batch(ledger, frames[:1]), batch(ledger, frames[1:2])
    other = leased(ledger, BATCHES, second)
    lease = leased(ledger, BATCHES, first)
    fatal = EmbeddedFrame(
        embedding=frames[0].embedding, vector=b"", reason="SIGSEGV", fatal=True
    )
    with ledger.write() as tx:
        assert work.settle_batch(tx, lease, [fatal], now=T0)
    assert [f.embedding for f in pending(ledger)] == [frames[3].embedding]
    late = EmbeddedFrame(embedding=frames[1].embedding, vector=b"1234", pixels="x")
    with ledger.write() as tx:
        assert work.settle_batch(tx, other, [late], now=T0)
        assert work.frames_done(tx) == (3, 4)
    assert [line.reason for line in lines(ledger)] == ["SIGSEGV"]
    assert kinds(ledger, 1).count("unreadable") == 0


def _only_version(tx: Tx) -> int:
    key: int = tx.execute(select(version.c.id)).scalar_one()
    return key


def test_another_encoder_leaves_it_alone(ledger: Ledger) -> None:
    """A pack that is new here does not read it either."""
    record(ledger, received(), encoders=())
    with ledger.write() as tx:
        put_aside(tx, {_only_version(tx): "SIGSEGV"}, now=T0)
    record(ledger, received(), encoders=[OTHER_ENCODER.digest])
    assert pending(ledger) == []


def test_it_is_let_out_and_read_again(ledger: Ledger) -> None:
    """Alone; its study is concluded again, and its line tells of it meanwhile."""
    arrived = received()
    record(ledger, arrived)
    with ledger.write() as tx:
        put_aside(tx, {_only_version(tx): "SIGSEGV"}, now=T0)
    assert pending(ledger) == []
    concluded_study(ledger, arrived)
    with ledger.write() as tx:
        (study,) = overview.studies(tx)
        assert study.quarantined == 1
        assert release(tx, instance_uid(), now=later(9)) == study_uid()
        (study,) = overview.studies(tx)
        assert study.quarantined == 0
    assert state(ledger) == "embedding"
    (frame,) = pending(ledger)
    assert frame.alone
    assert settle_batch(ledger, leased(ledger, BATCHES, batch(ledger, [frame])))
    assert kinds(ledger, 1)[-2:] == ["released", "embedding"]


def test_only_what_is_in_quarantine_can_be_let_out(ledger: Ledger) -> None:
    """One sentence says so."""
    with (
        ledger.write() as tx,
        pytest.raises(NotQuarantinedError, match="is in quarantine"),
    ):
        release(tx, SopInstanceUid("2.25.1"), now=T0)
