"""A disk of a run's own, which can be filled: a file system in a file, where root may mount one.

Elsewhere the disk is a folder, and it is full by RLIMIT_FSIZE (setrlimit(2)): no file
of the processes that it is set for can grow then, which they hear as EFBIG.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
TOO_LITTLE = 4096
"""Bytes that a file may have while the disk is full by a limit."""


@dataclass
class Disk:
    """Where a run's data lie.

    Parameters
    ----------
    is_mounted
        Whether it is a file system of its own.
    """

    folder: Path
    is_mounted: bool

    @property
    def way(self) -> str:
        """Return how it gets full, for the account."""
        return "a file system of its own" if self.is_mounted else "RLIMIT_FSIZE"

    def fill(self, pids: Sequence[int]) -> None:
        """Leave no room on it, to these processes at least."""
        if not self.is_mounted:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (TOO_LITTLE, -1))
            return
        with (self.folder / "filling").open("wb") as file:
            room = os.statvfs(self.folder)
            size = room.f_bavail * room.f_frsize
            while size >= MIB // 64:
                try:
                    os.posix_fallocate(
                        file.fileno(), os.fstat(file.fileno()).st_size, size
                    )
                except OSError:
                    size //= 2

    def clear(self, pids: Sequence[int]) -> None:
        """Make room again."""
        (self.folder / "filling").unlink(missing_ok=True)
        if not self.is_mounted:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (-1, -1))


@contextmanager
def disk(folder: Path, *, mib: int) -> Iterator[Disk]:
    """Yield a disk of so many MiB below the folder."""
    place, image = folder / "disk", folder / "disk.img"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    made = ("mkfs.ext4", "-q", "-m", "0", str(image))
    mounted = _succeeds(*made) and _succeeds(
        "mount", "-o", "loop", str(image), str(place)
    )
    try:
        yield Disk(place, is_mounted=mounted)
    finally:
        if mounted:
            _succeeds("umount", "--lazy", str(place))
        image.unlink()


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
