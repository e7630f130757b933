"""Ask named sources how many instances a study has, while it is still arriving.

The answer can only shorten the quiet period. Asking happens in a thread of its own,
because a PACS may take its time.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from dicom_node.domain import StudyUid
from dicom_node.ledger import Ledger, LedgerBusyError, motion
from dicom_node.ledger.motion import Arriving

log = structlog.get_logger(__name__)

IDLE_S = 0.5

Source = Callable[[StudyUid], int | None]
"""Returns how many instances of a study it knows, or None."""


class Inquirer:
    """Keeps the expected number of instances of arriving studies in the ledger.

    Parameters
    ----------
    quiet_s
        A study is asked for once it has been quiet so long, and again after
        every later arrival.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        ledger: Ledger,
        quiet_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._sources = tuple(sources)
        self._ledger = ledger
        self._quiet = timedelta(seconds=quiet_s)
        self._clock = clock
        self._asked: dict[int, datetime] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inquirer", daemon=True)

    def start(self) -> None:
        """Begin to ask, if there is anybody to ask."""
        if self._sources:
            self._thread.start()

    def stop(self) -> None:
        """End after the question that is being asked."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def inquire(self) -> None:
        """Ask once for every study that is due."""
        with self._ledger.read() as tx:
            studies = motion.arriving(tx)
        self._asked = {s.key: at for s in studies if (at := self._asked.get(s.key))}
        for study in studies:
            if self._due(study) and not self._stopping.is_set():
                self._asked[study.key] = study.last_at
                self._ask(study)

    def _due(self, study: Arriving) -> bool:
        quiet = self._clock() - study.last_at >= self._quiet
        return quiet and self._asked.get(study.key) != study.last_at

    def _ask(self, study: Arriving) -> None:
        for source in self._sources:
            expected = source(study.study_uid)
            if expected is not None:
                with self._ledger.write() as tx:
                    if not motion.arrived_since(tx, study):
                        motion.expect(tx, study.key, expected)
                return

    def _run(self) -> None:
        while not self._stopping.wait(IDLE_S):
            try:
                self.inquire()
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
            except Exception:
                log.exception("inquiry_failed")
