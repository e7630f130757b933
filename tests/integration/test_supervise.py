"""The supervisor, with real child processes: kept alive, stopped in order, none left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.supervise import Child, Supervisor

CHILD = """
import pathlib, signal, sys, time
name, log = sys.argv[1], pathlib.Path(sys.argv[2])

def say(what):
    with log.open("a") as file:
        file.write(f"{name} {what}\\n")

def stop(number, frame):
    say("stopped")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
say("started")
while True:
    time.sleep(0.05)
"""
STUBBORN = """
import pathlib, signal, subprocess, sys, time
grandchild = subprocess.Popen(["sleep", "300"])
pathlib.Path(sys.argv[2]).open("a").write(f"{grandchild.pid} started\\n")
time.sleep(300)
"""
SUPERVISOR = """
import sys
from dicom_node.supervise import Child, Supervisor

code, log, *names = sys.argv[1:]
children = [
    Child(name=name, command=[sys.executable, "-c", code, name, log]) for name in names
]
Supervisor(children, environ={}).run()
"""


class Watched:
    """A supervisor in a process of its own, and what its children said."""

    def __init__(self, folder: Path, code: str, *names: str) -> None:
        self._log = folder / "log"
        self._log.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, code, str(self._log), *names],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def said(self) -> list[str]:
        """Return what the children said, in order."""
        return self._log.read_text().splitlines()

    def children(self) -> list[int]:
        """Return the processes that its children are."""
        return descendants(self.process.pid)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


def descendants(parent: int) -> list[int]:
    """Return the children of a process, from /proc."""
    task = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in task.read_text().split()]


def alive(pid: int) -> bool:
    """Return whether a process runs: a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


def eventually(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Return a supervisor whose three children have started."""
    supervisor = Watched(tmp_path, CHILD, "broker", "node", "worker")
    eventually(lambda: len(supervisor.said()) == 3)
    yield supervisor
    supervisor.process.kill()
    supervisor.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_children_are_stopped_last_started_first(
    watched: Watched, number: signal.Signals
) -> None:
    """The broker outlives those who need it, and nothing is left."""
    children = watched.children()
    assert watched.end(number) == 0
    assert watched.said()[3:] == ["worker stopped", "node stopped", "broker stopped"]
    assert not any(alive(pid) for pid in children)


def test_a_child_that_ends_is_started_again(watched: Watched) -> None:
    """And the others do not notice."""
    before = watched.children()
    os.kill(before[1], signal.SIGKILL)
    eventually(lambda: len(watched.said()) == 4)
    assert watched.said()[3] == "node started"
    after = watched.children()
    assert [before[0], before[2]] == after[:2]
    assert len(after) == 3


def test_nothing_is_left_where_the_supervisor_is_killed(watched: Watched) -> None:
    """The kernel tells the children."""
    children = watched.children()
    assert watched.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(alive(pid) for pid in children))
    assert sorted(watched.said()[3:]) == [
        "broker stopped",
        "node stopped",
        "worker stopped",
    ]


def test_what_a_child_left_behind_is_ended_too(tmp_path: Path) -> None:
    """A worker that is killed does not leave its decoders."""
    supervisor = Watched(tmp_path, STUBBORN, "worker")
    eventually(lambda: len(supervisor.said()) == 1)
    grandchild = int(supervisor.said()[0].split()[0])
    (child,) = supervisor.children()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not alive(grandchild))
    eventually(lambda: len(supervisor.said()) == 2)
    grandchild = int(supervisor.said()[1].split()[0])
    assert alive(grandchild)
    assert supervisor.end(signal.SIGTERM) == 0
    eventually(lambda: not alive(grandchild))


def test_a_child_gets_the_environment_it_is_given(tmp_path: Path) -> None:
    """The supervisor's, and its own on top; nothing of the process around."""
    out = tmp_path / "out"
    write = "import os, pathlib; pathlib.Path(os.environ['OUT']).write_text(os.environ['A'] + os.environ['B'])"
    child = Child(
        name="child", command=[sys.executable, "-c", write], environ={"B": "own"}
    )
    supervisor = Supervisor([child], environ={"OUT": str(out), "A": "given ", "B": "x"})
    supervisor._start(child)
    supervisor._running["child"].wait()
    assert out.read_text() == "given own"
