"""What came in over each association or request, counted until it is told.

One audit message names a study and how many instances of each SOP class came, not each
of them (PS3.15 A.5.3.7). It is told when the association or request ends, and before
that once it holds much or is old: a router keeps an association open for days.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dicom_node.domain import (
    Header,
    InstancesReceived,
    Note,
    Origin,
    SopClassCount,
    SopClassUid,
    StudyUid,
)

MOST_INSTANCES = 1000
LONGEST = timedelta(seconds=5)

_Key = tuple[StudyUid, str]
"""A study and a Patient ID."""


@dataclass(slots=True)
class _Count:
    """Instances of one study that came over one association, and since when."""

    origin: Origin
    since: datetime
    user: str
    instances: int = 0
    by_class: dict[SopClassUid, int] = field(default_factory=dict)

    def add(self, sop_class_uid: SopClassUid) -> None:
        self.instances += 1
        self.by_class[sop_class_uid] = self.by_class.get(sop_class_uid, 0) + 1


class ReceivedTally:
    """Counts what comes in, and tells the audit trail. For many threads.

    Parameters
    ----------
    clock
        Gives the time, UTC.
    """

    def __init__(self, note: Note, clock: Callable[[], datetime]) -> None:
        self._note = note
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[object, dict[_Key, _Count]] = {}
        self._users: dict[object, str] = {}

    def opened(self, session: object, user: str) -> None:
        """Note who authenticated for an association or request; empty for nobody."""
        if user:
            with self._lock:
                self._users[session] = user

    def add(self, session: object, header: Header, origin: Origin) -> None:
        """Count an instance that was acknowledged."""
        key = (header.study_uid, header.patient_id)
        told: _Count | None = None
        with self._lock:
            counts = self._sessions.setdefault(session, {})
            if key not in counts:
                user = self._users.get(session, "")
                counts[key] = _Count(origin, self._clock(), user)
            counts[key].add(header.sop_class_uid)
            if counts[key].instances >= MOST_INSTANCES:
                told = counts.pop(key)
        if told is not None:
            self._tell(key, told)

    def closed(self, session: object) -> None:
        """Tell what came over an association or request that has ended."""
        with self._lock:
            counts = self._sessions.pop(session, {})
            self._users.pop(session, None)
        for key, count in counts.items():
            self._tell(key, count)

    def tell_all(self) -> None:
        """Tell what is left, because nothing more comes."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self.closed(session)

    def tell_old(self) -> None:
        """Tell what was counted for long, although more may come."""
        latest = self._clock() - LONGEST
        told: list[tuple[_Key, _Count]] = []
        with self._lock:
            for session, counts in list(self._sessions.items()):
                old = [key for key, count in counts.items() if count.since <= latest]
                told += [(key, counts.pop(key)) for key in old]
                if not counts:
                    del self._sessions[session]
        for key, count in told:
            self._tell(key, count)

    def _tell(self, key: _Key, count: _Count) -> None:
        study_uid, patient_id = key
        self._note(
            InstancesReceived(
                origin=count.origin,
                study_uid=study_uid,
                sop_classes=tuple(
                    SopClassCount(sop_class_uid=uid, instances=number)
                    for uid, number in count.by_class.items()
                ),
                patient_id=patient_id,
                user=count.user,
            )
        )
