"""``make sandbox`` as a new user meets it: its table, its exit status, what it leaves."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = 12
WIDTH = 80
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("orthanc_binary")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the sandbox keeps everything."""
    return tmp_path / "sandbox"


@pytest.fixture
def sandbox(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a running sandbox that stays up; killed at the end if it is still there."""
    process = subprocess.Popen(
        _command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("dcmsend") is None, reason="DCMTK is not installed")
def test_every_study_gets_its_report(folder: Path) -> None:
    """It exits with 0, shows every study in 80 columns, and leaves no process."""
    said = _run(folder, "--exit")
    assert said.returncode == 0, said.stdout
    sent = sorted(path.name for path in (folder / "studies").iterdir())
    rows = [line.split()[0] for line in said.stdout.splitlines() if line.strip()]
    assert len(sent) == STUDIES
    assert set(sent) <= set(rows)
    table = said.stdout[said.stdout.index("top finding") :].partition("\n\n")[0]
    assert max(len(line) for line in table.splitlines()) <= WIDTH
    assert f"for each of {STUDIES} studies" in " ".join(said.stdout.split())
    if "There is no viewer: " not in said.stdout:  # it says why
        assert _last_link(said.stdout).endswith("&hangingProtocolId=pacsight")
    assert _left(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_orthanc_and_dcmtk_reports_go_to_a_folder(folder: Path) -> None:
    """It says what is missing, and the same reports lie in a folder."""
    said = _run(folder, "--exit", "--without", "orthanc", "--without", "dcmtk")
    assert said.returncode == 0, said.stdout
    assert "apt-get install orthanc orthanc-dicomweb" in said.stdout
    assert "apt-get install dcmtk" in said.stdout
    kinds = [path.name[:2] for path in (folder / "results").rglob("*.dcm")]
    assert sorted(kinds) == ["SC"] * STUDIES + ["SR"] * STUDIES


def test_ctrl_c_leaves_no_process(sandbox: subprocess.Popen[str], folder: Path) -> None:
    """Interrupted while it starts, it ends what it has started."""
    _await_start(folder)
    sandbox.send_signal(signal.SIGINT)
    assert sandbox.wait(60) == 130
    assert _left(folder) == []


def test_killed_it_leaves_no_process(
    sandbox: subprocess.Popen[str], folder: Path
) -> None:
    """Where it cannot end anything any more, the kernel does."""
    _await_start(folder)
    sandbox.kill()
    sandbox.wait()
    deadline = time.monotonic() + 60
    while _left(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _left(folder) == []


@pytest.mark.slow
def test_one_sandbox_a_folder(sandbox: subprocess.Popen[str], folder: Path) -> None:
    """A second one says who is there, and touches nothing."""
    _await_start(folder)
    said = _run(folder, "--exit")
    assert said.returncode == 1
    assert f"process {sandbox.pid}" in " ".join(said.stdout.split())
    assert sandbox.poll() is None


def _command(folder: Path, *arguments: str) -> list[str]:
    script = str(REPOSITORY / "deploy" / "sandbox.py")
    return [sys.executable, script, "--folder", str(folder), *arguments]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(folder, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _last_link(said: str) -> str:
    return [word for word in said.split() if word.startswith("http://")][-1]


def _await_start(folder: Path) -> None:
    """Wait until the sandbox has started everything that it starts."""
    socket = folder / "data" / "redis.sock"
    deadline = time.monotonic() + 60
    while not socket.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _left(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in command + (process / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode())
    return found
