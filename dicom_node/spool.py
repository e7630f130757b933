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
WRITTEN_EARLY = 4 << 20
"""Bytes of a file that is surely still in memory when it is read back at once."""
PREAMBLE = 128
"""Bytes before the DICM prefix (PS3.10 7.1)."""
_SIGNATURE = b"pacsight"
_SEPARATOR = "\n"
_FOLDERS = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is free on the spool's disk."""

    free_bytes: int
    free_inodes: int


class Spool:
    """The files that were received, and the ones that are just coming in.

    Parameters
    ----------
    min_free_bytes, min_free_inodes
        Below this room nothing more is taken in.
    """

    def __init__(
        self, root: Path, *, min_free_bytes: int = 0, min_free_inodes: int = 0
    ) -> None:
        self._root = root
        self._min = Room(free_bytes=min_free_bytes, free_inodes=min_free_inodes)
        self._own = ""
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folders, durably; drop what was not received to its end."""
        make_folder(self._root)
        for name in (INCOMING, *_FOLDERS):
            (self._root / name).mkdir(exist_ok=True, mode=0o700)
        sync_folder(self._root)
        self.close()
        _clear(self._root / INCOMING)
        while self._lock is None:
            self._own = uuid4().hex
            self._lock = _locked(self.incoming().with_suffix(LOCK))
        self.incoming().mkdir(mode=0o700)

    def close(self) -> None:
        """Let the next node clear away what is just being received here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
        with adding(target.parent):
            temporary.replace(target)
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
        return remove_older(self._root / relative, before)

    def origin(self, relative: str) -> Origin:
        """Return who sent a kept file, as far as the file says."""
        with self.path(relative).open("rb") as file:
            return _origin(file.read(PREAMBLE))

    def room(self) -> Room:
        """Return what is free.

        Raises
        ------
        Rejected
            0xA700 if it is less than what has to be left.
        """
        disk = os.statvfs(self._root)
        room = Room(
            free_bytes=disk.f_bavail * disk.f_frsize,
            # file systems that make inodes as needed state none
            free_inodes=disk.f_favail if disk.f_files else self._min.free_inodes,
        )
        if room.free_bytes < self._min.free_bytes:
            raise Rejected("no room left in the spool", status=OUT_OF_RESOURCES)
        if room.free_inodes < self._min.free_inodes:
            raise Rejected("no inodes left in the spool", status=OUT_OF_RESOURCES)
        return room

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
