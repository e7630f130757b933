"""The trail: told by many threads, written in one, and nothing lost without a word."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.pseudonym import pseudonyms
from dicom_node.audit.trail import MOST_WAITING, AuditTrail
from dicom_node.domain import Alarm, SecurityAlert
from dicom_node.errors import Permanent
from tests.audits import parsed, teller

KILLED = """
import sys, time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.messages import Teller
from dicom_node.audit.trail import AuditTrail
from dicom_node.domain import Alarm, SecurityAlert

teller = Teller(
    application="node", source_id="s", site="s", aets=(), host="h", process=99, pseudonym=None
)
trail = AuditTrail(
    AuditFolder(path=Path(sys.argv[1])), teller, clock=lambda: datetime.now(UTC)
)
trail.start()
for number in count():
    trail.note(
        SecurityAlert(alarm=Alarm.NODE_AUTHENTICATION, reason=f"number {number}")
    )
    trail.flush()
    print(number, flush=True)
"""
"""Says a number once the event of that number is durable."""


@pytest.fixture
def folder(tmp_path: Path) -> AuditFolder:
    """Return where the trail is written; nothing is there yet."""
    return AuditFolder(path=tmp_path / "data" / "audit")


def test_what_was_told_is_written_in_order(folder: AuditFolder) -> None:
    """Between the application's start and its stop; every line is valid."""
    with _running(folder) as trail:
        for number in range(3):
            trail.note(_alert(f"number {number}"))

    assert _told(folder) == ["start", "number 0", "number 1", "number 2", "stop"]


def test_many_threads_tell(folder: AuditFolder) -> None:
    """No event of eight threads is missing."""
    with _running(folder) as trail:

        def tell() -> None:
            for _ in range(50):
                trail.note(_alert("x"))

        threads = [threading.Thread(target=tell) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert _told(folder).count("x") == 400


def test_it_is_durable_within_a_second(folder: AuditFolder) -> None:
    """While the application runs, not when it ends."""
    with _running(folder) as trail:
        trail.note(_alert("now"))
        began = time.monotonic()
        trail.flush()

        assert time.monotonic() - began < 1.0
        assert _told(folder) == ["start", "now"]


def test_an_outage_is_told_when_it_is_over(folder: AuditFolder) -> None:
    """Events wait in memory; what is too much is counted; nobody who tells waits."""
    with _running(folder, most_waiting=5) as trail, capture_logs() as logs:
        trail.flush()
        with _broken(folder):
            began = time.monotonic()
            for number in range(9):
                trail.note(_alert(f"number {number}"))
            seconds = time.monotonic() - began
            _until(lambda: any(log["event"] == "audit_not_written" for log in logs))
        assert trail.flush(10.0)
    told = _told(folder)

    assert seconds < 0.5
    assert told[:6] == ["start", *(f"number {number}" for number in range(5))]
    assert told[6].startswith("audit trail: its files could not be written for ")
    assert told[6].endswith("events that are not in it: 4")
    assert told[7:] == ["stop"]
    assert [log["event"] for log in logs].count("audit_not_written") == 1


def test_what_cannot_be_written_at_the_end_is_told(folder: AuditFolder) -> None:
    """The log says how many events are lost; stopping does not hang."""
    with capture_logs() as logs:
        trail = _trail(folder)
        trail.start()
        trail.flush()
        with _broken(folder):
            trail.note(_alert("lost"))
            trail.stop()

    assert [log["count"] for log in logs if log["event"] == "audit_lost"] == [2]


def test_who_was_killed_is_noticed(folder: AuditFolder) -> None:
    """The next of its kind says that the former ended without a word."""
    folder.open()
    (folder.path / ".node-99").touch()
    (folder.path / ".worker-98").touch()
    with _running(folder):
        pass
    first, _start, _stop = [parsed(line) for line in folder.messages()]
    happening = first.find("EventIdentification")

    assert first.find("ActiveParticipant").get("UserID") == "99"
    assert happening.find("EventTypeCode").get("csd-code") == "110121"
    assert happening.get("EventOutcomeIndicator") == "12"
    assert sorted(path.name for path in folder.path.glob(".*")) == [
        ".turn",
        ".worker-98",
    ]


def test_a_process_that_is_killed_loses_moments(folder: AuditFolder) -> None:
    """SIGKILL: what it had told before is there, its successor says that it ended."""
    command = [sys.executable, "-c", KILLED, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
    with _running(folder):
        pass
    told = _told(folder)

    assert process.returncode == -signal.SIGKILL
    assert told[0] == "start"
    assert told[1:21] == [f"number {number}" for number in range(20)]
    assert told[-3:] == ["stop", "start", "stop"]


def test_who_lives_is_left_alone(folder: AuditFolder) -> None:
    """A second node that shares the folder does not take the first for dead."""
    with _running(folder), _running(folder, process=4712):
        pass

    assert sorted(_told(folder)) == ["start", "start", "stop", "stop"]


def test_a_key_is_made_once(tmp_path: Path) -> None:
    """The same ID has the same pseudonym after a restart; spaces around it do not count."""
    path = tmp_path / "audit.key"
    first, second = pseudonyms(path), pseudonyms(path)

    assert first.of("P-17") == second.of(" P-17 ")
    assert first.of("P-17") != first.of("P-18")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    """Another key would make pseudonyms that match nothing."""
    (tmp_path / "audit.key").write_bytes(b"short")

    with pytest.raises(Permanent, match="does not hold the 32 bytes"):
        pseudonyms(tmp_path / "audit.key")


def _trail(
    folder: AuditFolder, *, process: int = 4711, most_waiting: int = MOST_WAITING
) -> AuditTrail:
    return AuditTrail(
        folder,
        replace(teller(), process=process),
        clock=lambda: datetime.now(UTC),
        most_waiting=most_waiting,
    )


@contextmanager
def _running(
    folder: AuditFolder, *, process: int = 4711, most_waiting: int = MOST_WAITING
) -> Iterator[AuditTrail]:
    trail = _trail(folder, process=process, most_waiting=most_waiting)
    trail.start()
    try:
        yield trail
    finally:
        trail.stop()


@contextmanager
def _broken(folder: AuditFolder) -> Iterator[None]:
    """Put a file where the folder is: nothing can be written, whoever we are."""
    aside = folder.path.with_name("aside")
    folder.path.rename(aside)
    folder.path.touch()
    try:
        yield
    finally:
        folder.path.unlink()
        aside.rename(folder.path)


def _alert(reason: str) -> SecurityAlert:
    return SecurityAlert(alarm=Alarm.NODE_AUTHENTICATION, reason=reason)


def _told(folder: AuditFolder) -> list[str]:
    """Return what each message says, in a word: all of them are valid."""
    return [_word(parsed(line)) for line in folder.messages()]


def _word(tree: Any) -> str:
    happening = tree.find("EventIdentification")
    kind = happening.find("EventTypeCode").get("csd-code")
    words = {"110120": "start", "110121": "stop"}
    return words.get(kind) or str(happening.findtext("EventOutcomeDescription"))


def _until(condition: Any, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
