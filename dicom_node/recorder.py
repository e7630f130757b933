"""Write what was received into the ledger, many instances in one transaction.

An instance is acknowledged once it lies in the spool; its row may follow a moment
later. If the process dies in between, the recovery scan takes the file in again.
What the ledger cannot hold is noted and left in the spool; it holds up nothing else.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from dicom_node.domain import Priority, Received, Refusal, Sha256, StudyUid
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.ledger import Ledger, LedgerBusyError
from dicom_node.ledger.arrivals import record
from dicom_node.ledger.events import note

QUIET_S = 0.1
"""When nothing more has come for so long, what came is written."""
LONGEST_S = 1.0
"""What comes without a pause is written so often: the sender waits for the same core."""
RETRY_S = 0.5
MOST_AT_ONCE = 256
MOST_WAITING = 10_000
RESERVE = 1_000
"""So many more may wait of what is urgent."""

log = structlog.get_logger(__name__)


class LedgerRecorder:
    """Takes what the front doors received and writes it in the background.

    Parameters
    ----------
    encoders
        Digests of the encoders in use.
    wake
        Called after each transaction, so that work begins at once.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        encoders: Sequence[Sha256],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._encoders = tuple(encoders)
        self._wake = wake
        self._waiting: deque[Received | Refusal] = deque()
        self._written = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end. Safe to call where nothing was started.

        Where the ledger does not answer, the rest is left to the recovery scan.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def record(self, received: Received) -> None:
        """Take an instance that lies in the spool.

        Raises
        ------
        Rejected
            If the ledger has not kept up for so long that too much waits.
        """
        self._add(received)

    def refuse(self, refusal: Refusal) -> None:
        """Take note of a data set that was refused."""
        self._add(refusal)

    def flush(self) -> None:
        """Wait until all that was taken so far is in the ledger."""
        with self._changed:
            taken = self._written + len(self._waiting)
            self._changed.wait_for(lambda: self._written >= taken)

    def pending_studies(self) -> frozenset[StudyUid]:
        """Return the studies of which instances are not in the ledger yet."""
        with self._changed:
            return frozenset(
                item.header.study_uid
                for item in self._waiting
                if isinstance(item, Received)
            )

    def _add(self, item: Received | Refusal) -> None:
        urgent = isinstance(item, Received) and item.header.priority is Priority.STAT
        most = MOST_WAITING + (RESERVE if urgent else 0)
        with self._changed:
            if len(self._waiting) >= most:
                raise Rejected("the ledger does not keep up", status=OUT_OF_RESOURCES)
            self._waiting.append(item)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def _run(self) -> None:
        while self._gather():
            with self._changed:
                chunk = list(islice(self._waiting, MOST_AT_ONCE))
            try:
                self._write_well(chunk)
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
                if self._stopping:
                    return
                time.sleep(RETRY_S)
                continue
            with self._changed:
                for _ in chunk:
                    self._waiting.popleft()
                self._written += len(chunk)
                self._changed.notify_all()
            self._wake()

    def _gather(self) -> bool:
        """Wait for something to write, and for a pause, so that rows share a commit."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            latest = time.monotonic() + LONGEST_S
            count = 0
            while count < len(self._waiting) < MOST_AT_ONCE:
                count = len(self._waiting)
                if self._changed.wait_for(lambda: self._stopping, QUIET_S):
                    break
                if time.monotonic() >= latest:
                    break
            return bool(self._waiting)

    def _write_well(self, chunk: Sequence[Received | Refusal]) -> None:
        """Write them together; where that fails, whatever can be written alone."""
        try:
            self._write(chunk)
        except LedgerBusyError:
            raise
        except Exception:
            log.exception("not_recorded_together", count=len(chunk))
            for item in chunk:
                self._write_alone(item)

    def _write_alone(self, item: Received | Refusal) -> None:
        try:
            self._write([item])
        except LedgerBusyError:
            raise
        except Exception as error:
            log.exception("not_recorded")
            detail = f"it stays in the spool: {type(error).__name__}"
            with self._ledger.write() as tx:
                note(tx, item.at, "not recorded", detail)

    def _write(self, chunk: Sequence[Received | Refusal]) -> None:
        received = [item for item in chunk if isinstance(item, Received)]
        with self._ledger.write() as tx:
            record(tx, received, encoders=self._encoders)
            for item in chunk:
                if not isinstance(item, Received):
                    detail = f"0x{item.status:04X} {item.comment}"
                    note(tx, item.at, "refused", detail, uid=item.sop_instance_uid)
