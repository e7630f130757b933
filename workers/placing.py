"""A pack's folder, made beside its place and moved there whole; large files linked."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.errors import Permanent

Progress = Callable[[str, int, int], None]
"""What is being done, how many bytes or images are, and how many there are in all."""

CHUNK = 16 << 20


@contextmanager
def in_one_piece(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes `out` if all goes well, and is gone otherwise.

    Also after an interrupt.

    Raises
    ------
    Permanent
        If `out` is neither absent nor an empty folder, or the disk does not do it.
    """
    out = out.resolve()
    check_place(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            folder = Path(scratch) / "pack"
            folder.mkdir()
            yield folder
            folder.rename(out)
    except OSError as error:
        name = error.filename or out
        raise Permanent(f"{name}: {error.strerror or error}") from error


def check_place(out: Path) -> None:
    """Accept where a pack can be made: before long work, too.

    Raises
    ------
    Permanent
        If `out` is neither absent nor an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Permanent(f"{out} is there, and is no empty folder: name another one")


def link_or_copy(source: Path, target: Path, progress: Progress) -> None:
    """Link a file where the file system allows it, else copy it.

    A file system that can share blocks between files does so.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        _copy(source, target, progress)


def _copy(source: Path, target: Path, progress: Progress) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        size, done = os.fstat(read.fileno()).st_size, 0
        while done < size:
            done += _copy_block(read.fileno(), write.fileno(), done)
            progress("copying weights", done, size)


def _copy_block(read: int, write: int, at: int) -> int:
    try:
        count = os.copy_file_range(read, write, CHUNK, at, at)
    except OSError:  # not between these two file systems
        count = os.pwrite(write, os.pread(read, CHUNK, at), at)
    if not count:
        raise Permanent("the weights became shorter while they were copied")
    return count
