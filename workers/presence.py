"""A worker says that it is there: a row in the ledger, renewed while it lives.

It says nothing of the work: each piece has a lease of its own (`workers.holding`).
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from uuid import uuid4

import structlog

from dicom_node.ledger import Ledger, LedgerBusyError
from dicom_node.ledger.workers import WorkerLine, appear, leave, stay

RENEWED_EVERY_S = 5.0

log = structlog.get_logger(__name__)


@contextmanager
def present(
    ledger: Ledger,
    *,
    device: str,
    packs: tuple[str, ...],
    clock: Callable[[], datetime],
    every_s: float = RENEWED_EVERY_S,
) -> Iterator[None]:
    """Be among the workers until the block ends.

    Parameters
    ----------
    device
        Where models run: ``cpu`` or ``cuda``.
    packs
        Names and versions of those that are held.
    """
    now = clock()
    line = WorkerLine(
        name=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
        device=device,
        packs=packs,
        started_at=now,
        seen_at=now,
    )
    ended = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(ledger, line, clock, every_s, ended), daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(LedgerBusyError), ledger.write() as tx:
            leave(tx, line.name)


def _renew(
    ledger: Ledger,
    line: WorkerLine,
    clock: Callable[[], datetime],
    every_s: float,
    ended: threading.Event,
) -> None:
    """Renew the row; one that is not there, or gone with the ledger, is made anew."""
    while True:
        try:
            with ledger.write() as tx:
                if not stay(tx, line.name, at=clock()):
                    appear(tx, line)
        except LedgerBusyError:
            log.debug("ledger_busy", worker=line.name)
        if ended.wait(every_s):
            return
