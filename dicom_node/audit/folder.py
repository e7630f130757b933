"""The files of the trail: one message a line, durable once `AuditFolder.append` returns.

Several processes write into one folder. They take turns by a lock on a file (flock(2),
which ends with the process that holds it), so that no line is torn by another and one
of them begins the next file. A file is only ever appended to. Its name begins with the
day, UTC, and counts up: names in order are messages in order.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_node.files import make_folder, sync_folder, write_durably

MOST_BYTES = 64 * 1024 * 1024
FOLDER_MODE, FILE_MODE = 0o700, 0o600
TURN, CURSOR = ".turn", "collector.cursor"
NAMED = re.compile(r"audit-(\d{8})-(\d{6})\.log")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cursor:
    """A place in the trail: all before it is meant. Cursors compare as places do.

    Parameters
    ----------
    file
        The file's name; empty for the beginning of everything.
    offset
        Bytes from the file's start.
    """

    file: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A message as it lies in the trail, and the place behind it."""

    content: bytes
    end: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFolder:
    """A folder of audit messages.

    Parameters
    ----------
    most_bytes
        A file that would become longer is followed by another.
    """

    path: Path
    most_bytes: int = MOST_BYTES

    def open(self) -> None:
        """Make the folder, for its owner alone.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        make_folder(self.path)
        self.path.chmod(FOLDER_MODE)

    def append(self, messages: Sequence[bytes], now: datetime) -> None:
        """Write messages, one a line: all of them are durable, or none is there.

        Raises
        ------
        OSError
            If they cannot be written: the disk is full, or broken.
        """
        content = b"".join(message + b"\n" for message in messages)
        with self._turn():
            path = self._current(now, len(content))
            is_new = not path.exists()
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE)
            try:
                _append(file, content)
            finally:
                os.close(file)
            if is_new:
                sync_folder(self.path)

    def files(self) -> list[Path]:
        """Return the files, oldest first."""
        try:
            names = [p for p in self.path.iterdir() if NAMED.fullmatch(p.name)]
        except FileNotFoundError:
            return []
        return sorted(names)

    def read(self, after: Cursor, *, most: int) -> list[Line]:
        """Return the durable messages behind a place, oldest first, from one file."""
        for path in self.files():
            if path.name < after.file:
                continue
            start = after.offset if path.name == after.file else 0
            with self._turn(fcntl.LOCK_SH):
                lines = _lines(path, start, most)
            if lines:
                return lines
        return []

    def messages(self) -> Iterator[bytes]:
        """Yield every message, oldest first."""
        for path in self.files():
            with path.open("rb") as file:
                yield from (line.rstrip(b"\n") for line in file if line.strip())

    def cursor(self) -> Cursor:
        """Return up to where the collector has the trail."""
        try:
            told = json.loads((self.path / CURSOR).read_bytes())
            return Cursor(file=str(told["file"]), offset=int(told["offset"]))
        except FileNotFoundError:
            return Cursor()
        except (ValueError, KeyError, TypeError):
            return Cursor()  # damaged: all of it is sent again, nothing is left out

    def move(self, cursor: Cursor) -> None:
        """Note up to where the collector has the trail.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        told = {"file": cursor.file, "offset": cursor.offset}
        write_durably(self.path / CURSOR, json.dumps(told).encode())

    def drop_before(self, day: datetime, *, sent: Cursor | None) -> int:
        """Remove files of earlier days, and return how many.

        Parameters
        ----------
        sent
            Up to where the collector has the trail: what it does not have stays.
            None where there is no collector.
        """
        first = f"audit-{day.astimezone(UTC):%Y%m%d}"
        old = [p for p in self.files()[:-1] if p.name < first]
        gone = [p for p in old if sent is None or p.name < sent.file]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _current(self, now: datetime, more: int) -> Path:
        """Return the file to append to: the last one, unless it is old or full."""
        today = f"{now.astimezone(UTC):%Y%m%d}"
        files = self.files()
        if not files:
            return self.path / f"audit-{today}-000001.log"
        last = files[-1]
        found = NAMED.fullmatch(last.name)
        day, number = (found[1], int(found[2])) if found else (today, 0)
        size = last.stat().st_size
        if day >= today and not (size and size + more > self.most_bytes):
            return last  # a clock that was set back begins no older file
        number = number + 1 if day >= today else 1
        return self.path / f"audit-{max(day, today)}-{number:06d}.log"

    @contextmanager
    def _turn(self, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        turn = os.open(self.path / TURN, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(turn, kind)
            yield
        finally:
            os.close(turn)


def days_ago(now: datetime, days: int) -> datetime:
    """Return the time so many days before."""
    return now - timedelta(days=days)


def _append(file: int, content: bytes) -> None:
    """Append all of it durably, or nothing."""
    size = os.fstat(file).st_size
    try:
        if size and os.pread(file, 1, size - 1) != b"\n":
            content = b"\n" + content  # a process was killed in the middle of a line
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _lines(path: Path, start: int, most: int) -> list[Line]:
    lines: list[Line] = []
    try:
        with path.open("rb") as file:
            file.seek(start)
            while len(lines) < most and (raw := file.readline()):
                if not raw.endswith(b"\n"):
                    break  # it is just being written
                end = Cursor(file=path.name, offset=file.tell())
                lines.append(Line(content=raw.rstrip(b"\n"), end=end))
    except FileNotFoundError:
        return []  # it was just dropped
    return lines
