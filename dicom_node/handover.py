"""Each tick moves every study on: what arrived becomes work, work becomes reports.

One tick reads the ledger, decides with the pure core (`lifecycle`, `batching`),
writes the ledger, and puts keys on the queue. It holds no state of its own, so a
node that starts again goes on where the last one stopped.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from dicom_node.batching import BatchLimits, form_batches
from dicom_node.dispatch import BrokerDownError, Dispatcher
from dicom_node.domain import (
    ALWAYS_COMPOSED,
    PackCard,
    PendingFrame,
    Priority,
    StudyUid,
)
from dicom_node.ledger import (
    Ledger,
    LedgerBusyError,
    Tx,
    frames,
    leases,
    motion,
    outbox,
    results,
    revisions,
    suspects,
    work,
)
from dicom_node.ledger.events import note
from dicom_node.ledger.leases import BATCHES, JOBS, Waiting, WorkTable
from dicom_node.ledger.motion import Arriving
from dicom_node.ledger.studies import happen
from dicom_node.lifecycle import Event, Patience, Signals, State, completeness

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient the handover is, and how much it lets out at once.

    Parameters
    ----------
    revision_interval_s
        The least time between two revisions of a study, so that stragglers do
        not make a chain of reports.
    attempts
        How often work is begun before it is given up.
    redispatch_s
        How long a message may lie on the queue before it is sent again.
    taken_s
        The same where nothing lies on the queue: a worker took it, and died since.
    messages
        Most messages of a kind that one tick sends, so that what is urgent never
        waits for a long one to end.
    """

    patience: Patience
    limits: BatchLimits
    revision_interval_s: float
    attempts: int = 5
    redispatch_s: float = 30.0
    taken_s: float = 5.0
    messages: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The node's heartbeat: `tick` is called a few times a second.

    Parameters
    ----------
    open_studies
        Returns the studies of which instances are arriving right now.
    """

    ledger: Ledger
    dispatcher: Dispatcher
    packs: Sequence[PackCard]
    addresses: Sequence[outbox.Address]
    pace: Pace
    open_studies: Callable[[], Collection[StudyUid]]
    clock: Callable[[], datetime]

    def tick(self) -> bool:
        """Move every study on as far as it can go now.

        Returns
        -------
        bool
            Whether something was put into the outbox.
        """
        busy = self.open_studies()
        now = self.clock()
        self._give_up(now)
        self._settle_arrivals(busy, now)
        self._open_revisions(now)
        concluded = self._settle_jobs(now)
        self._settle_deliveries(now)
        self._form_batches()
        self._dispatch(now)
        return concluded

    def _give_up(self, now: datetime) -> None:
        tries = self.pace.attempts
        with self.ledger.read() as tx:
            worn = leases.exhausted(tx, JOBS, now=now, attempts=tries)
            verdict = suspects.judge(tx, now=now, attempts=tries)
        if not worn and not verdict:
            return
        detail = f"begun {tries} times, never finished"
        with self.ledger.write() as tx:
            suspects.execute(tx, verdict, now=now)
            jobs = leases.give_up(tx, JOBS, now=now, attempts=tries)
            results.fail_jobs(tx, jobs, detail=detail, now=now)

    def _settle_arrivals(self, busy: Collection[StudyUid], now: datetime) -> None:
        with self.ledger.read() as tx:
            arriving = motion.arriving(tx)
        for one in arriving:
            if why := self._complete(one, busy, now):
                self._move(one.key, partial(self._settle_arrival, one, why, now))

    def _complete(
        self, one: Arriving, busy: Collection[StudyUid], now: datetime
    ) -> str:
        interval = timedelta(seconds=self.pace.revision_interval_s)
        last = one.last_revision_at
        # a revision of a later hour is of a clock that was set back since
        recent = last is not None and timedelta(0) <= now - last < interval
        if recent and not one.asked:
            return ""
        signals = Signals(
            first_at=one.waiting_since,
            last_at=one.last_at,
            open_association=one.study_uid in busy,
            received=one.received,
            expected=one.expected,
            asked=one.asked,
        )
        return completeness(signals, self.pace.patience, now)

    def _settle_arrival(
        self, one: Arriving, why: str, now: datetime, tx: Tx
    ) -> State | None:
        if motion.arrived_since(tx, one):
            return None
        if revisions.has_images(tx, one.key):
            if gone := motion.missing_images(tx, one.key):
                why = f"{why}; {gone}"
            return happen(tx, one.key, Event.COMPLETE, detail=why, at=now)
        detail = "there is no image in it"
        return happen(tx, one.key, Event.NOTHING, detail=detail, at=now)

    def _open_revisions(self, now: datetime) -> None:
        with self.ledger.read() as tx:
            ready = motion.embedded(tx, now=now)
        for key in ready:
            self._move(key, partial(self._open_revision, key, now))

    def _open_revision(self, key: int, now: datetime, tx: Tx) -> State | None:
        if key not in motion.embedded(tx, now=now, key=key):
            return None
        frames.await_packs(tx, key, self.packs)
        if key not in motion.embedded(tx, now=now, key=key):
            return None  # a pack that is new here needs other embeddings
        outbox.address(tx, key, self.addresses, now=now)
        former = motion.revision_of(tx, key)
        wanted = {kind for to in self.addresses for kind in to.objects}
        objects = wanted or ALWAYS_COMPOSED  # nobody to ask: who looks, looks for both
        number = revisions.open_revision(tx, key, self.packs, objects=objects, now=now)
        if not revisions.has_jobs(tx, key):
            detail = "the rules keep every pack from it"
            note(tx, now, "not reported", detail, study_id=key)
        same = "unchanged, " if number == former else ""
        return happen(
            tx, key, Event.EMBEDDED, detail=f"{same}revision {number}", at=now
        )

    def _settle_jobs(self, now: datetime) -> bool:
        with self.ledger.read() as tx:
            settled = motion.concluded(tx)
        for key in settled:
            self._move(key, partial(self._settle_jobs_of, key, now))
        return bool(settled)

    def _settle_jobs_of(self, key: int, now: datetime, tx: Tx) -> State | None:
        """Send what was concluded, also where another pack could not be run."""
        if key not in motion.concluded(tx, key=key):
            return None
        outbox.address(tx, key, self.addresses, now=now)
        if detail := results.failure(tx, key):
            return happen(tx, key, Event.FAILED, detail=detail, at=now)
        return happen(tx, key, Event.CONCLUDED, detail="", at=now)

    def _settle_deliveries(self, now: datetime) -> None:
        with self.ledger.read() as tx:
            settled = motion.delivered(tx)
        for key in settled:
            self._move(key, partial(self._settle_deliveries_of, key, now))

    def _settle_deliveries_of(self, key: int, now: datetime, tx: Tx) -> State | None:
        if key not in motion.delivered(tx, key=key):
            return None
        if detail := outbox.refusal(tx, key):
            return happen(tx, key, Event.UNDELIVERED, detail=detail, at=now)
        return happen(tx, key, Event.DELIVERED, detail="", at=now)

    def _move(self, key: int, step: Callable[[Tx], State | None]) -> None:
        """Take the step with one study; a fault there holds up no other study."""
        try:
            with self.ledger.write() as tx:
                state = step(tx)
        except LedgerBusyError:
            raise
        except Exception:
            log.exception("study_not_moved", study=key)
        else:
            if state is not None:
                log.info("study_moved", study=key, state=state)

    def _form_batches(self) -> None:
        limits = self.pace.limits
        pending: list[PendingFrame] = []
        with self.ledger.read() as tx:
            in_flight = work.batches_in_flight(tx)
            for priority in Priority:
                room = limits.in_flight - in_flight.get(priority, 0)
                if room > 0:
                    most = room * limits.frames
                    pending += work.pending_frames(tx, priority, limit=most)
        batches = form_batches(pending, in_flight=in_flight, limits=limits)
        if batches:
            with self.ledger.write() as tx:
                work.add_batches(tx, batches)

    def _dispatch(self, now: datetime) -> None:
        try:
            held = self.dispatcher.holding()
            if held.forgot:
                self._dispatch_anew()
            patience_s = self.pace.redispatch_s if held.waits else self.pace.taken_s
            send = self.dispatcher
            self._dispatch_table(BATCHES, send.embed_batch, now, patience_s)
            self._dispatch_table(JOBS, send.conclude_study, now, patience_s)
        except BrokerDownError as error:
            log.warning("broker_down", error=str(error))

    def _dispatch_anew(self) -> None:
        """Let all that the broker lost be sent again; mark the broker after that."""
        with self.ledger.write() as tx:
            count = sum(leases.forget_dispatch(tx, table) for table in (BATCHES, JOBS))
        self.dispatcher.mark()
        if count:
            log.warning("broker_emptied", count=count)

    def _dispatch_table(
        self,
        table: WorkTable,
        send: Callable[[int, Priority], None],
        now: datetime,
        patience_s: float,
    ) -> None:
        limit = self.pace.messages
        with self.ledger.read() as tx:
            waiting = leases.undispatched(
                tx, table, now=now, patience_s=patience_s, limit=limit
            )
        sent: list[Waiting] = []
        try:
            for one in waiting:
                send(one.work, one.priority)
                sent.append(one)
        finally:
            if sent:
                with self.ledger.write() as tx:
                    leases.dispatched(tx, table, sent, now=now)
