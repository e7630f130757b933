"""Processes of a run: started, killed, frozen, and started again where they ended."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.running import descendants, end_with_parent

RESTART_S = 0.05
"""How soon what ended by itself is started again."""


@dataclass
class Process:
    """A program that is kept running.

    It is started from one thread alone: the kernel ends it together with that.

    Parameters
    ----------
    environ
        All of its environment.
    until
        Before that moment (monotonic) it is not started again.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    restarts: int = 0
    until: float = 0.0
    held: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Return its process id; 0 where it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it; it does not wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=dict(self.environ),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it does one system call
            )

    def is_running(self) -> bool:
        """Return whether it runs, or is frozen."""
        return self._process is not None and self._process.poll() is None

    def end(self, how: signal.Signals = signal.SIGKILL, *, down_s: float = 0.0) -> None:
        """End it, by SIGKILL unless said otherwise; it stays away for so long."""
        self.until = time.monotonic() + down_s
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it and what it started, without ending it."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def keep(self) -> bool:
        """Start it again if it has ended and its time has come; return whether."""
        if self.held or self.is_running() or time.monotonic() < self.until:
            return False
        self.restarts += 1
        self.until = time.monotonic() + RESTART_S
        self.start()
        return True

    def put_away(self) -> None:
        """End it and all that it started."""
        if self._process is None:
            return
        children = descendants(self.pid) if self.is_running() else set()
        self.end()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        if not self.is_running():
            return
        for pid in (self.pid, *descendants(self.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
