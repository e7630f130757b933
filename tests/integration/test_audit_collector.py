"""The trail reaches a real collector over TLS: rsyslog, killed and come back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.audit.collector import Collector, CollectorSender
from dicom_node.audit.folder import AuditFolder, Cursor
from dicom_node.audit.syslog import Sender
from dicom_node.audit.trail import AuditTrail
from dicom_node.auditing import audited
from dicom_node.config import load_settings
from dicom_node.domain import Alarm, SecurityAlert
from dicom_node.peers import Tls
from dicom_node.tls import client_context
from tests.audits import parsed, teller
from tests.certificates import Authority, Certificate
from tests.syslogs import Rsyslog, rsyslogd

pytestmark = pytest.mark.skipif(
    not rsyslogd(), reason="rsyslog-gnutls is not installed"
)
BYTE_ORDER_MARK = "\ufeff"
SETTLE_S = 0.3


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who signs the certificates of both sides."""
    return Authority.found(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> tuple[Certificate, Certificate]:
    """Return the collector's certificate, and ours."""
    return authority.certify("collector"), authority.certify("node")


@pytest.fixture
def rsyslog(
    tmp_path: Path,
    authority: Authority,
    certificates: tuple[Certificate, Certificate],
) -> Iterator[Rsyslog]:
    """Return a collector that listens."""
    made = Rsyslog(tmp_path / "rsyslog", authority, certificates[0])
    made.start()
    yield made
    made.kill()


@pytest.fixture
def folder(tmp_path: Path) -> AuditFolder:
    """Return where the trail is written, in many small files."""
    return AuditFolder(path=tmp_path / "audit", most_bytes=8000)


@pytest.fixture
def collector(
    rsyslog: Rsyslog,
    authority: Authority,
    certificates: tuple[Certificate, Certificate],
) -> Collector:
    """Return how the collector is reached: with a certificate of ours."""
    own = certificates[1]
    tls = Tls(ca=authority.own.path, certificate=own.path, key=own.key)
    return Collector(
        host="127.0.0.1",
        port=rsyslog.port,
        context=client_context(tls),
        settle_s=SETTLE_S,
        first_wait_s=0.1,
        longest_wait_s=0.4,
    )


def test_a_collector_gets_every_message(
    rsyslog: Rsyslog, collector: Collector, folder: AuditFolder
) -> None:
    """As RFC 5424 and PS3.15 A.6 have them, in order; text of any language survives."""
    with _sending(collector, folder) as trail:
        trail.note(_alert("Grüße, 患者"))
        trail.flush()
        _until(lambda: len(rsyslog.received()) == 2)
    _until(lambda: len(rsyslog.received()) >= 3)
    lines = [line.split("|", 6) for line in rsyslog.received()]
    messages = [line[6].removeprefix(BYTE_ORDER_MARK) for line in lines]

    assert [line[0] for line in lines[:3]] == ["85", "84", "85"]  # 10 * 8 + severity
    assert {tuple(line[2:6]) for line in lines} == {
        ("reading-room", "pacsight", "4711", "DICOM+RFC3881")
    }
    assert all(line[6].startswith(BYTE_ORDER_MARK) for line in lines)
    assert [m.encode() for m in messages[:3]] == list(folder.messages())
    assert "Grüße, 患者" in messages[1]


def test_a_collector_that_is_killed_misses_nothing(
    rsyslog: Rsyslog, collector: Collector, folder: AuditFolder
) -> None:
    """It is killed three times while messages come; each is there at the end."""
    told = threading.Event()
    with _sending(collector, folder) as trail:
        teller_thread = threading.Thread(target=_tell, args=(trail, 300, told))
        teller_thread.start()
        for _ in range(3):
            time.sleep(0.3)
            rsyslog.kill()
            time.sleep(0.3)
            rsyslog.start()
        teller_thread.join()
        trail.flush()
        _until(lambda: _missing(rsyslog, folder) == 0)


def test_the_trail_outlives_a_collector_that_is_away(
    rsyslog: Rsyslog, collector: Collector, folder: AuditFolder
) -> None:
    """What was told while it was away is sent after a restart of the node."""
    rsyslog.stop()
    with capture_logs() as logs, _sending(collector, folder) as trail:
        trail.note(_alert("while away"))
        trail.flush()
        _until(lambda: any(log["event"] == "audit_collector_down" for log in logs))
    rsyslog.start()
    with _sending(collector, folder):
        _until(lambda: _missing(rsyslog, folder) == 0)

    assert len([log for log in logs if log["event"] == "audit_collector_down"]) == 1
    assert any("while away" in line for line in rsyslog.received())


def test_the_cursor_follows(
    rsyslog: Rsyslog, collector: Collector, folder: AuditFolder
) -> None:
    """Once a message has settled it is not sent again by the next process."""
    with _sending(collector, folder) as trail:
        trail.flush()
        _until(lambda: folder.cursor() != Cursor())
    with _sending(collector, folder) as trail:
        trail.flush()
        _until(lambda: _missing(rsyslog, folder) == 0)
    first = next(folder.messages()).decode()

    assert [first in line for line in rsyslog.received()].count(True) == 1


def test_settings_are_enough(
    rsyslog: Rsyslog,
    authority: Authority,
    certificates: tuple[Certificate, Certificate],
    tmp_path: Path,
) -> None:
    """What an operator writes leads to a collector."""
    own = certificates[1]
    file = tmp_path / "pacsight.toml"
    file.write_text(
        f'data_dir = "{tmp_path}/data"\n'
        f'[audit]\nsyslog_host = "127.0.0.1"\nsyslog_port = {rsyslog.port}\n'
        f'[audit.tls]\nca = "{authority.own.path}"\n'
        f'certificate = "{own.path}"\nkey = "{own.key}"\n'
    )
    with audited(load_settings(file, {}), "node") as note:
        note(_alert("by settings"))
        _until(lambda: any("by settings" in line for line in rsyslog.received()))


def test_another_authority_is_not_trusted(
    rsyslog: Rsyslog, collector: Collector, folder: AuditFolder, tmp_path: Path
) -> None:
    """A collector that nobody we know vouches for gets nothing, and the log says why."""
    stranger = Authority.found(tmp_path / "stranger")
    distrusting = replace(collector, context=client_context(Tls(ca=stranger.own.path)))
    with capture_logs() as logs, _sending(distrusting, folder) as trail:
        trail.flush()
        _until(lambda: any(log["event"] == "audit_collector_down" for log in logs))

    why = next(log["error"] for log in logs if log["event"] == "audit_collector_down")
    assert "is not signed by an authority that we know" in why
    assert rsyslog.received() == []
    assert folder.cursor() == Cursor()


@contextmanager
def _sending(collector: Collector, folder: AuditFolder) -> Iterator[AuditTrail]:
    sender = CollectorSender(collector, folder, Sender(host="reading-room"))
    trail = AuditTrail(
        folder, teller(), clock=lambda: datetime.now(UTC), written=sender.wake
    )
    trail.start()
    sender.start()
    try:
        yield trail
    finally:
        trail.stop()
        sender.stop()


def _tell(trail: AuditTrail, count: int, told: threading.Event) -> None:
    for number in range(count):
        trail.note(_alert(f"number {number}"))
        told.wait(0.006)


def _missing(rsyslog: Rsyslog, folder: AuditFolder) -> int:
    """Return how many messages of the trail the collector does not have; all are valid."""
    has = {
        line.split("|", 6)[6].removeprefix(BYTE_ORDER_MARK) for line in _whole(rsyslog)
    }
    for message in has:
        parsed(message.encode())
    return sum(line.decode() not in has for line in folder.messages())


def _whole(rsyslog: Rsyslog) -> list[str]:
    """Return the lines that a kill did not cut."""
    return [x for x in rsyslog.received() if x.endswith("</AuditMessage>")]


def _alert(reason: str) -> SecurityAlert:
    return SecurityAlert(alarm=Alarm.NODE_AUTHENTICATION, reason=reason)


def _until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
