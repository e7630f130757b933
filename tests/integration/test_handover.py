"""The tick, with a real ledger: from the first instance to the last delivery."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import func, select, update

from dicom_node.batching import BatchLimits
from dicom_node.domain import (
    ALWAYS_COMPOSED,
    ObjectKind,
    PackCard,
    Priority,
    Received,
    StudyUid,
)
from dicom_node.handover import Handover, Pace
from dicom_node.ledger import Ledger, arrivals, leases, motion, outcomes
from dicom_node.ledger.leases import BATCHES, JOBS
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.overview import journal
from dicom_node.ledger.setback import pull_back
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import event, metadata, version
from dicom_node.lifecycle import Event, Patience
from tests.arrivals import (
    ENCODER,
    OTHER_ENCODER,
    PACK,
    digest,
    instance_uid,
    not_an_image,
    received,
    series,
    study_uid,
)
from tests.dispatched import Message, RecordingDispatcher
from tests.ledgers import (
    LEASE_S,
    PACS,
    Clock,
    Picture,
    claim,
    complete,
    due,
    job_input,
    jobs,
    record,
    settle_batch,
    settle_job,
    standing,
    state,
    stored,
)

PACE = Pace(
    patience=Patience(quiet_s=30, expected_quiet_s=2, cap_s=600),
    limits=BatchLimits(frames=4, in_flight=2),
    revision_interval_s=60,
)
OTHER_PACK = PackCard(
    name="head", version="1.0", device_uid="2.25.2002", encoder=ENCODER
)
NEXT_PACK = PackCard(
    name=PACK.name, version="1.1", device_uid="2.25.1002", encoder=ENCODER
)


@dataclass
class Site:
    """A node without front doors, a queue, a worker and a PACS that a test moves."""

    ledger: Ledger
    packs: Sequence[PackCard] = (PACK,)
    addresses: Sequence[Address] = (PACS,)
    pace: Pace = PACE
    clock: Clock = field(default_factory=Clock)
    queue: RecordingDispatcher = field(default_factory=RecordingDispatcher)
    open: set[StudyUid] = field(default_factory=set)
    picture: Picture = digest

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start the node again: nothing is kept but the ledger."""
        self.handover = Handover(
            ledger=self.ledger,
            dispatcher=self.queue,
            packs=self.packs,
            addresses=self.addresses,
            pace=self.pace,
            open_studies=lambda: frozenset(self.open),
            clock=self.clock,
        )

    def receive(self, *instances: Received) -> None:
        """Take instances in, now."""
        now = self.clock()
        record(self.ledger, *(replace(one, at=now) for one in instances))

    def tick(self, *, after_s: float = 0) -> bool:
        """Let time pass, then tick once."""
        self.clock.pass_s(after_s)
        return self.handover.tick()

    def work(self, message: Message) -> bool:
        """Do what a message asks for; False if there was nothing to do any more."""
        table = BATCHES if message.kind == "embed" else JOBS
        lease = claim(self.ledger, table, message.key, now=self.clock())
        if lease is None:
            return False
        if message.kind == "embed":
            return settle_batch(self.ledger, lease, picture=self.picture)
        return settle_job(self.ledger, lease, now=self.clock())

    def work_off(self, *, rounds: int = 100) -> int:
        """Tick and work until the queue is empty; return how many tasks were done."""
        done = 0
        for _ in range(rounds):
            self.tick()
            message = self.queue.take()
            if message is None:
                return done
            done += self.work(message)
        raise AssertionError("there is always something left to do")

    def deliver(self) -> int:
        """Let the PACS take what is due; return how many objects."""
        waiting = due(self.ledger, now=self.clock())
        for one in waiting:
            with self.ledger.write() as tx:
                outcomes.delivered(tx, one.delivery, detail="stored", now=self.clock())
        return len(waiting)

    def finish(self) -> None:
        """Let every study that is here come to its end."""
        self.clock.pass_s(PACE.patience.quiet_s)
        self.work_off()
        self.deliver()
        self.tick()


@pytest.fixture
def site(ledger: Ledger) -> Site:
    """Return a site where nothing has happened yet."""
    return Site(ledger)


def held_by(ledger: Ledger) -> dict[str, int]:
    """Return how many rows each table has."""
    with ledger.read() as tx:
        return {
            name: tx.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


def kinds(ledger: Ledger, number: int = 1) -> list[str]:
    """Return what the journal says of a study, the oldest first."""
    with ledger.read() as tx:
        return [
            line.kind for line in reversed(journal(tx, study_uid(number), limit=999))
        ]


# ── the whole way ───────────────────────────────────────────────────────────


def test_a_study_goes_from_its_arrival_to_the_pacs(site: Site) -> None:
    """Embedded while it arrives, concluded when complete, delivered, done."""
    site.receive(*series(1, 6))
    site.tick()
    assert [m.kind for m in site.queue.messages] == ["embed", "embed"]
    assert site.work_off() == 2
    assert state(site.ledger) == "receiving"
    assert site.work_off() == 0
    site.tick(after_s=30)
    assert state(site.ledger) == "concluding"
    (message,) = site.queue.messages
    assert message == Message(
        kind="conclude", key=jobs(site.ledger)[0].id, priority=Priority.ROUTINE
    )
    assert site.work(site.queue.take() or message)
    assert site.tick()
    assert state(site.ledger) == "delivering"
    assert not site.tick()
    assert site.deliver() == 2
    site.tick()
    assert state(site.ledger) == "done"
    assert kinds(site.ledger) == ["embedding", "concluding", "delivering", "done"]


def test_a_tick_repeated_does_nothing_more(site: Site) -> None:
    """At whatever point a study stands."""
    site.receive(*series(1, 3))
    for step in (
        lambda: None,
        site.work_off,
        lambda: site.clock.pass_s(30),
        site.work_off,
        site.deliver,
    ):
        step()
        site.tick()
        before = held_by(site.ledger), list(site.queue.messages), state(site.ledger)
        site.tick()
        site.tick()
        after = held_by(site.ledger), list(site.queue.messages), state(site.ledger)
        assert after == before
    assert state(site.ledger) == "done"


def test_a_node_that_starts_again_goes_on_where_it_stopped(site: Site) -> None:
    """At whatever point it stops, with whatever the queue lost."""
    site.receive(*series(1, 3))
    for step in (site.tick, site.work_off, lambda: site.clock.pass_s(31)):
        step()
        site.queue.take_all()
        site.restart()
    site.finish()
    site.clock.pass_s(31)
    site.finish()
    assert state(site.ledger) == "done"
    assert held_by(site.ledger)["job"] == 1
    assert held_by(site.ledger)["delivery"] == 2


def test_a_study_without_images_is_settled(site: Site) -> None:
    """There is nothing to conclude; an image that comes later starts it."""
    site.receive(not_an_image())
    site.tick(after_s=30)
    assert state(site.ledger) == "not analysed"
    site.receive(received())
    site.finish()
    assert state(site.ledger) == "done"


def test_packs_that_the_rules_keep_from_a_study_get_no_job(ledger: Ledger) -> None:
    """One image that a pack may look at is enough; the other pack has none."""
    site = Site(ledger, packs=(PACK, OTHER_PACK))
    both, other = (PACK.name, OTHER_PACK.name), (OTHER_PACK.name,)
    site.receive(received(1, 1, passed_over=both), received(1, 2, passed_over=other))
    site.finish()
    assert [job.pack for job in jobs(ledger)] == [PACK.name]
    assert state(ledger) == "done"


def test_a_study_that_the_rules_keep_from_every_pack_is_done(site: Site) -> None:
    """Without a report, and the journal says so."""
    site.receive(received(passed_over=(PACK.name,)))
    site.finish()
    assert (jobs(site.ledger), state(site.ledger)) == ([], "done")
    with site.ledger.read() as tx:
        said = tx.execute(select(event.c.detail).where(event.c.kind == "not reported"))
        assert said.scalar_one() == "the rules keep every pack from it"


def test_unreadable_images_are_concluded_too(site: Site) -> None:
    """No report never means negative: there is one that says so."""
    site.picture = lambda _path: ""
    site.receive(received())
    site.finish()
    assert state(site.ledger) == "done"


# ── priority ────────────────────────────────────────────────────────────────


def test_an_urgent_study_behind_fifty_routine_ones_is_first(site: Site) -> None:
    """It is concluded before any of those that nobody had begun."""
    for number in range(1, 51):
        site.receive(*series(number, 2))
    site.tick()
    begun = [m.key for m in site.queue.messages]
    assert len(begun) == site.pace.limits.in_flight
    site.receive(*series(99, 3, priority=Priority.STAT))
    with site.ledger.write() as tx:
        for number in (*range(1, 51), 99):
            motion.ask(tx, standing(site.ledger, number).key)
    order: list[int] = []
    while "done" not in {j.state for j in jobs(site.ledger, 99)}:
        site.tick()
        message = site.queue.take()
        assert message is not None
        assert site.work(message)
        if message.kind == "embed" and message.priority is not Priority.STAT:
            order.append(message.key)
    assert set(order) <= set(begun)
    concluded = [
        number
        for number in range(1, 51)
        if "done" in {j.state for j in jobs(site.ledger, number)}
    ]
    assert len(concluded) <= len(begun) * site.pace.limits.frames // 2


def test_an_urgent_study_is_queued_before_all_others(site: Site) -> None:
    """In the very next tick, whatever waits."""
    site.receive(*series(1, 40))
    site.tick()
    site.receive(received(2, priority=Priority.STAT))
    site.tick()
    last = site.queue.messages[-1]
    assert (last.kind, last.priority) == ("embed", Priority.STAT)


def test_one_tick_sends_a_bounded_number_of_messages(ledger: Ledger) -> None:
    """However many jobs wait, an urgent one never waits for a long tick."""
    site = Site(ledger, pace=replace(PACE, messages=5))
    for number in range(1, 13):
        site.receive(received(number))
    site.work_off()
    site.clock.pass_s(30)
    sent = []
    for _ in range(4):
        site.tick()
        sent.append(len(site.queue.take_all()))
    assert sent == [5, 5, 2, 0]


# ── the queue and the workers ───────────────────────────────────────────────


def test_what_the_broker_did_not_take_is_sent_when_it_is_back(site: Site) -> None:
    """Studies move on meanwhile, as far as the node alone can move them."""
    site.queue.down = True
    site.receive(*series(1, 6))
    site.receive(not_an_image(2))
    site.tick()
    site.tick(after_s=30)
    assert [state(site.ledger, 1), state(site.ledger, 2)] == [
        "embedding",
        "not analysed",
    ]
    site.queue.down = False
    site.tick()
    assert [m.kind for m in site.queue.messages] == ["embed", "embed"]


def test_what_the_broker_lost_is_sent_again(site: Site) -> None:
    """A private broker that was killed keeps nothing."""
    site.receive(received())
    site.tick()
    lost = site.queue.take_all()
    site.tick()
    assert site.queue.messages == []
    site.tick(after_s=site.pace.redispatch_s + 1)
    assert site.queue.messages == list(lost)


def test_what_a_dead_worker_had_taken_is_sent_again_soon(site: Site) -> None:
    """Nothing lies on the queue: somebody took it, and nobody has begun."""
    site.receive(received())
    site.tick()
    taken = site.queue.take_all()
    site.queue.waits = False
    site.tick(after_s=site.pace.taken_s + 1)
    assert site.queue.messages == list(taken)


def test_what_an_emptied_broker_lost_is_sent_again_at_once(site: Site) -> None:
    """It says itself that it forgot; then it is marked, and nothing is sent twice."""
    site.receive(received())
    site.tick()
    lost = site.queue.take_all()
    site.queue.forgot = True
    site.tick()
    assert site.queue.messages == list(lost)
    site.tick()
    assert site.queue.messages == list(lost)


def test_a_clock_that_is_set_back_holds_nothing_up(site: Site) -> None:
    """An hour back: messages, leases, quiet periods and deliveries go on as before."""
    site.receive(received())
    site.tick()
    (message,) = site.queue.take_all()
    assert claim(site.ledger, BATCHES, message.key, now=site.clock()) is not None
    site.clock.pass_s(-3600)
    with site.ledger.write() as tx:
        assert pull_back(tx, now=site.clock(), lease_s=LEASE_S) > 0
    site.tick(after_s=LEASE_S + 1)
    assert site.queue.messages == [message]
    site.tick(after_s=31)  # the quiet period
    assert state(site.ledger) == "embedding"
    site.work_off()
    assert [d.kind for d in due(site.ledger, now=site.clock())]
    site.clock.pass_s(-3600)
    assert not due(site.ledger, now=site.clock())
    with site.ledger.write() as tx:
        pull_back(tx, now=site.clock(), lease_s=LEASE_S)
    assert due(site.ledger, now=site.clock())
    with site.ledger.write() as tx:
        assert pull_back(tx, now=site.clock(), lease_s=LEASE_S) == 0


def test_a_broker_that_fails_midway_costs_no_message(site: Site) -> None:
    """What it took is noted, the rest is sent by the next tick."""
    site.receive(*series(1, 8))

    class Brittle(RecordingDispatcher):
        """Takes one message, then fails."""

        def embed_batch(self, batch_id: int, priority: Priority) -> None:
            super().embed_batch(batch_id, priority)
            self.down = True

    site.queue = Brittle()
    site.restart()
    site.tick()
    site.queue.down = False
    site.tick()
    assert len({m.key for m in site.queue.messages}) == 2
    assert len(site.queue.messages) == 2


def test_a_worker_that_dies_is_replaced_and_fenced(site: Site) -> None:
    """Its lease runs out, another does the work, and it can write no more."""
    site.receive(received())
    site.tick()
    (message,) = site.queue.take_all()
    dead = claim(site.ledger, BATCHES, message.key, now=site.clock())
    assert dead is not None
    site.tick(after_s=LEASE_S - 1)
    assert site.queue.messages == []
    site.tick(after_s=2)
    assert site.queue.messages == [message]
    assert site.work(message)
    assert not settle_batch(site.ledger, dead)


def test_work_that_kills_its_workers_is_given_up(site: Site) -> None:
    """The frames are unreadable, the study goes on without them."""
    site.receive(received())
    for _ in range(site.pace.attempts):
        site.tick()
        (message,) = site.queue.take_all()
        assert claim(site.ledger, BATCHES, message.key, now=site.clock())
        site.clock.pass_s(LEASE_S + 1)
    site.finish()
    assert state(site.ledger) == "done"
    assert "quarantined" in kinds(site.ledger)


def test_a_job_that_kills_its_workers_fails_the_study(ledger: Ledger) -> None:
    """What another pack found is sent all the same, and a retry begins anew."""
    site = Site(ledger, packs=[PACK, OTHER_PACK])
    site.receive(received())
    site.work_off()
    site.tick(after_s=30)
    bad, good = site.queue.take_all()
    assert site.work(good)
    for _ in range(site.pace.attempts):
        assert claim(ledger, JOBS, bad.key, now=site.clock())
        site.clock.pass_s(LEASE_S + 1)
    site.tick()
    assert standing(ledger).detail == "begun 5 times, never finished"
    assert state(ledger) == "failed"
    assert {d.kind for d in due(ledger, now=site.clock())} == set(ALWAYS_COMPOSED)


def test_work_that_can_not_be_done_now_is_tried_for_ever(site: Site) -> None:
    """A spool that is out of reach makes no frame unreadable."""
    site.receive(received())
    for _ in range(20):
        site.tick(after_s=1)
        (message,) = site.queue.take_all()
        lease = claim(site.ledger, BATCHES, message.key, now=site.clock())
        assert lease is not None
        with site.ledger.write() as tx:
            leases.give_back(tx, BATCHES, lease)
    site.finish()
    assert state(site.ledger) == "done"
    assert "unreadable" not in kinds(site.ledger)


# ── completeness ────────────────────────────────────────────────────────────


def test_a_study_is_not_complete_while_its_sender_is_connected(site: Site) -> None:
    """Silence counts once the association is released."""
    site.open.add(study_uid())
    site.receive(received())
    site.tick(after_s=100)
    assert state(site.ledger) == "receiving"
    site.open.clear()
    site.tick()
    assert standing(site.ledger).detail == "quiet for 30 s"


def test_a_sender_that_never_lets_go_is_not_waited_for(site: Site) -> None:
    """The cap ends the wait."""
    site.open.add(study_uid())
    site.receive(received())
    site.tick(after_s=599)
    assert state(site.ledger) == "receiving"
    site.tick(after_s=1)
    assert standing(site.ledger).detail == "waited the longest allowed (600 s)"


def test_the_expected_count_shortens_the_wait(site: Site) -> None:
    """Once it is reached; an instance that comes makes it unknown again."""
    site.receive(*series(1, 2))
    key = standing(site.ledger).key
    with site.ledger.write() as tx:
        motion.expect(tx, key, 3)
    site.tick(after_s=5)
    assert state(site.ledger) == "receiving"
    site.receive(received(number=3))
    with site.ledger.write() as tx:
        motion.expect(tx, key, 3)
    site.tick(after_s=2)
    assert standing(site.ledger).detail == "all 3 expected instances are here"


def test_whoever_asks_need_not_wait(site: Site) -> None:
    """Not even while the sender is connected."""
    site.open.add(study_uid())
    site.receive(received())
    with site.ledger.write() as tx:
        motion.ask(tx, standing(site.ledger).key)
    site.tick()
    assert standing(site.ledger).detail == "requested"


# ── later ───────────────────────────────────────────────────────────────────


def test_late_images_make_one_new_revision_not_a_chain(site: Site) -> None:
    """There is a least time between two revisions of a study."""
    site.receive(received())
    site.finish()
    site.receive(received(number=2))
    site.tick(after_s=PACE.patience.quiet_s)
    assert state(site.ledger) == "receiving"
    site.receive(received(number=3))
    site.clock.pass_s(PACE.patience.quiet_s)
    site.finish()
    assert (state(site.ledger), standing(site.ledger).revision) == ("done", 2)
    about = job_input(site.ledger, jobs(site.ledger)[-1].id)
    former = stored(jobs(site.ledger)[0].id, ObjectKind.REPORT)
    assert [p.sop_instance_uid for p in about.predecessors] == [former.sop_instance_uid]
    assert len(about.files) == 3


def test_a_late_image_waits_for_the_job_that_is_being_done(site: Site) -> None:
    """So the report of the older revision is finished, and then superseded."""
    site.receive(received())
    site.work_off()
    site.tick(after_s=30)
    (message,) = site.queue.take_all()
    lease = claim(site.ledger, JOBS, message.key, now=site.clock())
    assert lease is not None
    with site.ledger.write() as tx:
        leases.renew(tx, JOBS, lease, now=site.clock(), lease_s=600)
    site.receive(received(number=2))
    site.work_off()
    site.clock.pass_s(120)
    site.tick()
    assert (state(site.ledger), standing(site.ledger).revision) == ("embedding", 1)
    assert settle_job(site.ledger, lease)
    site.tick()
    assert (state(site.ledger), standing(site.ledger).revision) == ("concluding", 2)
    assert len(job_input(site.ledger, jobs(site.ledger)[-1].id).predecessors) == 1
    assert len(due(site.ledger, now=site.clock())) == 2


def test_a_conflict_stops_a_study_and_a_decision_lets_it_go_on(site: Site) -> None:
    """Nothing is sent in between, and nothing is concluded twice."""
    site.receive(received())
    site.clock.pass_s(30)
    site.work_off()
    site.receive(received(number=2, patient=digest("B")))
    site.finish()
    assert state(site.ledger) == "held"
    assert site.deliver() == 0
    with site.ledger.write() as tx:
        arrivals.keep_patient_of(tx, study_uid(), instance_uid(), at=site.clock())
    site.clock.pass_s(60)
    site.finish()
    assert state(site.ledger) == "done"
    assert [(j.number, j.state) for j in jobs(site.ledger)] == [(1, "done")]
    assert held_by(site.ledger)["delivery"] == 2


def test_a_destination_that_refuses_leaves_the_study_undelivered(site: Site) -> None:
    """It says which, and why."""
    site.receive(received())
    site.clock.pass_s(30)
    site.work_off()
    for one in due(site.ledger, now=site.clock()):
        with site.ledger.write() as tx:
            outcomes.give_up(tx, one.delivery, detail="0xA900 no", now=site.clock())
    site.tick()
    assert standing(site.ledger).detail == "PACS: 0xA900 no"
    assert state(site.ledger) == "undelivered"


def test_a_site_without_destinations_is_done_when_concluded(site: Site) -> None:
    """The result is in the ledger; nobody waits for it."""
    site.handover = replace(site.handover, addresses=[])
    site.receive(received())
    site.clock.pass_s(30)
    site.work_off()
    site.tick()
    assert state(site.ledger) == "done"


def test_a_job_knows_what_destinations_want(site: Site) -> None:
    """A report in any case, and whatever else one of them takes; no capture for nobody."""
    documents = Address(destination="DOCS", objects=frozenset({ObjectKind.DOCUMENT}))
    site.addresses = [documents]
    site.restart()
    site.receive(received())
    site.finish()
    (row,) = jobs(site.ledger)
    wanted = {ObjectKind.REPORT, ObjectKind.DOCUMENT}
    assert job_input(site.ledger, row.id).objects == wanted


def conclude_again(site: Site) -> None:
    """Ask for another conclusion, and let the study come to its end."""
    with site.ledger.write() as tx:
        key = standing(site.ledger).key
        happen(tx, key, Event.AGAIN, detail="asked", at=site.clock())
    site.finish()


def test_a_new_pack_concludes_what_was_concluded_before(site: Site) -> None:
    """A new revision, from the embeddings that are there; it names its predecessor."""
    site.receive(received())
    site.finish()
    site.packs = [NEXT_PACK]
    site.restart()
    conclude_again(site)
    first, second = jobs(site.ledger)
    assert state(site.ledger) == "done"
    assert [(j.number, j.device_uid) for j in (first, second)] == [
        (1, PACK.device_uid),
        (2, NEXT_PACK.device_uid),
    ]
    (former,) = job_input(site.ledger, second.id).predecessors
    assert (
        former.sop_instance_uid == stored(first.id, ObjectKind.REPORT).sop_instance_uid
    )
    assert held_by(site.ledger)["batch"] == 1


def test_a_pack_that_did_not_change_is_not_run_again(site: Site) -> None:
    """Its report stays the current one, in the new revision too."""
    site.packs = [PACK, OTHER_PACK]
    site.restart()
    site.receive(received())
    site.finish()
    site.packs = [NEXT_PACK, OTHER_PACK]
    site.restart()
    conclude_again(site)
    found = sorted((j.pack, j.number, j.device_uid) for j in jobs(site.ledger))
    assert found == [
        ("chest", 1, PACK.device_uid),
        ("chest", 2, NEXT_PACK.device_uid),
        ("head", 2, OTHER_PACK.device_uid),
    ]


def test_nothing_changed_is_concluded_to_the_same(site: Site) -> None:
    """No new revision, no new job, nothing sent twice."""
    site.receive(received())
    site.finish()
    before = held_by(site.ledger)
    conclude_again(site)
    after = held_by(site.ledger)
    assert state(site.ledger) == "done"
    assert after | {"event": 0} == before | {"event": 0}


def test_a_pack_with_another_encoder_waits_for_its_embeddings(site: Site) -> None:
    """The images lie in the spool: they are embedded first, then concluded."""
    site.receive(*series(1, 2))
    site.finish()
    site.packs = [replace(NEXT_PACK, encoder=OTHER_ENCODER)]
    site.restart()
    conclude_again(site)
    assert state(site.ledger) == "done"
    assert held_by(site.ledger)["embedding"] == 4
    assert [j.number for j in jobs(site.ledger)] == [1, 2]


def test_one_study_that_fails_holds_up_no_other(site: Site) -> None:
    """A ledger that contradicts itself in one study lets the others go on."""
    site.receive(received(1))
    site.receive(received(2))
    site.work_off()
    for number in (1, 2):
        complete(site.ledger, number, now=site.clock())
    of_the_first = version.c.study_id == standing(site.ledger, 1).key
    with site.ledger.write() as tx:
        tx.execute(update(version).where(of_the_first).values(current=False))
    site.finish()
    assert [state(site.ledger, 1), state(site.ledger, 2)] == ["embedding", "done"]
