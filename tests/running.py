"""A whole pacsight for tests: ``pacsight up`` with its own folder, ports and PACS."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset, dcmwrite
from sqlalchemy import select

from dicom_node.ledger import Tx, open_ledger, overview, tables
from dicom_node.lines import study_json

PACSIGHT = Path(sys.executable).with_name("pacsight")
DCMSEND = "/usr/bin/dcmsend"
DEADLINE_S = 60.0


@dataclass
class Running:
    """`pacsight up` as an operator runs it, with Orthanc as its PACS.

    Parameters
    ----------
    settings
        Tables that are added to ``pacsight.toml``, as TOML text.
    general
        Settings that stand before all tables, as TOML text.
    program
        What is started, without the settings file.
    """

    folder: Path
    dicom_port: int
    http_port: int
    settings: str = ""
    general: str = ""
    program: Sequence[str] = (str(PACSIGHT), "up")
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def config(self) -> Path:
        """Return the settings file."""
        return self.folder / "pacsight.toml"

    @property
    def stow(self) -> str:
        """Return the base URL of its STOW-RS service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def start(self) -> None:
        """Start it, and wait until both front doors answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'data_dir = "{self.folder}/data"\n{self.general}\n'
            f"[dicom]\nport = {self.dicom_port}\n"
            f"[http]\nport = {self.http_port}\n"
            "[spool]\nmin_free_bytes = 0\nmin_free_inodes = 0\n" + self.settings
        )
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread holds a lock here
            )
        try:
            self.until(self._answers, "the node to answer")
        except BaseException:
            self.stop()
            raise

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does, and return its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(with_signal)
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    def children(self) -> dict[str, int]:
        """Return the process ids of broker, node and worker."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = {}
        for pid in children.read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = next((n for n in (b"node", b"worker") if n in words), b"broker")
            found[name.decode()] = int(pid)
        return found

    def send(self, datasets: Iterable[Dataset], *options: str) -> None:
        """Send instances as a modality does, with DCMTK's dcmsend."""
        folder = self.folder / f"outgoing-{time.monotonic_ns()}"
        folder.mkdir()
        for number, one in enumerate(datasets):
            dcmwrite(folder / f"{number:04}.dcm", one, enforce_file_format=True)
        send_folder(folder, self.dicom_port, *options)

    def studies(self) -> list[dict[str, Any]]:
        """Return what ``pacsight studies --json`` says, without starting it."""
        with self._ledger() as tx:
            return [study_json(line) for line in overview.studies(tx)]

    def moments(self, uid: str) -> tuple[datetime, datetime]:
        """Return when a study could be concluded, and when it was."""
        query = (
            select(tables.revision.c.at, tables.job.c.finished_at)
            .select_from(tables.study.join(tables.revision).join(tables.job))
            .where(tables.study.c.study_uid == uid)
        )
        with self._ledger() as tx:
            opened, finished = tx.execute(query).one()
            return opened, finished

    @contextmanager
    def _ledger(self) -> Iterator[Tx]:
        url = f"sqlite:///{self.folder}/data/ledger.sqlite"
        ledger = open_ledger(url, migrate=False)
        try:
            with ledger.read() as tx:
                yield tx
        finally:
            ledger.close()

    def study(self, uid: str) -> dict[str, Any] | None:
        """Return the line of one study, if there is one."""
        return next((s for s in self.studies() if s["study_uid"] == uid), None)

    def command(self, *words: str) -> str:
        """Return what a ``pacsight`` command prints; it has to succeed."""
        return subprocess.run(
            [PACSIGHT, *words, "--config", str(self.config)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def until_state(self, uids: Sequence[str], state: str) -> None:
        """Wait until all of these studies are in a state."""

        def reached() -> bool:
            states = {s["study_uid"]: s["state"] for s in self.studies()}
            return all(states.get(uid) == state for uid in uids)

        self.until(reached, f"{len(uids)} studies to be {state}")

    def until(self, condition: Any, what: str) -> None:
        """Wait until the condition holds, or fail with what the log says."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            dead = self._process is not None and self._process.poll() is not None
            if dead or time.monotonic() > deadline:
                said = (self.folder / "up.log").read_text(errors="replace")
                raise AssertionError(f"waited in vain for {what}:\n{said[-3000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            httpx.get(f"{self.stow}/studies", timeout=1)
        except httpx.HTTPError:
            return False
        title = ("-aec", "PACSIGHT")
        echo = ["/usr/bin/echoscu", *title, "127.0.0.1", str(self.dicom_port)]
        return subprocess.run(echo, check=False, capture_output=True).returncode == 0


def lone_node(folder: Path, dicom_port: int, http_port: int) -> Running:
    """Return `pacsight node`, not yet started, whose broker nobody answers for."""
    return Running(
        folder=folder,
        dicom_port=dicom_port,
        http_port=http_port,
        general='broker_url = "redis://127.0.0.1:1/0"',
        program=(str(PACSIGHT), "node"),
    )


def send_folder(folder: Path, port: int, *options: str) -> None:
    """Send a folder with dcmsend, and assert that every instance was taken."""
    report = folder.with_suffix(".report")
    command = [DCMSEND, *options, "+sd", "+r", "-aec", "PACSIGHT"]
    subprocess.run(
        [*command, "--create-report-file", str(report), "127.0.0.1", str(port), folder],
        check=True,
        capture_output=True,
    )
    said = report.read_text()
    taken = said.count("DIMSE Status  : 0x0000 (Success)")
    assert taken == len(list(folder.iterdir())), said


def end_with_parent() -> None:
    """Let the kernel end this process where its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def descendants(pid: int) -> set[int]:
    """Return a process's children, and theirs."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    """Return whether the process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"
