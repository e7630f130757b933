"""Where received files lie: written aside, fsynced, renamed, the folder fsynced.

PS3.10 files, content-addressed: ``ab/ab34…ef.dcm`` is named after the SHA-256 of
its data set as received. Who sent it stands in the File Preamble, which PS3.10 7.1
leaves to implementations, so that a file can be taken in again after a crash
although the ledger never heard of it.

Several nodes may share a spool. Each receives into a folder of its own, and holds a
lock beside it (flock(2)) for as long as it lives: what a node left behind that is gone
is cleared away by the next that starts, what another is just receiving is not touched.
"""

import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp
from uuid import uuid4

from dicom_node.domain import FrontDoor, Origin, Sha256
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.files import (
    adding,
    make_folder,
    remove_older,
    sync_folder,
    written_at,
)

INCOMING = "incoming"
SUFFIX = ".dcm"
LOCK = ".lock"
FLOODED = "too much is coming in at once"
RECOUNT_S = 600.0
"""So often the spool's size is counted anew, where there is a limit to it."""
RECOUNT_FULL_S = 5.0
"""The same while it is full: somebody may have purged it."""
COUNTING = 0.05
"""The part of the time that counting may take, however many files there are."""
SPARE = 0.05
"""Part of the largest size that is kept for what is urgent."""
WRITTEN_EARLY = 4 << 20
"""Bytes of a file that is surely still in memory when it is read back at once."""
PREAMBLE = 128
"""Bytes before the DICM prefix (PS3.10 7.1)."""
_SIGNATURE = b"pacsight"
_SEPARATOR = "\n"
_FOLDERS = tuple(f"{number:02x}" for number in range(256))


RESUME, URGENT = 1.1, 0.5
"""What part of a limit counts once it was reached, and for what is urgent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is free on the spool's disk, and what the spool has of it."""

    free_bytes: int
    free_inodes: int
    used_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """When nothing more is taken in.

    Parameters
    ----------
    min_free_bytes, min_free_inodes
        What is left free.
    max_bytes
        What all kept files may have together; None for the whole disk.
    max_incoming_bytes
        What may be coming in at once; None for any.
    beside
        Further folders whose disks have to have that room.
    """

    min_free_bytes: int = 0
    min_free_inodes: int = 0
    max_bytes: int | None = None
    max_incoming_bytes: int | None = None
    beside: tuple[Path, ...] = ()

    def lacking(self, room: Room, part: float) -> str:
        """Return what there is too little of, in words; empty if there is enough.

        Parameters
        ----------
        part
            Of what is to be left free, so much counts.
        """
        if room.free_bytes < part * self.min_free_bytes:
            return "no room left in the spool"
        if room.free_inodes < part * self.min_free_inodes:
            return "no inodes left in the spool"
        return "the spool is full" if self.is_full(room.used_bytes, part) else ""

    def is_full(self, used_bytes: int | None, part: float = RESUME) -> bool:
        """Return whether that much is too much; None is nothing."""
        if self.max_bytes is None or used_bytes is None:
            return False
        return used_bytes + part * SPARE * self.max_bytes > self.max_bytes


class Spool:
    """The files that were received, and the ones that are just coming in.

    Parameters
    ----------
    limits
        When nothing more is taken in.
    """

    def __init__(self, root: Path, limits: Capacity | None = None) -> None:
        self._root = root
        self._limits = limits or Capacity()
        self._own = ""
        self._held: int | None = None
        self._lock = threading.Lock()
        self._lacking = ""
        self._used: int | None = None
        self._counted_at = 0.0
        self._counting_s = 0.0

    def open(self) -> None:
        """Make the folders, durably; drop what was not received to its end."""
        make_folder(self._root)
        for name in (INCOMING, *_FOLDERS):
            (self._root / name).mkdir(exist_ok=True, mode=0o700)
        sync_folder(self._root)
        self.close()
        _clear(self._root / INCOMING)
        while self._held is None:
            self._own = uuid4().hex
            self._held = _locked(self.incoming().with_suffix(LOCK))
        self.incoming().mkdir(mode=0o700)

    def close(self) -> None:
        """Let the next node clear away what is just being received here."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def incoming(self) -> Path:
        """Return this node's folder for files that are being received."""
        return self._root / INCOMING / self._own

    def new_file(self) -> tuple[int, Path]:
        """Return an open, empty file among the incoming ones, and its path."""
        handle, name = mkstemp(dir=self.incoming(), suffix=SUFFIX)
        return handle, Path(name)

    @contextmanager
    def securing(self, temporary: Path, origin: Origin) -> Iterator[None]:
        """Make an incoming file durable, its sender in its preamble.

        It is when the block has ended without an error. For all but large files the
        disk begins at once and works while the block does.
        """
        handle = os.open(temporary, os.O_WRONLY)
        try:
            os.pwrite(handle, _preamble(origin), 0)
            if os.fstat(handle).st_size <= WRITTEN_EARLY:
                # Linux begins to write, and forgets nothing until it has
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            yield
            os.fsync(handle)
        finally:
            os.close(handle)

    def keep(self, temporary: Path, sha256: Sha256) -> str:
        """Return the path of a file that was secured, once its name is safe too.

        The same bytes have the same place, whoever sends them how often: the
        last file replaces the ones before.

        Parameters
        ----------
        temporary
            A complete file from `incoming`; it is gone afterwards.
        """
        relative = f"{sha256[:2]}/{sha256}{SUFFIX}"
        target = self._root / relative
        grown = 0 if target.exists() else temporary.stat().st_size
        with adding(target.parent):
            temporary.replace(target)
        self._count(grown)
        sync_folder(target.parent)
        return relative

    def path(self, relative: str) -> Path:
        """Return where a kept file lies."""
        return self._root / relative

    def written_at(self, relative: str) -> datetime | None:
        """Return when a kept file was written, UTC; None if there is none."""
        return written_at(self._root / relative)

    def remove(self, relative: str, *, before: datetime) -> bool:
        """Remove a kept file unless it came again since; return whether it is gone."""
        path = self._root / relative
        size = path.stat().st_size if path.exists() else 0
        gone = remove_older(path, before)
        self._count(-size if gone else 0)
        return gone

    def origin(self, relative: str) -> Origin:
        """Return who sent a kept file, as far as the file says."""
        with self.path(relative).open("rb") as file:
            return _origin(file.read(PREAMBLE))

    def room(self, *, urgent: bool = False) -> None:
        """Do nothing where there is room for another instance.

        What is short has to be there again by a margin before more is taken in, so that
        senders are not told yes and no in turns. What is urgent gets half of what is
        kept free.

        Raises
        ------
        Rejected
            0xA700 if there is no room.
        """
        found = self._found()
        if urgent:
            lacking = self._limits.lacking(found, URGENT)
        else:
            lacking = self._limits.lacking(found, RESUME if self._lacking else 1.0)
            self._lacking = lacking
        if lacking:
            raise Rejected(lacking, status=OUT_OF_RESOURCES)

    def more(self, *, urgent: bool = False) -> None:
        """Do nothing where somebody may begin to send.

        Raises
        ------
        Rejected
            0xA700 if there is no room, or too much is coming in already.
        """
        self.room(urgent=urgent)
        if self.is_flooded:
            raise Rejected(FLOODED, status=OUT_OF_RESOURCES)

    @property
    def is_flooded(self) -> bool:
        """Return whether as much is coming in at once as ever may."""
        most = self._limits.max_incoming_bytes
        if most is None:
            return False
        with os.scandir(self.incoming()) as entries:
            return sum(_size(entry) for entry in entries) >= most

    def _found(self) -> Room:
        """Return what is free where it is least, and how full the spool is."""
        disks = [os.statvfs(path) for path in (self._root, *self._limits.beside)]
        return Room(
            free_bytes=min(disk.f_bavail * disk.f_frsize for disk in disks),
            # file systems that make inodes as needed state none
            free_inodes=min(
                disk.f_favail if disk.f_files else sys.maxsize for disk in disks
            ),
            used_bytes=0 if self._limits.max_bytes is None else self._usage(),
        )

    def _usage(self) -> int:
        """Return the bytes of all kept files; counted now and then, else kept up to date."""
        with self._lock:
            # others remove files, too: `pacsight purge`
            pause_s = RECOUNT_FULL_S if self._limits.is_full(self._used) else RECOUNT_S
            pause_s = max(pause_s, self._counting_s / COUNTING)
            began = time.monotonic()
            if self._used is None or began - self._counted_at > pause_s:
                self._used = sum(
                    _size(entry)
                    for folder in _FOLDERS
                    for entry in _entries(self._root / folder)
                )
                self._counted_at = time.monotonic()
                self._counting_s = self._counted_at - began
            return self._used

    def _count(self, size: int) -> None:
        with self._lock:
            if self._used is not None:
                self._used += size

    def files(self) -> Iterator[str]:
        """Yield the path of every kept file."""
        for folder in _FOLDERS:
            with os.scandir(self._root / folder) as entries:
                yield from (f"{folder}/{entry.name}" for entry in entries)


def _clear(incoming: Path) -> None:
    """Drop what nodes left that are gone: never acknowledged, its sender still has it."""
    for left in incoming.glob(f"*{SUFFIX}"):
        left.unlink(missing_ok=True)  # a former version received here
    for path in incoming.glob(f"*{LOCK}"):
        lock = _locked(path)
        if lock is not None:
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink()
            os.close(lock)


def _locked(path: Path) -> int | None:
    """Return the file, open and locked; None where somebody holds it, or removed it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if os.fstat(handle).st_nlink == 0:
        os.close(handle)
        return None
    return handle


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _size(entry: os.DirEntry[str]) -> int:
    """Return a file's bytes, 0 if it has gone meanwhile."""
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0


def _preamble(origin: Origin) -> bytes:
    """Return who sent a file, as it stands in its preamble."""
    parts = (origin.door, origin.calling_aet, origin.called_aet, origin.address)
    lines = (part.replace(_SEPARATOR, " ") for part in parts)
    text = _SEPARATOR.join(lines).encode("utf-8", "replace")
    return (_SIGNATURE + text[: PREAMBLE - len(_SIGNATURE)]).ljust(PREAMBLE, b"\0")


def _origin(preamble: bytes) -> Origin:
    """Return who sent a file; one that somebody else wrote into came as a file."""
    text = preamble[len(_SIGNATURE) :].rstrip(b"\0").decode("utf-8", "replace")
    lines = text.split(_SEPARATOR)
    ours = preamble.startswith(_SIGNATURE) and len(lines) == len(fields(Origin))
    if not ours or lines[0] not in set(FrontDoor):
        return Origin(door=FrontDoor.FILE)
    door, calling_aet, called_aet, address = lines
    return Origin(
        door=FrontDoor(door),
        calling_aet=calling_aet,
        called_aet=called_aet,
        address=address,
    )
