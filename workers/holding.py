"""Hold a piece of the ledger's work while it is being done.

The lease is renewed by a heartbeat of its own, so a worker that dies is noticed within
one lease and the work goes to another; one that hangs loses it after the hard limit.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog

from dicom_node.domain import Lease
from dicom_node.errors import Transient
from dicom_node.ledger import Ledger, LedgerBusyError, leases
from dicom_node.ledger.leases import WorkTable

RENEWALS_PER_LEASE = 3

log = structlog.get_logger(__name__)


@contextmanager
def hold(
    ledger: Ledger,
    table: WorkTable,
    work: int,
    *,
    clock: Callable[[], datetime],
    lease_s: float,
    limit_s: float,
) -> Iterator[Lease | None]:
    """Yield a lease of the work, or None where there is nothing to do.

    Work that ends in a `Transient` error is given back at once; after any other error
    the lease runs out.

    Parameters
    ----------
    limit_s
        The heartbeat stops after so long, whatever the work does.
    """
    with ledger.write() as tx:
        lease = leases.claim(tx, table, work, now=clock(), lease_s=lease_s)
    if lease is None:
        yield None
        return
    heartbeat = _Heartbeat(
        ledger, table, lease, clock=clock, lease_s=lease_s, limit_s=limit_s
    )
    heartbeat.start()
    try:
        yield lease
    except Transient:
        heartbeat.stop()
        with ledger.write() as tx:
            leases.give_back(tx, table, lease)
        raise
    finally:
        heartbeat.stop()


class _Heartbeat:
    """Renews a lease from a thread until it is stopped, or the limit is reached."""

    def __init__(
        self,
        ledger: Ledger,
        table: WorkTable,
        lease: Lease,
        *,
        clock: Callable[[], datetime],
        lease_s: float,
        limit_s: float,
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._lease = lease
        self._clock = clock
        self._lease_s = lease_s
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, args=(limit_s,), name="heartbeat", daemon=True
        )

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End; safe to call twice."""
        self._done.set()
        self._thread.join()

    def _beat(self, limit_s: float) -> None:
        interval_s = self._lease_s / RENEWALS_PER_LEASE
        for _ in range(int(limit_s / interval_s)):
            if self._done.wait(interval_s):
                return
            try:
                with self._ledger.write() as tx:
                    now, lease_s = self._clock(), self._lease_s
                    mine = leases.renew(
                        tx, self._table, self._lease, now=now, lease_s=lease_s
                    )
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
                continue
            if not mine:
                return
