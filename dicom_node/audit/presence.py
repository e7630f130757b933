"""Which processes write the trail, so that one that was killed is noticed by the next.

Each holds a lock on a small file as long as it lives. A file that nobody locks belongs
to a process that ended without saying so.
"""

import fcntl
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MODE = 0o600


@dataclass(slots=True)
class Presence:
    """One process among those that write into a folder.

    Parameters
    ----------
    application
        Its kind: it notices the end of its own kind only.
    """

    folder: Path
    application: str
    process: int
    _file: int = field(default=-1, init=False)

    def begin(self) -> list[int]:
        """Say that this process is here; return those that ended without a word.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        dead = [number for path, number in self._others() if _is_dead(path)]
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, MODE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return dead

    def end(self) -> None:
        """Say that it ends as it should."""
        if self._file >= 0:
            with suppress(OSError):  # the folder may be gone
                self._path.unlink()
            os.close(self._file)
            self._file = -1

    @property
    def _path(self) -> Path:
        return self.folder / f".{self.application}-{self.process}"

    def _others(self) -> list[tuple[Path, int]]:
        named = re.compile(rf"\.{re.escape(self.application)}-(\d+)")
        found = [(path, named.fullmatch(path.name)) for path in self.folder.iterdir()]
        return [(path, int(match[1])) for path, match in found if match]


def _is_dead(path: Path) -> bool:
    """Return whether nobody holds the file, and remove it then."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(file)
