"""Empty the outbox: one thread a destination, so that a slow one delays no other."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random

import structlog

from dicom_node.deliver import Destination
from dicom_node.ledger import Ledger, LedgerBusyError, outbox
from dicom_node.ledger.outbox import DueDelivery
from dicom_node.objects import ObjectStore
from dicom_node.outgoing import Outcome, Outgoing, Verdict, next_attempt
from dicom_node.peers import Peer

IDLE_S = 1.0

log = structlog.get_logger(__name__)


class Drain:
    """Sends what is due to one destination, and notes what became of it.

    Parameters
    ----------
    batch_size
        Objects sent in one association or request.
    """

    def __init__(
        self,
        peer: Peer,
        destination: Destination,
        *,
        ledger: Ledger,
        objects: ObjectStore,
        batch_size: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._peer = peer
        self._destination = destination
        self._ledger = ledger
        self._objects = objects
        self._batch_size = batch_size
        self._clock = clock
        self._jitter = Random()  # noqa: S311 - spreads retries, guards nothing
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name=f"drain-{peer.name}", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being sent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look for something to send at once."""
        self._wake.set()

    def drain(self) -> int:
        """Send what is due now, and return how many objects were tried."""
        now = self._clock()
        with self._ledger.read() as tx:
            due = outbox.due(tx, self._peer.name, now=now, limit=self._batch_size)
        if due:
            by_key = {d.delivery: d for d in due}
            for outcome in self._destination.deliver(self._outgoing(due)):
                self._note(by_key[outcome.delivery], outcome)
        return len(due)

    def _run(self) -> None:
        while not self._stopping:
            try:
                tried = self.drain()
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
                tried = 0
            except Exception:
                log.exception("drain_failed", peer=self._peer.name)
                tried = 0
            if not tried:
                self._wake.wait(IDLE_S)
                self._wake.clear()

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
            )
            for d in due
        ]

    def _note(self, due: DueDelivery, outcome: Outcome) -> None:
        now = self._clock()
        detail = outcome.detail
        with self._ledger.write() as tx:
            if outcome.verdict is Verdict.DELIVERED:
                outbox.delivered(tx, due.delivery, detail=detail, now=now)
                return
            until = self._next(due, outcome, now)
            if until is None:
                outbox.give_up(tx, due.delivery, detail=detail, now=now)
            else:
                outbox.postpone(tx, due.delivery, detail=detail, until=until)
        log.warning("delivery_failed", peer=self._peer.name, detail=detail)

    def _next(
        self, due: DueDelivery, outcome: Outcome, now: datetime
    ) -> datetime | None:
        if outcome.verdict is Verdict.DEAD:
            return None
        jitter = self._jitter.uniform(-1, 1)
        attempts = due.attempts + 1
        return next_attempt(
            self._peer.retry, attempts, now, jitter=jitter, outcome=outcome
        )
