"""Leave the folder of a node of a former version that was killed in the middle of its work.

Run by that version's own code, from the root of its tree::

    PYTHONPATH=. python -P make.py 0005.tar.xz

Studies by their order: of 1 the report is delivered, of 2 it waits for its destination,
3 is being received, and of 4 the spool has a file that the ledger has never heard of.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE

from workers.phantoms import datasets, phantom

TITLE = "PACSIGHT"
EVERY = 8
"""Pixels: of so many one is kept, to have small files."""
SETTINGS = """
data_dir = "{folder}/data"
[dicom]
port = {dicom}
[http]
port = {http}
[study]
quiet_period_s = {quiet}
[spool]
min_free_bytes = 0
min_free_inodes = 0
[worker]
device = "cpu"
[[peers]]
name = "archive"
via = "folder"
folder = "{folder}/archive"
rights = ["destination"]
"""


def small(seed: int) -> Dataset:
    """Return a small radiograph, a study of its own."""
    (made,) = datasets(phantom("nodule", seed=seed))
    pixels = made.pixel_array[::EVERY, ::EVERY]
    made.Rows, made.Columns = pixels.shape
    made.PixelData = pixels.tobytes()
    return made


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Former:
    """`pacsight up` of the former version."""

    def __init__(self, folder: Path, *, quiet: float) -> None:
        self._ports = free_port(), free_port()
        dicom, http = self._ports
        config = folder / "pacsight.toml"
        config.write_text(
            SETTINGS.format(folder=folder, dicom=dicom, http=http, quiet=quiet)
        )
        words = [sys.executable, "-P", "-m", "workers", "up", "--config", str(config)]
        self._process = subprocess.Popen(words)
        self._await_port()

    def send(self, instance: Dataset) -> None:
        """Send an instance; it has to be acknowledged."""
        sender = AE(ae_title="MODALITY")
        sender.add_requested_context(
            instance.SOPClassUID, instance.file_meta.TransferSyntaxUID
        )
        link = sender.associate("127.0.0.1", self._ports[0], ae_title=TITLE)
        status = link.send_c_store(instance)
        link.release()
        if status.Status != 0:
            raise SystemExit(f"not acknowledged: {status}")

    def kill(self) -> None:
        """End all of it, without a word."""
        for pid in [self._process.pid, *descendants(self._process.pid)]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        time.sleep(1)

    def _await_port(self) -> None:
        for _ in range(600):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self._ports[0])) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("it did not start")


def descendants(pid: int) -> list[int]:
    """Return a process's children, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def await_state(ledger: Path, state: str, count: int) -> None:
    """Wait until so many studies are in that state."""
    query = "SELECT count(*) FROM study WHERE state = ?"
    for _ in range(600):
        with closing(sqlite3.connect(ledger)) as read:
            if read.execute(query, [state]).fetchone() == (count,):
                return
        time.sleep(0.1)
    raise SystemExit(f"never {count} studies {state}")


def fill(folder: Path) -> None:
    """Let the node come as far as it should, and kill it twice."""
    ledger, archive = folder / "data" / "ledger.sqlite", folder / "archive"
    archive.mkdir()
    node = Former(folder, quiet=1)
    node.send(small(1))
    await_state(ledger, "done", 1)
    archive.rename(folder / "delivered")
    archive.write_bytes(b"")  # no folder: what is sent there waits
    node.send(small(2))
    await_state(ledger, "delivering", 1)
    node.kill()
    node = Former(folder, quiet=3600)
    node.send(small(3))
    await_state(ledger, "receiving", 1)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        node.send(small(4))
        node.kill()
    archive.unlink()
    (folder / "delivered").rename(archive)


def main(out: Path) -> None:
    """Pack what is left: the data folder, and what was delivered."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        with tarfile.open(out, "w:xz", preset=9) as packed:
            for kept in ("data", "archive"):
                packed.add(folder / kept, arcname=kept)


main(Path(sys.argv[1]))
