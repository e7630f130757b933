"""Keep a few processes of ours alive, and leave none behind.

Each child leads a session of its own, so Ctrl-C reaches only the supervisor, which
then stops them in order, last started first. A child that ends is started again, and
what it left behind of its session is ended. The kernel ends the children where the
supervisor itself is killed.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

import structlog

from dicom_node.errors import Permanent, Transient

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 20.0
RESTART_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
SETTLED_S = 60.0
"""A child that lived so long is started again without further delay."""
HOPELESS = 2
"""Exit status of a child that cannot work as things are: a setting, a missing file."""
POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class ChildHopelessError(Permanent):
    """A child said that it cannot run; starting it again would change nothing."""


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

    def __init__(
        self, children: Sequence[Child], *, environ: Mapping[str, str]
    ) -> None:
        self._children = tuple(children)
        self._environ = dict(environ)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._delays: dict[str, float] = {}
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
            preexec_fn=partial(_die_with, os.getpid()),  # noqa: PLW1509 - there are no threads here
        )
        self._running[child.name] = process
        self._started[child.name] = time.monotonic()
        if child.ready is not None:
            child.ready(process)

    def _restart_ended(self) -> None:
        for child in self._children:
            code = self._running[child.name].poll()
            if code is not None and not self._stopping:
                log.error("child_ended", child=child.name, exit_code=code)
                _end_session(self._running[child.name])
                if code == HOPELESS:
                    raise ChildHopelessError(
                        f"the {child.name} cannot run: its last words say why"
                    )
                self._pause(child)
                self._start_again(child)

    def _pause(self, child: Child) -> None:
        """Wait longer each time that the child ends soon after its start."""
        now = time.monotonic()
        lived_s = now - self._started[child.name]
        delay_s = self._delays.get(child.name, RESTART_DELAY_S)
        self._delays[child.name] = (
            RESTART_DELAY_S
            if lived_s > SETTLED_S
            else min(2 * delay_s, LONGEST_DELAY_S)
        )
        while not self._stopping and time.monotonic() < now + delay_s:
            time.sleep(POLL_S)

    def _start_again(self, child: Child) -> None:
        """Start it once more; if it is not ready, it will have ended by itself."""
        try:
            self._start(child)
        except Transient as error:
            log.error("child_not_ready", child=child.name, error=str(error))  # noqa: TRY400 - the message says it all

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            process = self._running.get(child.name)
            if process is not None:
                process.terminate()
                _await_end(process)
                _end_session(process)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End what a process that has ended itself left behind of its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, unless that is gone now."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
