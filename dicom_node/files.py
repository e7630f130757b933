"""Files that survive a crash: written aside, fsynced, renamed, the folder fsynced."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path


def write_durably(target: Path, content: bytes) -> None:
    """Write a file so that after a crash it is whole or not there.

    Folders that miss are made. An existing file is replaced.
    """
    make_folder(target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def create_durably(target: Path, content: bytes, *, mode: int) -> None:
    """Write a file that is new, so that after a crash it is whole or not there.

    Raises
    ------
    FileExistsError
        If it is there already: it stays as it is.
    """
    make_folder(target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.link(name, target)  # unlike a rename, it replaces nothing
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(target.parent)


def written_at(path: Path) -> datetime | None:
    """Return when a file was written, UTC; None if there is none."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def remove_older(path: Path, before: datetime) -> bool:
    """Remove a file unless it was written since; return whether there is none now.

    Whoever puts another in its place under `adding` is not missed.
    """
    if not path.parent.is_dir():
        return True
    with _locked(path.parent, fcntl.LOCK_EX):
        at = written_at(path)
        if at is not None and at > before:
            return False
        path.unlink(missing_ok=True)
        return True


@contextmanager
def adding(folder: Path) -> Iterator[None]:
    """Hold off, in every process, whoever removes old files from the folder."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that miss, for its owner alone, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in the folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
