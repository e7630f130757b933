"""A real syslog server for tests: rsyslog with GnuTLS, one file of what it got."""

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.certificates import Authority, Certificate

CONFIG = """\
global(
  workDirectory="{folder}"
  maxMessageSize="64k"
  defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{certificate}"
  defaultNetstreamDriverKeyFile="{key}"
  parser.escapeControlCharactersOnReceive="off"
)
module(
  load="imtcp"
  streamDriver.name="gtls"
  streamDriver.mode="1"
  streamDriver.authMode="x509/certvalid"
)
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="audit")
template(name="whole" type="string"
  string="%pri%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|%msg%\\n")
ruleset(name="audit") {{
  action(type="omfile" file="{folder}/received.log" template="whole")
}}
"""


def rsyslogd() -> str:
    """Return rsyslog's path, empty where it or its TLS is not installed."""
    found = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    has_tls = any(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so"))
    return found if found and has_tls else ""


@dataclass(slots=True)
class Rsyslog:
    """An rsyslog of our own: own folder, own port, loopback, mutual TLS."""

    folder: Path
    authority: Authority
    certificate: Certificate
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Listen; the port stays the same from one start to the next."""
        self.port = self.port or _free_port()
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "rsyslog.conf"
        config.write_text(
            CONFIG.format(
                folder=self.folder,
                ca=self.authority.own.path,
                certificate=self.certificate.path,
                key=self.certificate.key,
                port=self.port,
            )
        )
        pid = self.folder / "pid"
        pid.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [rsyslogd(), "-n", "-f", config, "-i", pid],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _await_port(self.port)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as a service manager does."""
        self._end(signal.SIGTERM)

    def received(self) -> list[str]:
        """Return each line it wrote: the fields of the header, then the message."""
        file = self.folder / "received.log"
        return file.read_text().splitlines() if file.exists() else []

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"rsyslog does not listen on {port}")
