"""Keep a few processes of ours alive, and leave none behind.

Each child leads a session of its own, so Ctrl-C reaches only the supervisor, which
then stops them in order, last started first. A child that ends is started again. The
kernel ends the children where the supervisor itself is killed.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 20.0
RESTART_DELAY_S = 1.0
POLL_S = 0.1
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to keep alive.

    Parameters
    ----------
    environ
        Added to the supervisor's environment.
    ready
        Waits until the process does its work; None where nobody depends on it.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[subprocess.Popen[bytes]], None] | None = None


class Supervisor:
    """Starts children in order, restarts those that end, stops them all."""

    def __init__(self, children: Sequence[Child], *, environ: Mapping[str, str]) -> None:
        self._children = tuple(children)
        self._environ = dict(environ)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    def run(self) -> None:
        """Keep the children alive until SIGINT or SIGTERM comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            for child in self._children:
                if not self._stopping:
                    self._start(child)
            while not self._stopping:
                time.sleep(POLL_S)
                self._restart_ended()
        finally:
            self._stop_children()

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopping = True

    def _start(self, child: Child) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            child.command,
            env={**self._environ, **child.environ},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads here
        )
        self._running[child.name] = process
        if child.ready is not None:
            child.ready(process)

    def _restart_ended(self) -> None:
        for child in self._children:
            code = self._running[child.name].poll()
            if code is not None and not self._stopping:
                log.error("child_ended", child=child.name, exit_code=code)
                time.sleep(RESTART_DELAY_S)
                self._start(child)

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            process = self._running.get(child.name)
            if process is not None and process.poll() is None:
                process.terminate()
                _await_end(process)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
