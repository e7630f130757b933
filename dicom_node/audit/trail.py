"""Takes events from any thread, and writes them into the trail's files in its own.

`AuditTrail.note` puts an event into a queue in memory and returns: nobody who receives
or sends waits for a disk. A thread writes what waits, many messages with one fsync, a
few hundredths of a second after the first came. Where the files cannot be written the
events wait in memory and are tried again each second; what is more than the queue holds
is counted, and the count is written as a security alert once the files can be written
again. So nothing is lost silently, and nothing waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import structlog

from dicom_node.audit.folder import AuditFolder, days_ago
from dicom_node.audit.messages import Teller
from dicom_node.audit.presence import Presence
from dicom_node.domain import (
    Activity,
    Alarm,
    ApplicationActivity,
    AuditEvent,
    SecurityAlert,
)

GATHER_S = 0.05
"""So long the first event waits for others, to share an fsync with them."""
RETRY_S = 1.0
MOST_AT_ONCE = 512
MOST_WAITING = 20_000
"""Events in memory while the files cannot be written: some hundred bytes each."""
ENDED = "it ended without being asked to: what it had not yet told is not in the trail"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event, and when it was told."""

    event: AuditEvent
    at: datetime


class AuditTrail:
    """Writes what it is told, from `start` to `stop`, and that it started and stopped.

    Parameters
    ----------
    keep_days
        Files of earlier days are removed; 0 keeps them for ever.
    collected
        Whether a collector gets the messages: what it does not have stays.
    written
        Called after each append.
    most_waiting
        Events that are kept in memory at most.
    """

    def __init__(  # noqa: PLR0913 - what a trail depends on
        self,
        folder: AuditFolder,
        teller: Teller,
        *,
        clock: Callable[[], datetime],
        keep_days: int = 0,
        collected: bool = False,
        written: Callable[[], None] = lambda: None,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._folder = folder
        self._teller = teller
        self._clock = clock
        self._keep_days = keep_days
        self._collected = collected
        self._written = written
        self._most_waiting = most_waiting
        self._presence = Presence(folder.path, teller.application, teller.process)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._lost = 0
        self._failing_since: datetime | None = None
        self._purged_on = ""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin to write: that the application started is the first message."""
        self._appear()
        self._say(Activity.STARTED)
        self._thread.start()

    def stop(self) -> None:
        """Write that the application stopped and what waits, then end."""
        if not self._thread.is_alive():
            return
        self._say(Activity.STOPPED)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._presence.end()

    def note(self, event: AuditEvent) -> None:
        """Take an event. Never blocks, never raises."""
        waiting = _Waiting(event, self._clock())
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                self._lost += 1
                return
            self._waiting.append(waiting)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until what was told so far is durable; False where it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def _appear(self) -> None:
        """Note those of our kind that ended without a word, then that we are here."""
        try:
            self._folder.open()
            dead = self._presence.begin()
        except OSError as error:
            self._fail(error)
            return
        for process in dead:
            self._say(Activity.STOPPED, failure=ENDED, process=process)

    def _say(self, activity: Activity, *, failure: str = "", process: int = 0) -> None:
        self.note(
            ApplicationActivity(
                application=self._teller.application,
                activity=activity,
                failure=failure,
                process=process,
            )
        )

    def _run(self) -> None:
        while self._gather():
            with self._changed:
                chunk = list(islice(self._waiting, MOST_AT_ONCE))
                lost = self._lost
            try:
                self._write(chunk, lost)
            except OSError as error:
                self._fail(error)
                if self._stopping:
                    self._give_up(lost)
                    return
                self._pause()
                continue
            with self._changed:
                for _ in chunk:
                    self._waiting.popleft()
                self._lost -= lost
                self._changed.notify_all()
            self._written()

    def _gather(self) -> bool:
        """Wait for something to write, and a moment for more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: self._stopping, GATHER_S)
            return bool(self._waiting)

    def _write(self, chunk: Sequence[_Waiting], lost: int) -> None:
        now = self._clock()
        messages = [xml for one in chunk if (xml := self._xml(one))]
        if self._failing_since is not None or lost:
            messages += [
                xml for one in self._confess(lost, now) if (xml := self._xml(one))
            ]
        self._folder.append(messages, now)
        if self._failing_since is not None:
            log.info("audit_written_again", count=lost)
            self._failing_since = None
        self._purge(now)

    def _xml(self, waiting: _Waiting) -> bytes:
        """Return the message; empty where an event makes none: a fault of ours."""
        try:
            return self._teller.message(waiting.event, waiting.at).to_xml()
        except Exception:
            log.exception("audit_message_failed", kind=type(waiting.event).__name__)
            return b""

    def _confess(self, lost: int, now: datetime) -> list[_Waiting]:
        """Return the alert that says what is not in the trail, or came late."""
        since = self._failing_since
        what = "more came than could be kept in memory"
        if since is not None:
            seconds = (now - since).total_seconds()
            what = f"its files could not be written for {seconds:.0f} s"
        reason = f"audit trail: {what}; events that are not in it: {lost}"
        alarm = Alarm.AUDIT_RECORDING_STARTED
        return [_Waiting(SecurityAlert(alarm=alarm, reason=reason), now)]

    def _fail(self, error: OSError) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock()
            log.error(
                "audit_not_written", reason=error.strerror or type(error).__name__
            )

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, RETRY_S)
        self._reopen()

    def _reopen(self) -> None:
        """Make the folder again, where it is gone."""
        try:
            self._folder.open()
        except OSError as error:
            self._fail(error)

    def _give_up(self, lost: int) -> None:
        with self._changed:
            count = len(self._waiting) + lost
            self._waiting.clear()
            self._changed.notify_all()
        log.error("audit_lost", count=count)

    def _purge(self, now: datetime) -> None:
        today = f"{now:%Y%m%d}"
        if not self._keep_days or self._purged_on == today:
            return
        self._purged_on = today
        try:
            sent = self._folder.cursor() if self._collected else None
            gone = self._folder.drop_before(days_ago(now, self._keep_days), sent=sent)
        except OSError as error:
            log.warning("audit_not_dropped", reason=error.strerror or "")
            return
        if gone:
            log.info("audit_dropped", count=gone)
