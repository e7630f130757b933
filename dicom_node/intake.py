"""The one way in, for every front door: admit, keep, record, in this order.

A sender is told "success" only when `Intake.take` has returned: the file is safe
then, and on its way to the ledger. A data set that is rejected leaves no file and
a line in the ledger. No pixel is decoded here.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Protocol

import structlog

from dicom_node.admission import Admission, Expected, RejectedInstance
from dicom_node.domain import (
    Header,
    Note,
    Origin,
    Priority,
    Received,
    Refusal,
    Sha256,
    StudyUid,
)
from dicom_node.errors import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Rejected
from dicom_node.matching import PackRule, PriorityRule
from dicom_node.part10 import BUFFER, read_head
from dicom_node.spool import Spool
from dicom_node.tally import ReceivedTally

CHUNK = 1 << 20
"""So much is read at once for the digest: most images in one go."""
log = structlog.get_logger(__name__)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE})


class Recorder(Protocol):
    """Where it is written down what came in. Soon is enough: the spool is safe."""

    def record(self, received: Received) -> None:
        """Take an instance that lies in the spool. Never blocks for long.

        Raises
        ------
        Rejected
            0xA700 if too much waits to be written.
        """

    def refuse(self, refusal: Refusal) -> None:
        """Take note of a data set that was not taken in."""


class Intake:
    """Takes in what the front doors receive.

    Parameters
    ----------
    rules
        Which instances are urgent.
    pack_rules
        Which packs look at which instances.
    clock
        Gives the time, UTC.
    note
        Takes what the audit trail is told.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        recorder: Recorder,
        rules: Sequence[PriorityRule],
        clock: Callable[[], datetime],
        pack_rules: Sequence[PackRule] = (),
        note: Note = lambda _: None,
    ) -> None:
        self.spool = spool
        self._recorder = recorder
        self._admission = Admission(rules, pack_rules)
        self._clock = clock
        self._lock = threading.Lock()
        self._short_of = ""
        self._sessions: dict[object, StudyUid | None] = {}
        self.tally = ReceivedTally(note, clock)

    def take(
        self,
        temporary: Path,
        origin: Origin,
        *,
        session: object,
        expected: Expected | None = None,
        study_uid: StudyUid | None = None,
    ) -> Received:
        """Return the instance, once it is safe.

        Parameters
        ----------
        temporary
            A complete Part 10 file in the spool's `incoming`; gone afterwards.
        session
            The association or request that it came with, see `opened`.
        expected
            What the command said of it, if there was one.
        study_uid
            The study that it was sent for, if one was named.

        Raises
        ------
        Rejected
            With the status for its sender.
        """
        try:
            self.spool.room(urgent=True)
            with self.spool.securing(temporary, origin):
                header, sha256, size = self._examine(
                    temporary, origin, expected=expected, study_uid=study_uid
                )
                self.spool.room(urgent=header.priority is Priority.STAT)
            self._touch(session, header.study_uid)
            received = Received(
                header=header,
                origin=origin,
                sha256=sha256,
                path=self.spool.keep(temporary, sha256),
                size=size,
                at=self._clock(),
            )
            self._recorder.record(received)
        except Rejected as rejected:
            self._refuse(temporary, rejected, origin, expected)
            raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in _NO_ROOM:
                raise
            raise Rejected("no room in the spool", status=OUT_OF_RESOURCES) from error
        self._taken()
        self.tally.add(session, header, origin)
        return received

    def take_again(self, path: str) -> Received:
        """Return an instance that lies in the spool since before a crash, recorded.

        Raises
        ------
        Rejected
            If the file is not what its name says.
        """
        origin = self.spool.origin(path)
        file = self.spool.path(path)
        header, sha256, size = self._examine(file, origin)
        if sha256 != file.stem:
            raise Rejected("the spooled file is damaged", status=CANNOT_UNDERSTAND)
        received = Received(
            header=header,
            origin=origin,
            sha256=sha256,
            path=path,
            size=size,
            at=datetime.fromtimestamp(file.stat().st_mtime, UTC),
        )
        self._recorder.record(received)
        self.tally.add(self, header, origin)
        return received

    def opened(self, session: object, *, user: str = "") -> None:
        """Note that an association or a request has begun, and who authenticated."""
        self.tally.opened(session, user)
        with self._lock:
            self._sessions[session] = None

    def closed(self, session: object) -> None:
        """Note that it has ended, in whatever way."""
        with self._lock:
            self._sessions.pop(session, None)
        self.tally.closed(session)

    def open_studies(self) -> frozenset[StudyUid]:
        """Return the studies that are just coming in.

        A session has one at a time, that of its last instance: a router that
        keeps its association for days holds up nothing but what it is sending.
        """
        with self._lock:
            return frozenset(uid for uid in self._sessions.values() if uid)

    def _touch(self, session: object, study_uid: StudyUid) -> None:
        with self._lock:
            if session in self._sessions:
                self._sessions[session] = study_uid

    def _examine(
        self,
        path: Path,
        origin: Origin,
        *,
        expected: Expected | None = None,
        study_uid: StudyUid | None = None,
    ) -> tuple[Header, Sha256, int]:
        """Return the header, the digest of the data set, and the file's size."""
        found = examine(
            path,
            self._admission,
            origin=origin,
            expected=expected,
            study_uid=study_uid,
        )
        return found.header, found.sha256, found.size

    def _refuse(
        self,
        temporary: Path,
        rejected: Rejected,
        origin: Origin,
        expected: Expected | None,
    ) -> None:
        temporary.unlink(missing_ok=True)
        if rejected.status == OUT_OF_RESOURCES and not self._begins(rejected.comment):
            return
        uid = expected.sop_instance_uid if expected else ""
        if isinstance(rejected, RejectedInstance):
            uid = rejected.sop_instance_uid
        refusal = Refusal(
            origin=origin,
            at=self._clock(),
            status=rejected.status,
            comment=rejected.comment,
            sop_instance_uid=uid,
        )
        self._recorder.refuse(refusal)

    def _begins(self, why: str) -> bool:
        """Note that there is no room; False if that was noted before.

        A full disk shall not be filled with lines about each instance.
        """
        with self._lock:
            former, self._short_of = self._short_of, why
        if former != why:
            log.warning("refusing", reason=why)
        return former != why

    def _taken(self) -> None:
        """Note that there is room, where there was none before."""
        if self._short_of:
            with self._lock:
                former, self._short_of = self._short_of, ""
            log.info("taking_in_again", reason=former)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a file is: its header, the digest of its data set, its size in bytes."""

    header: Header
    sha256: Sha256
    size: int


def examine(
    path: Path,
    admission: Admission,
    *,
    origin: Origin,
    expected: Expected | None = None,
    study_uid: StudyUid | None = None,
) -> Examined:
    """Return what the Part 10 file at `path` is; every byte of it was looked at.

    Raises
    ------
    Rejected
        If it is no DICOM file, is truncated, or is not what was announced.
    """
    with BufferedReader(FileIO(path), BUFFER) as file:
        size = os.fstat(file.fileno()).st_size
        head = read_head(file, size, admission.wanted)
        header = admission.admit(
            head, origin=origin, expected=expected, study_uid=study_uid
        )
        digest = _digest(file.raw, head.data_set_at, size)
        return Examined(header=header, sha256=digest, size=size)


class _Buffers(threading.local):
    """A buffer for each thread: to make one takes as long as to read into it."""

    def __init__(self) -> None:
        self.digest = bytearray(CHUNK)


_buffers = _Buffers()


def _digest(file: FileIO, start: int, end: int) -> Sha256:
    """Return the digest of a part of the file."""
    file.seek(start)
    digest = hashlib.sha256()
    view = memoryview(_buffers.digest)
    while start < end:
        count = file.readinto(view)
        if not count:
            raise Rejected("it became shorter", status=CANNOT_UNDERSTAND)
        digest.update(view[:count])
        start += count
    return Sha256(digest.hexdigest())
