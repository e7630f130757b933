"""How long it takes until everything works again that was killed at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pynetdicom import AE
from sqlalchemy import func, select

from dicom_node.ledger import Ledger, LedgerBusyError, leases
from dicom_node.ledger.leases import BATCHES, JOBS
from dicom_node.ledger.tables import IN_MOTION, delivery
from tests.chaos.senders import Door

VERIFICATION = "1.2.840.10008.1.1"
LOOK_S = 0.2
PATIENCE_S = 0.5
STARTS_S = 10.0
LONGEST_S = 60.0
"""So long nothing else goes wrong, even if it has not recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was being done: the token of each unfinished piece of work, by its key."""

    batches: dict[int, int]
    jobs: dict[int, int]
    deliveries: int


def snapshot(ledger: Ledger) -> Snapshot | None:
    """Return what is being done now; None where the ledger does not say."""
    try:
        with ledger.read() as tx:
            found = [
                {
                    row.id: row.token
                    for row in tx.execute(
                        select(table.c.id, table.c.token).where(
                            table.c.state.in_([leases.READY, leases.LEASED])
                        )
                    )
                }
                for table in (BATCHES, JOBS)
            ]
            moving = tx.execute(
                select(func.count()).where(delivery.c.state.in_(IN_MOTION))
            ).scalar_one()
    except LedgerBusyError:
        return None
    return Snapshot(batches=found[0], jobs=found[1], deliveries=moving)


@dataclass
class Recovery:
    """A start after everything was killed, watched until all that was begun goes on.

    Parameters
    ----------
    began
        The moment (monotonic) after the last kill.
    last_acknowledged
        Returns when (monotonic) a sender was last told that an instance is safe.
    accepted_s
        When the first instance was acknowledged.
    receiving_s
        When every node had accepted an association and answered C-ECHO; in seconds
        since then, None before.
    working_s
        When a worker had taken up, or the queue was given anew, all that was
        unfinished, and a report had been delivered where any was waiting.
    """

    doors: Sequence[Door]
    ledger: Ledger
    found: Snapshot | None
    began: float
    last_acknowledged: Callable[[], float] = float
    receiving_s: float | None = None
    accepted_s: float | None = None
    first_receiving_s: float | None = None
    working_s: float | None = None
    _silent: set[Door] = field(init=False)
    _at: datetime = field(init=False)
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self._silent = set(self.doors)
        self._at = datetime.now(UTC)

    @property
    def is_over(self) -> bool:
        """Return whether it has recovered, or had long enough to."""
        known = (self.receiving_s, self.accepted_s, self.working_s)
        return None not in known or time.monotonic() > self.began + LONGEST_S

    @property
    def is_receiving(self) -> bool:
        """Return whether every node receives, or had time enough to begin."""
        late = time.monotonic() > self.began + STARTS_S
        return self.receiving_s is not None or late

    def look(self) -> None:
        """Look whether it has recovered meanwhile."""
        now = time.monotonic()
        if now < self._looked + LOOK_S / 4:
            return
        self._looked = now
        if self.receiving_s is None:
            self._knock()
        if self.accepted_s is None and (at := self.last_acknowledged()) > self.began:
            self.accepted_s = at - self.began
        if self.working_s is None and self.receiving_s is not None:
            self._ask()

    def _knock(self) -> None:
        for door in list(self._silent):
            if answers(door):
                self._silent.remove(door)
                if self.first_receiving_s is None:
                    self.first_receiving_s = time.monotonic() - self.began
        if not self._silent:
            self.receiving_s = time.monotonic() - self.began

    def _ask(self) -> None:
        if self.found is None:
            return
        try:
            with self.ledger.read() as tx:
                waiting = [
                    row
                    for table, keys in (
                        (BATCHES, self.found.batches),
                        (JOBS, self.found.jobs),
                    )
                    for row in tx.execute(select(table).where(table.c.id.in_(keys)))
                    if not self._goes_on(row, keys[row.id])
                ]
                delivered = tx.execute(
                    select(delivery.c.id)
                    .where(delivery.c.delivered_at > self._at)
                    .limit(1)
                ).first()
        except LedgerBusyError:
            return
        if not waiting and (delivered or not self.found.deliveries):
            self.working_s = time.monotonic() - self.began

    def _goes_on(self, row: object, token: int) -> bool:
        """Return whether the work was done, begun anew, or queued anew."""
        state, sent = row.state, row.dispatched_at  # type: ignore[attr-defined]
        if state not in (leases.READY, leases.LEASED) or row.token > token:  # type: ignore[attr-defined]
            return True
        return bool(state == leases.READY and sent is not None and sent > self._at)


def answers(door: Door) -> bool:
    """Return whether a node accepts an association there and answers C-ECHO."""
    scu = AE(ae_title="MODALITY")
    scu.connection_timeout = scu.acse_timeout = PATIENCE_S
    scu.dimse_timeout = scu.network_timeout = PATIENCE_S
    scu.add_requested_context(VERIFICATION)
    association = scu.associate("127.0.0.1", door.dicom_port, ae_title="PACSIGHT")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool("Status" in status and status.Status == 0)
