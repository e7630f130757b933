"""The trail's files: whole lines, durable, in order, whoever else writes."""

import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.audit.folder import AuditFolder, Cursor

AT = datetime(2026, 5, 4, 23, 59, tzinfo=UTC)
EACH = 200
WRITER = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
from dicom_node.audit.folder import AuditFolder
folder = AuditFolder(path=Path(sys.argv[1]), most_bytes=100)
lines = [f"{{sys.argv[2]}} {{n:04d}}".ljust(40, "x").encode() for n in range({EACH})]
for two in zip(lines[::2], lines[1::2], strict=True):
    folder.append(two, datetime(2026, 5, 4, tzinfo=UTC))
"""


@pytest.fixture
def folder(tmp_path: Path) -> AuditFolder:
    """Return an empty folder whose files hold 100 bytes."""
    made = AuditFolder(path=tmp_path / "audit", most_bytes=100)
    made.open()
    return made


def test_only_the_owner_reads(folder: AuditFolder) -> None:
    """0700 for the folder, 0600 for what lies in it."""
    folder.append([b"<m/>"], AT)
    folder.move(Cursor(file="audit-20260504-000001.log", offset=5))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert modes == {0o600}


def test_a_new_day_begins_a_new_file(folder: AuditFolder) -> None:
    """A full file does, too; a clock that is set back does not."""
    folder.append([b"a" * 60], AT)
    folder.append([b"b" * 60], AT)
    folder.append([b"c"], AT + timedelta(minutes=2))
    folder.append([b"d"], AT)

    assert [path.name for path in folder.files()] == [
        "audit-20260504-000001.log",
        "audit-20260504-000002.log",
        "audit-20260505-000001.log",
    ]
    assert list(folder.messages()) == [b"a" * 60, b"b" * 60, b"c", b"d"]


def test_reading_goes_on_behind_a_cursor(folder: AuditFolder) -> None:
    """From file to file; a line that is not ended is not read."""
    folder.append([b"a" * 60, b"b" * 30], AT)
    folder.append([b"c" * 60], AT)
    first = folder.read(Cursor(), most=1)
    second = folder.read(first[-1].end, most=9)
    third = folder.read(second[-1].end, most=9)
    with folder.files()[-1].open("ab") as file:
        file.write(b"half")

    found = [line.content for line in (*first, *second, *third)]
    assert found == [b"a" * 60, b"b" * 30, b"c" * 60]
    assert folder.read(third[-1].end, most=9) == []


def test_half_a_line_harms_no_other(folder: AuditFolder) -> None:
    """A process that was killed while it wrote leaves a line of its own."""
    folder.append([b"whole"], AT)
    with folder.files()[0].open("ab") as file:
        file.write(b"half")
    folder.append([b"next"], AT)

    assert list(folder.messages()) == [b"whole", b"half", b"next"]


def test_what_does_not_fit_leaves_nothing(folder: AuditFolder) -> None:
    """A write that fails half way is taken back: no message is there twice or torn."""
    folder.append([b"before"], AT)
    with _file_size_limit(10), pytest.raises(OSError, match="File too large"):
        folder.append([b"much more"], AT)

    assert list(folder.messages()) == [b"before"]


def test_a_cursor_survives(folder: AuditFolder) -> None:
    """It is read as it was written; a damaged one means the beginning."""
    place = Cursor(file="audit-20260504-000001.log", offset=7)
    before = folder.cursor()
    folder.move(place)
    after = folder.cursor()
    (folder.path / "collector.cursor").write_text("{")

    assert (before, after, folder.cursor()) == (Cursor(), place, Cursor())


def test_old_files_go_unless_the_collector_lacks_them(folder: AuditFolder) -> None:
    """The last file stays always."""
    for day in range(4):
        folder.append([b"a"], AT + timedelta(days=day))
    names = [path.name for path in folder.files()]
    later = AT + timedelta(days=9)
    folder.drop_before(later, sent=Cursor(file=names[1], offset=2))
    kept = [path.name for path in folder.files()]
    folder.drop_before(later, sent=None)

    assert kept == names[1:]
    assert [path.name for path in folder.files()] == names[-1:]


def test_processes_take_turns(folder: AuditFolder) -> None:
    """Three processes write into one folder: every line of each is there, whole."""
    names = ["one", "two", "three"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, folder.path, name])
        for name in names
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = [line.decode() for line in folder.messages()]

    for name in names:
        own = [line for line in lines if line.startswith(f"{name} ")]
        assert own == [f"{name} {number:04d}".ljust(40, "x") for number in range(EACH)]
    assert len(lines) == EACH * len(names)
    assert len(folder.files()) > EACH  # each began files, too


@contextmanager
def _file_size_limit(most: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
