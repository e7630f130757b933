"""Removes files that are needed no more, a study at a time: received ones and results.

For each study: decide, with the ledger's row held; write that the files are purged, and
have that on the disk; then remove them. After a crash in between, there are files whose
rows say purged. Received ones are found at the next start and kept on (perhaps they came
again just then); results are removed then. So there may be a file too many for a while,
never one too few. Two nodes that purge the same study do no harm.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from dicom_node.domain import StudyUid
from dicom_node.ledger import Ledger, LedgerBusyError, Tx, purging
from dicom_node.ledger.events import note
from dicom_node.ledger.purging import KeptFile, Shelf
from dicom_node.lifecycle import State
from dicom_node.retention import FINISHED, why_kept

STEP = 16
"""Studies that are looked at without a pause."""
PAUSE_S = 0.2
"""Between two steps."""
LONGEST_REST_S = 600.0
"""Between two rounds."""
LEFT_BEHIND = 1000
"""Files that a crash can have left, at most: those of the study that was purged last."""

log = structlog.get_logger(__name__)


class Files(Protocol):
    """Where files lie: `dicom_node.spool.Spool`, `dicom_node.objects.ObjectStore`."""

    def written_at(self, relative: str) -> datetime | None:
        """Return when a file was written, UTC; None if there is none."""
        ...

    def remove(self, relative: str, *, before: datetime) -> bool:
        """Remove a file, unless it was written since; return whether it is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """Files of one kind, and how long they stay after all was done, in seconds."""

    files: Files
    keep_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What becomes of a study's files on one shelf.

    Parameters
    ----------
    why_kept
        In words; empty if they go, or went.
    size
        Bytes.
    """

    shelf: Shelf
    study_uid: StudyUid
    why_kept: str
    files: int
    size: int


class Purger:
    """Removes what nobody needs.

    Parameters
    ----------
    ledger
        One that has on the disk what it has committed, see `open_ledger`.
    shelves
        What can be purged at all, and when.
    unasked
        Names of destinations that need not be seen to have what they got.
    """

    def __init__(
        self,
        ledger: Ledger,
        shelves: Mapping[Shelf, Shelved],
        *,
        unasked: Collection[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._shelves = dict(shelves)
        self._unasked = frozenset(unasked)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="purge", daemon=True)

    def start(self) -> None:
        """Begin to purge, if anything ever is."""
        if self._shelves:
            self._thread.start()

    def stop(self) -> None:
        """End after the study that is being purged."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def purge(self) -> Iterator[Ruling]:
        """Remove what may go now, and yield what went; what stays is not yielded."""
        for shelf in self._shelves:
            for key in self._holders(shelf, FINISHED, self._before(shelf)):
                ruling = self._purge(shelf, key)
                if not ruling.why_kept:
                    yield ruling

    def rulings(self) -> Iterator[Ruling]:
        """Yield what would become of every study that has files; remove nothing."""
        for shelf in self._shelves:
            for key in self._holders(shelf, tuple(State)):
                with self._ledger.read() as tx:
                    ruling, _ = self._ruled(tx, shelf, key)
                yield ruling

    def tidy(self) -> None:
        """Remove results that a crash has left after their rows said purged."""
        shelved = self._shelves.get(Shelf.OUTBOX)
        if shelved is None:
            return
        with self._ledger.read() as tx:
            left = purging.last_purged(tx, Shelf.OUTBOX, limit=LEFT_BEHIND)
        for path in left:
            shelved.files.remove(path, before=self._clock())

    def _holders(
        self,
        shelf: Shelf,
        states: Collection[State],
        before: datetime | None = None,
    ) -> Iterator[int]:
        """Yield studies that have files there, a step at a time."""
        after = 0
        while not self._stopping.is_set():
            with self._ledger.read() as tx:
                keys = purging.holders(
                    tx, shelf, after=after, limit=STEP, states=states, before=before
                )
            yield from keys
            if len(keys) < STEP:
                return
            after = keys[-1]

    def _purge(self, shelf: Shelf, key: int) -> Ruling:
        files = self._shelves[shelf].files
        with self._ledger.read() as tx:
            ruling, _ = self._ruled(tx, shelf, key)
        if ruling.why_kept:
            return ruling
        with self._ledger.write() as tx:
            purging.hold(tx, key)
            ruling, kept = self._ruled(tx, shelf, key)
            if ruling.why_kept or not kept:
                return ruling
            self._alarm(tx, shelf, key, kept)
            purging.purged(tx, shelf, key, kept, now=self._clock())
        for file in kept:
            files.remove(file.path, before=self._before(shelf))
        log.info("purged", kind=shelf, study=key, count=ruling.files, bytes=ruling.size)
        return ruling

    def _ruled(self, tx: Tx, shelf: Shelf, key: int) -> tuple[Ruling, list[KeptFile]]:
        standing = purging.standing(tx, key)
        kept = purging.files(tx, shelf, key)
        before = self._before(shelf)
        why = why_kept(standing, before=before, unasked=self._unasked)
        if not why and self._came_again(shelf, kept, before):
            why = "it was sent again lately"
        ruling = Ruling(
            shelf=shelf,
            study_uid=standing.study_uid,
            why_kept=why,
            files=len(kept),
            size=sum(file.size for file in kept),
        )
        return ruling, kept

    def _came_again(
        self, shelf: Shelf, kept: Collection[KeptFile], before: datetime
    ) -> bool:
        written = (self._shelves[shelf].files.written_at(file.path) for file in kept)
        return any(at is not None and at > before for at in written)

    def _alarm(
        self, tx: Tx, shelf: Shelf, key: int, kept: Collection[KeptFile]
    ) -> None:
        """Say so where a file is missing that nobody purged."""
        files = self._shelves[shelf].files
        missing = sum(files.written_at(file.path) is None for file in kept)
        if missing:
            log.error("files_missing", kind=shelf, study=key, count=missing)
            detail = f"{shelf}: {missing} files that nobody purged"
            note(tx, self._clock(), "missing", detail, study_id=key)

    def _before(self, shelf: Shelf) -> datetime:
        return self._clock() - timedelta(seconds=self._shelves[shelf].keep_s)

    @property
    def _rest_s(self) -> float:
        shortest_s = min(shelved.keep_s for shelved in self._shelves.values())
        return min(LONGEST_REST_S, max(1.0, shortest_s / 10))

    def _run(self) -> None:
        rest_s = 0.0
        while not self._stopping.wait(rest_s):
            try:
                if not rest_s:
                    self.tidy()
                for count, _ in enumerate(self.purge(), start=1):
                    if not count % STEP:
                        self._stopping.wait(PAUSE_S)
                    if self._stopping.is_set():
                        return
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
            except Exception:
                log.exception("purge_failed")
            rest_s = self._rest_s
