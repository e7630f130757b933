"""What has happened on the disk when a sender hears success, seen from the kernel.

SIGKILL does not lose what the kernel holds in memory, so no test that kills processes
can see a missing fsync. Here strace watches a real node while it takes in instances by
C-STORE and by STOW-RS, and fails single calls in its place.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread

from dicom_node.spool import WRITTEN_EARLY
from tests.integration.conftest import free_port
from tests.receiving import BOUNDARY, STUDY, data_set_of, multipart, part10
from tests.running import PACSIGHT, Running
from tests.syscalls import TRACED, Call, calls, disorder

NO_BROKER = 'broker_url = "redis://127.0.0.1:1/0"'
"""Nothing listens there: what is received does not wait for a queue."""
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
UNDER = ("-D", "-f", "--seccomp-bpf")
"""Threads too; the node stays our child; calls that are not asked for cost nothing."""
ROWS, COLUMNS = 1024, 2500
LARGE: dict[str, Any] = {
    "Rows": ROWS,
    "Columns": COLUMNS,
    "PixelData": bytes(2 * ROWS * COLUMNS),
}
INSTANCES = {
    "C-STORE": part10(1),
    "C-STORE, large": part10(2, **LARGE),
    "STOW-RS": part10(3),
    "STOW-RS, large": part10(4, **LARGE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a node did with `INSTANCES`, and what its sender saw meanwhile.

    Parameters
    ----------
    kept
        Where each instance lies, by its UID.
    rows_when_answered, rows
        How many images the ledger had when all were acknowledged, and at the end.
    """

    trace: Sequence[Call]
    kept: dict[str, Path]
    rows_when_answered: int
    rows: int


@pytest.fixture(scope="module")
def strace() -> str:
    """Return strace's path; skipped where it is absent, failed where CI=true.

    Skipped, too, where the kernel lets nobody trace, as in some containers.
    """
    found = shutil.which("strace")
    if found is None:
        reason = "strace is not installed: apt install strace"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
            pytest.fail(reason)
        pytest.skip(reason)
    probe = [found, "-D", "-f", "-o", os.devnull, "-e", "trace=fsync", "true"]
    tried = subprocess.run(probe, check=False, capture_output=True, text=True)
    if tried.returncode or "ptrace" in tried.stderr:
        pytest.skip(f"the kernel lets no process be traced: {tried.stderr.strip()}")
    return found


@contextmanager
def node(folder: Path, *under: str) -> Iterator[Running]:
    """Start a node without broker under strace with these options, and stop it."""
    running = Running(
        folder=folder,
        dicom_port=free_port(),
        http_port=free_port(),
        general=NO_BROKER,
        program=(*under, str(PACSIGHT), "node"),
    )
    running.start()
    try:
        yield running
    finally:
        running.stop(signal.SIGTERM)


def stow(to: Running, content: bytes) -> httpx.Response:
    """Return the answer to a file that is sent by STOW-RS."""
    return httpx.post(
        f"{to.stow}/studies",
        content=multipart([content]),
        headers={"Content-Type": MULTIPART},
        timeout=30,
    )


def parsed(content: bytes) -> Dataset:
    """Return a file as a data set."""
    return dcmread(BytesIO(content))


def send(to: Running, door: str, content: bytes) -> None:
    """Send a file alone on its connection; it has to be acknowledged."""
    if door.startswith("STOW"):
        assert stow(to, content).status_code == httpx.codes.OK
    else:
        to.send([parsed(content)])


def instances(of: Running) -> int:
    """Return how many instances of the study the ledger has."""
    study = of.study(STUDY)
    return 0 if study is None else int(study["instances"])


@contextmanager
def ledger_locked(of: Running) -> Iterator[None]:
    """Keep everybody else from writing into the ledger meanwhile."""
    ledger = sqlite3.connect(of.folder / "data" / "ledger.sqlite", timeout=30)
    ledger.isolation_level = None
    ledger.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        ledger.execute("ROLLBACK")
        ledger.close()


@pytest.fixture(scope="module")
def watched(strace: str, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Return what a node did that was sent `INSTANCES` while its ledger was locked."""
    folder = tmp_path_factory.mktemp("durable") / "site"
    trace = folder.with_name("trace")
    what = ("-tt", "-y", "-s", "512", "-e", f"trace={','.join(TRACED)}")
    with node(folder, strace, *UNDER, *what, "-o", str(trace)) as running:
        with ledger_locked(running):
            for door, content in INSTANCES.items():
                send(running, door, content)
            rows_when_answered = instances(running)
        running.until(lambda: instances(running) == len(INSTANCES), "the ledger's rows")
        rows = instances(running)
    running.until(lambda: ended(trace), "strace's last word")
    files = (folder / "data" / "spool").glob("??/*.dcm")
    return Watched(
        trace=calls(trace.read_text().splitlines()),
        kept={str(dcmread(path).SOPInstanceUID): path for path in files},
        rows_when_answered=rows_when_answered,
        rows=rows,
    )


def ended(trace: Path) -> bool:
    """Return whether the process whose trace it is has come to its end."""
    lines = trace.read_text().splitlines()
    leader = lines[0].split()[0]
    return lines[-1].split()[0] == leader and "+++" in lines[-1]


@pytest.mark.parametrize("door", INSTANCES)
def test_an_instance_is_durable_before_it_is_acknowledged(
    watched: Watched, door: str
) -> None:
    """Written, fsync, rename, fsync of the folder; then the answer's first byte."""
    uid = str(parsed(INSTANCES[door]).SOPInstanceUID)

    assert disorder(watched.trace, kept=str(watched.kept[uid]), uid=uid) == []


def test_the_ledgers_row_is_no_part_of_the_acknowledgement(watched: Watched) -> None:
    """A ledger that cannot be written holds no sender up; its rows come later."""
    assert (watched.rows_when_answered, watched.rows) == (0, len(INSTANCES))


def test_large_instances_are_those_whose_disk_does_not_begin_early() -> None:
    """They go another way to the same place, so both are watched."""
    sizes = [len(content) > WRITTEN_EARLY for content in INSTANCES.values()]

    assert sizes == [False, True, False, True]


def test_success_is_not_said_where_the_folder_cannot_be_synced(
    strace: str, tmp_path: Path
) -> None:
    """That fsync fails with EIO: the sender keeps its instance, and so does the node."""
    contents = [part10(5), part10(6)]
    digests = [sha256(data_set_of(content)).hexdigest() for content in contents]
    folder = tmp_path / "site"
    spool = folder / "data" / "spool"
    shards = [word for digest in digests for word in ("-P", str(spool / digest[:2]))]
    failing = ("-e", "trace=fsync", "-e", "inject=fsync:error=EIO")
    log = ("-o", str(tmp_path / "trace"))
    with node(folder, strace, *UNDER, *shards, *failing, *log) as running:
        with pytest.raises(AssertionError, match="0x0110"):
            running.send([parsed(contents[0])])
        answer = stow(running, contents[1])

    assert answer.status_code == httpx.codes.CONFLICT
    failed = answer.json()["0008119A"]["Value"]  # Other Failures Sequence
    assert [item["00081197"]["Value"] for item in failed] == [[0x0110]]
    assert {path.stem for path in spool.glob("??/*.dcm")} == set(digests)
