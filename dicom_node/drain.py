"""Empty the outbox: two threads a destination, so that nobody's slowness delays others.

One sends, the other asks whether what was sent is really there: asking never delays
sending, and a slow destination delays no other.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from dicom_node.deliver import Destination
from dicom_node.domain import Note
from dicom_node.ledger import Ledger, LedgerBusyError, outbox
from dicom_node.ledger.outbox import DueDelivery
from dicom_node.objects import ObjectStore
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Peer
from dicom_node.settling import Settling, random_jitter
from dicom_node.shipment import told
from dicom_node.verification import Patience

IDLE_S = 1.0
ASKED_AT_ONCE = 256
"""Most objects that are asked for over one association or session."""

HELD = timedelta(seconds=15)
"""What one node sends or asks for, another that shares the ledger leaves alone for so
long. If that takes longer, or the node dies, it is sent twice: the same object."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Loop:
    """A thread that works as long as there is something to do, then waits."""

    step: Callable[[], int]
    name: str
    wake: threading.Event = field(default_factory=threading.Event)
    stopping: bool = False
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopping = True
        self.wake.set()
        if self.thread is not None:
            self.thread.join()

    def _run(self) -> None:
        while not self.stopping:
            try:
                done = self.step()
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
                done = 0
            except Exception:
                log.exception("drain_failed", worker=self.name)
                done = 0
            if not done:
                self.wake.wait(IDLE_S)
                self.wake.clear()


class Drain:
    """Sends what is due to one destination, asks for it, and notes what became of it.

    Parameters
    ----------
    batch_size
        Objects sent in one association or request.
    patience
        How long to wait for the destination to have what it says it stored.
    note
        Takes what the audit trail is told.
    """

    def __init__(  # noqa: PLR0913 - what a destination's deliveries depend on
        self,
        peer: Peer,
        destination: Destination,
        *,
        ledger: Ledger,
        objects: ObjectStore,
        batch_size: int,
        clock: Callable[[], datetime],
        patience: Patience | None = None,
        note: Note = lambda _: None,
    ) -> None:
        self.peer = peer
        self._destination = destination
        self._ledger = ledger
        self._objects = objects
        self._note = note
        self._batch_size = batch_size
        self._clock = clock
        self.settling = Settling(
            peer=peer,
            patience=patience or Patience(),
            clock=clock,
            jitter=random_jitter(),
        )
        self._sending = _Loop(self.send, f"drain-{peer.name}")
        self._asking = _Loop(self.verify, f"verify-{peer.name}")

    def start(self) -> None:
        """Begin to send and to ask."""
        self._sending.start()
        self._asking.start()

    def stop(self) -> None:
        """End after what is being sent and asked for."""
        self._sending.stop()
        self._asking.stop()

    def wake(self) -> None:
        """Look for something to send at once."""
        self._sending.wake.set()

    def drain(self) -> int:
        """Send and ask for what is due now; return how many objects that were."""
        return self.send() + self.verify()

    def send(self) -> int:
        """Send what is due now, and return how many objects were tried."""
        now = self._clock()
        with self._ledger.read() as tx:
            due = outbox.due(tx, self.peer.name, now=now, limit=self._batch_size)
        due = self._hold(due, now)
        if due:
            self._send(due)
            self._asking.wake.set()
        return len(due)

    def verify(self) -> int:
        """Ask for what was sent and is due, and return how many objects that were."""
        now = self._clock()
        with self._ledger.read() as tx:
            due = outbox.unverified(tx, self.peer.name, now=now, limit=ASKED_AT_ONCE)
        due = self._hold(due, now)
        by_key = {one.delivery: one for one in due}
        for finding in self._destination.verify(self._outgoing(due)) if due else ():
            with self._ledger.write() as tx:
                self.settling.asked(tx, by_key[finding.delivery], finding)
        return len(due)

    def _hold(self, due: Sequence[DueDelivery], now: datetime) -> list[DueDelivery]:
        """Return what no other node has in hand."""
        if not due:
            return []
        with self._ledger.write() as tx:
            return outbox.hold(tx, due, now=now, until=now + HELD)

    def _send(self, due: Sequence[DueDelivery]) -> None:
        by_key = {one.delivery: one for one in due}
        objects = {one.delivery: one for one in self._outgoing(due)}
        tried: list[tuple[Outgoing, Outcome]] = []
        try:
            for outcome in self._destination.deliver(list(objects.values())):
                with self._ledger.write() as tx:
                    self.settling.attempted(tx, by_key[outcome.delivery], outcome)
                tried.append((objects[outcome.delivery], outcome))
        finally:
            for event in told(self.peer, tried):
                self._note(event)

    def _outgoing(self, due: Sequence[DueDelivery]) -> list[Outgoing]:
        return [
            Outgoing(
                delivery=d.delivery,
                path=self._objects.path(d.path),
                kind=d.kind,
                study_uid=d.study_uid,
                sop_class_uid=d.sop_class_uid,
                sop_instance_uid=d.sop_instance_uid,
                sha256=d.sha256,
                asked=d.asked,
            )
            for d in due
        ]
