"""Files that survive a crash: written aside, fsynced, renamed, the folder fsynced."""

import os
import tempfile
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
