"""Sends the trail to a collector: it reads the files behind a cursor, over TLS.

TLS acknowledges nothing: that a message was written to a connection does not say that
the collector has it. So the cursor on disk follows behind by `Collector.settle_s`, as
long as the connection lives and TCP has every byte acknowledged; after one that broke,
what was sent since is sent again.
A collector gets every message at least once, in their order; after a restart of either
side it gets the last ones twice.

One process of those that share a folder sends, the one that holds a lock.
"""

import fcntl
import os
import socket
import ssl
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import structlog

from dicom_node.audit.folder import AuditFolder, Cursor, Line
from dicom_node.audit.syslog import Sender, is_whole
from dicom_node.errors import Transient
from dicom_node.tls import tls_fault

LOOK_S = 0.5
"""How often the files are looked at for what other processes wrote."""
MOST_AT_ONCE = 256
LOCK, LOCK_MODE = ".sending", 0o600

log = structlog.get_logger(__name__)


class CollectorDownError(Transient):
    """The collector cannot be reached, or went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where audit messages are sent.

    Parameters
    ----------
    settle_s
        A message counts as received when its connection lives so long after it.
    patience_s
        How long to wait for the collector to take bytes.
    longest_wait_s
        Between two attempts to reach it, after doubling from a second.
    """

    host: str
    port: int
    context: ssl.SSLContext
    settle_s: float = 5.0
    patience_s: float = 10.0
    longest_wait_s: float = 30.0
    first_wait_s: float = 1.0


class CollectorSender:
    """Sends what lies in a folder to a collector, in a thread of its own."""

    def __init__(
        self, collector: Collector, folder: AuditFolder, sender: Sender
    ) -> None:
        self._collector = collector
        self._folder = folder
        self._sender = sender
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._is_down = False
        self._thread = threading.Thread(
            target=self._run, name="audit-collector", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what can be sent at once, then end: the cursor says where to go on."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look for what was written."""
        self._wake.set()

    def _run(self) -> None:
        wait_s = self._collector.first_wait_s
        while True:
            try:
                with self._turn() as ours:
                    if ours:
                        self._send_all()
                        wait_s = self._collector.first_wait_s
            except CollectorDownError as error:
                self._tell_down(error)
            except Exception:
                log.exception("audit_sending_failed")
            if self._stopping.wait(wait_s):
                return
            wait_s = min(2 * wait_s, self._collector.longest_wait_s)

    def _send_all(self) -> None:
        """Send until it is time to stop; raise where the connection breaks."""
        with _Connection(self._collector) as connection:
            if self._is_down:
                self._is_down = False
                log.info("audit_collector_reached", host=self._collector.host)
            course = _Course(self._folder, self._collector.settle_s)
            while True:
                last = self._stopping.is_set()
                self._send_due(connection, course)
                self._settle(connection, course)
                if last:
                    return
                self._wake.wait(LOOK_S)
                self._wake.clear()

    def _send_due(self, connection: "_Connection", course: "_Course") -> None:
        while lines := self._folder.read(course.at, most=MOST_AT_ONCE):
            whole = [line.content for line in lines if is_whole(line.content)]
            if len(whole) < len(lines):
                log.error("audit_line_damaged", count=len(lines) - len(whole))
            connection.send(b"".join(map(self._sender.frame, whole)))
            course.sent(lines, time.monotonic())
            self._settle(connection, course)

    def _settle(self, connection: "_Connection", course: "_Course") -> None:
        connection.check()
        if connection.is_taken():
            course.settle(time.monotonic())

    def _tell_down(self, error: CollectorDownError) -> None:
        if not self._is_down:
            self._is_down = True
            log.error(
                "audit_collector_down", host=self._collector.host, error=str(error)
            )

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Yield whether it is ours to send from this folder."""
        turn = os.open(self._folder.path / LOCK, os.O_RDWR | os.O_CREAT, LOCK_MODE)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(turn)


class _Course:
    """What was sent over one connection, and what of it counts as received."""

    def __init__(self, folder: AuditFolder, settle_s: float) -> None:
        self.at = folder.cursor()
        self._folder = folder
        self._settle_s = settle_s
        self._settling: deque[tuple[float, Cursor]] = deque()

    def sent(self, lines: list[Line], now: float) -> None:
        """Note that these were written to the connection."""
        self.at = lines[-1].end
        self._settling.append((now, self.at))

    def settle(self, now: float) -> None:
        """Move the cursor on disk behind what was sent long enough ago."""
        settled: Cursor | None = None
        while self._settling and now - self._settling[0][0] >= self._settle_s:
            settled = self._settling.popleft()[1]
        if settled is not None:
            self._folder.move(settled)


class _Connection:
    """A TLS connection to the collector; whatever is wrong is a `CollectorDownError`."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._socket: ssl.SSLSocket | None = None

    def __enter__(self) -> Self:
        to = self._collector
        with self._told("it does not answer"):
            plain = socket.create_connection((to.host, to.port), timeout=to.patience_s)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            longest_ms = int(1000 * to.patience_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, longest_ms)
            self._socket = to.context.wrap_socket(plain, server_hostname=to.host)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def send(self, content: bytes) -> None:
        """Write all of it."""
        with self._told("it took no more"):
            self._secure.settimeout(self._collector.patience_s)
            self._secure.sendall(content)

    def check(self) -> None:
        """Raise if the collector has closed the connection: it never says anything."""
        with self._told("it went away"):
            self._secure.settimeout(0)
            with suppress(ssl.SSLWantReadError):
                while True:
                    if not self._secure.recv(4096):
                        raise ConnectionResetError

    def is_taken(self) -> bool:
        """Return whether the other machine has every byte, as TCP knows it."""
        with self._told("it went away"):
            answer = fcntl.ioctl(self._secure, termios.TIOCOUTQ, b"\0" * 4)
        return not int.from_bytes(answer, sys.byteorder)

    @property
    def _secure(self) -> ssl.SSLSocket:
        if self._socket is None:
            raise CollectorDownError("there is no connection")
        return self._socket

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        where = f"audit collector {self._collector.host}:{self._collector.port}"
        try:
            yield
        except OSError as error:
            why = tls_fault(error) or what
            raise CollectorDownError(f"{where}: {why}") from error
