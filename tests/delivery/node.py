"""A real ``pacsight node`` over a data folder, which can be killed and started again."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.broker import await_broker, broker_command, broker_url
from dicom_node.ledger import Ledger, open_ledger
from tests.running import PACSIGHT, end_with_parent


@dataclass
class Node:
    """The node alone, with a broker of its own: there is nothing for a worker to do.

    Parameters
    ----------
    settings
        The rest of ``pacsight.toml``, as TOML text.
    """

    folder: Path
    dicom_port: int
    settings: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def data(self) -> Path:
        """Return its data folder."""
        return self.folder / "data"

    @property
    def outbox(self) -> Path:
        """Return where the objects lie that it sends."""
        return self.data / "outbox"

    @property
    def log(self) -> Path:
        """Return what it said."""
        return self.folder / "node.log"

    def ledger(self) -> Ledger:
        """Return its ledger; made where it does not exist."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return open_ledger(f"sqlite:///{self.data}/ledger.sqlite", migrate=True)

    @contextmanager
    def broker(self) -> Iterator[None]:
        """Run a private broker for it until the block ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _ended(
            subprocess.Popen(
                broker_command(self._socket),
                stdout=subprocess.DEVNULL,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it does one system call
            )
        ) as process:
            await_broker(self._socket, process)
            yield

    def start(self) -> None:
        """Start it; it does not wait until it answers."""
        config = self.folder / "pacsight.toml"
        config.write_text(
            f'data_dir = "{self.data}"\nbroker_url = "{broker_url(self._socket)}"\n'
            "[spool]\nmin_free_bytes = 0\nmin_free_inodes = 0\n"
            f"[dicom]\nport = {self.dicom_port}\n"
            "connect_timeout_s = 2.0\nacse_timeout_s = 4.0\ndimse_timeout_s = 6.0\n"
            "[http]\nport = 0\ntimeout_s = 10.0\n" + self.settings
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PACSIGHT, "node", "--config", str(config)],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it does one system call
            )

    def stop(self) -> None:
        """Stop it as an operator would."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> None:
        """End it by a signal."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        if self._process is not None:
            self._process.send_signal(number)

    @property
    def _socket(self) -> Path:
        return self.folder / "broker.sock"


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)
