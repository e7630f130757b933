"""What the sandbox starts, and leaves no trace of: Orthanc, ``pacsight up``, OHIF.

Each leads a session of its own, so that Ctrl-C reaches the sandbox alone, which then
stops them in order. Where the sandbox itself is killed, the kernel ends them. All hold
the sandbox's lock as long as they live.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

HOST = "127.0.0.1"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
PR_SET_PDEATHSIG = 1
ORTHANC_BINARIES = ("/usr/sbin/Orthanc", "/usr/bin/Orthanc", "/usr/local/sbin/Orthanc")
PLUGIN = "libOrthancDicomWeb.so"
PLUGIN_FOLDERS = (
    "/usr/share/orthanc/plugins",
    "/usr/local/share/orthanc/plugins",
    "/usr/lib/orthanc",
)
REPOSITORY = Path(__file__).resolve().parent.parent


class SandboxError(Exception):
    """What went wrong, and where to look; ends the sandbox with exit status 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens on this machine."""

    orthanc_http: int
    orthanc_dicom: int
    node_dicom: int
    node_http: int
    viewer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that runs as long as the sandbox does."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if it has ended."""
        code = self.process.poll()
        if code is not None:
            said = self.log.read_text(errors="replace").splitlines()
            own = [line for line in said if line.startswith("pacsight: ")]
            why = own[0] if own else f"{self.name} ended with exit status {code}"
            raise SandboxError(f"{why}; see {self.log}")

    def await_ready(
        self, is_ready: Callable[[], bool], *, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Wait until it does its work.

        Raises
        ------
        SandboxError
            If it ends, or is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{self.name} is not ready after {timeout_s:g} s: see {self.log}"
                )
            time.sleep(0.1)

    def ask_to_end(self) -> None:
        """Ask it to end, and do not wait for it."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Ask it to end; after a while, end it."""
        self.ask_to_end()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def lock(folder: Path) -> IO[str]:
    """Return the open lock file that makes this folder ours until it is closed.

    Raises
    ------
    SandboxError
        If another sandbox runs there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+", encoding="ascii")
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not _locked(file):
        file.seek(0)
        owner = file.read().strip()
        if _runs(owner):
            raise SandboxError(
                f"another sandbox runs in {folder} (process {owner}): end it with"
                " Ctrl-C in its terminal, or name another folder with --folder"
            )
        if time.monotonic() > deadline:
            raise SandboxError(f"{folder}/lock is held by what an ended sandbox left")
        time.sleep(0.2)  # it ended a moment ago, and its services are ending
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def choose_ports() -> Ports:
    """Return the well-known ports, or free ones where somebody listens there."""
    taken: set[int] = set()

    def choose(preferred: int) -> int:
        port = preferred if _free(preferred) else 0
        while not port or port in taken:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port = probe.getsockname()[1]
        taken.add(port)
        return port

    return Ports(
        orthanc_http=choose(8042),
        orthanc_dicom=choose(4242),
        node_dicom=choose(11112),
        node_http=choose(8080),
        viewer=choose(3000),
    )


def find_orthanc() -> dict[str, str] | None:
    """Return Orthanc's binary and DICOMweb plugin, or None if one is missing."""
    binary = next((b for b in ORTHANC_BINARIES if Path(b).exists()), None)
    plugins = (f"{folder}/{PLUGIN}" for folder in PLUGIN_FOLDERS)
    plugin = next((p for p in plugins if Path(p).exists()), None)
    if binary is None or plugin is None:
        return None
    return {"binary": binary, "plugin": plugin}


def start_orthanc(
    found: Mapping[str, str], folder: Path, ports: Ports, held: IO[str]
) -> Service:
    """Return Orthanc as ``orthanc/orthanc.json`` says, on these ports."""
    environ = {
        **os.environ,
        "ORTHANC_FOLDER": str(folder / "orthanc"),
        "ORTHANC_HTTP_PORT": str(ports.orthanc_http),
        "ORTHANC_DICOM_PORT": str(ports.orthanc_dicom),
        "ORTHANC_DICOMWEB": found["plugin"],
        "PACSIGHT_PORT": str(ports.node_dicom),
    }
    command = [found["binary"], str(REPOSITORY / "orthanc" / "orthanc.json")]
    return _start("Orthanc", command, environ, folder / "orthanc.log", held)


def start_pacsight(config: Path, folder: Path, held: IO[str]) -> Service:
    """Return ``pacsight up`` with that settings file and nothing else."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PACSIGHT_")}
    pacsight = Path(sys.executable).with_name("pacsight")
    command = [str(pacsight), "up", "--config", str(config)]
    return _start("pacsight", command, environ, folder / "pacsight.log", held)


def start_viewer(folder: Path, ports: Ports, held: IO[str]) -> Service:
    """Return OHIF beside Orthanc; it ends by itself where OHIF cannot be had."""
    command = [
        *(sys.executable, str(REPOSITORY / "deploy" / "viewer.py")),
        *("--port", str(ports.viewer)),
        *("--orthanc", f"http://{HOST}:{ports.orthanc_http}"),
        *("--work", str(folder / "viewer")),
    ]
    return _start("OHIF", command, os.environ, folder / "viewer.log", held)


def orthanc_answers(ports: Ports) -> bool:
    """Return whether Orthanc answers HTTP."""
    try:
        with urlopen(f"http://{HOST}:{ports.orthanc_http}/system", timeout=2) as answer:
            return bool(json.load(answer))
    except (URLError, OSError, ValueError):
        return False


def viewer_answers(ports: Ports) -> bool:
    """Return whether OHIF is served."""
    return _listens(ports.viewer)


def pacsight_answers(ports: Ports, log: Path) -> bool:
    """Return whether the node listens and the worker holds its packs."""
    listens = _listens(ports.node_dicom) and _listens(ports.node_http)
    return listens and "pack_ready" in log.read_text(errors="replace")


def _start(
    name: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    held: IO[str],
) -> Service:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(held.fileno(),),
            preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads yet
        )
    return Service(name=name, process=process, log=log)


def die_with_parent() -> None:
    """Let the kernel end this process where its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
