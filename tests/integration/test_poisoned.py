"""Real killers among good studies, and a real worker: the queue goes on, they are put aside."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_node.ledger import open_ledger
from dicom_node.ledger.suspects import REASON
from dicom_node.ledger.tables import batch, embedding, version
from tests import hostile
from tests.integration.conftest import free_port
from tests.receiving import BOUNDARY, multipart
from tests.running import Running
from workers.decode import TOO_LARGE
from workers.phantoms import datasets, phantom

KIND = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
SETTINGS = """
[study]
quiet_period_s = 1.0
expected_quiet_period_s = 0.5
minimum_revision_interval_s = 0

[work]
lease_s = 3.0

[worker]
decode_processes = 1
decode_memory_bytes = 536870912
decode_timeout_s = 20.0

[[peers]]
name = "out"
folder = "{folder}/out"
via = "folder"
rights = ["destination"]
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    """Return a running pacsight whose results go into a folder."""
    running = Running(
        folder=tmp_path / "up",
        dicom_port=free_port(),
        http_port=free_port(),
        settings=SETTINGS.format(folder=tmp_path),
    )
    (tmp_path / "out").mkdir()
    running.start()
    yield running
    running.stop()


def post(node: Running, content: bytes) -> None:
    """Send a file by STOW-RS; it has to be taken."""
    answer = httpx.post(
        f"{node.stow}/studies",
        content=multipart([content]),
        headers={"content-type": KIND},
        timeout=30,
    )
    assert answer.status_code == httpx.codes.OK


def test_a_file_that_unfolds_without_end(node: Running) -> None:
    """Its study is reported on without it; let out, it is back in quarantine."""
    bomb = hostile.vast_jpeg2000()
    good = [datasets(phantom("effusion", 31)), datasets(phantom("chest_normal", 32))]
    uids = [str(one[0].StudyInstanceUID) for one in good]
    node.send(good[0])
    post(node, bomb)
    node.send(good[1])
    node.until_state(uids, "done")
    node.until(lambda: _aside(node), "the instance to be in quarantine")
    (line,) = _aside(node)
    assert line["reason"] == TOO_LARGE
    node.until_state([line["study_uid"]], "done")
    study = node.study(line["study_uid"])
    assert study is not None
    assert (study["quarantined"], study["flag"]) == (1, "not evaluated")
    assert "is read again" in node.command(
        "quarantine", "release", line["sop_instance_uid"]
    )
    node.until(lambda: _aside(node), "the instance to be in quarantine again")
    journal = json.loads(node.command("journal", line["study_uid"], "--json"))
    assert [one["kind"] for one in journal].count("quarantined") == 2


def _aside(node: Running) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(node.command("quarantine", "--json"))
    return found


def test_what_ends_its_worker_each_time(node: Running) -> None:
    """SIGKILL whenever the worker has that instance: the others lose nothing by it."""
    studies = [datasets(phantom("effusion", seed)) for seed in (41, 42, 43)]
    uids = [str(one[0].StudyInstanceUID) for one in studies]
    guilty = str(studies[1][0].SOPInstanceUID)
    stopped = threading.Event()
    killer = threading.Thread(target=_kill_for, args=(node, guilty, stopped))
    killer.start()
    try:
        for instances in studies:
            node.send(instances)
        for _ in range(4):  # workers come back ever later
            try:
                node.until(lambda: _aside(node), "the instance to be in quarantine")
                break
            except AssertionError:
                continue
    finally:
        stopped.set()
        killer.join()
    assert [(one["sop_instance_uid"], one["reason"]) for one in _aside(node)] == [
        (guilty, REASON)
    ]
    node.until_state(uids, "done")
    flags = {one["study_uid"]: one["flag"] for one in node.studies()}
    assert flags[uids[1]] == "not evaluated"
    assert "not evaluated" not in {flags[uids[0]], flags[uids[2]]}
    reports = sorted((node.folder.parent / "out" / uids[1]).glob("*.dcm"))
    assert reports
    assert all(dcmread(one).StudyInstanceUID == uids[1] for one in reports)


def _kill_for(node: Running, guilty: str, stopped: threading.Event) -> None:
    """Kill the worker whenever it holds a batch with this instance."""
    held = (
        select(batch.c.token, batch.c.id)
        .select_from(
            batch.join(embedding, embedding.c.batch_id == batch.c.id).join(version)
        )
        .where(
            version.c.sop_instance_uid == guilty,
            embedding.c.state == "batched",
            batch.c.state == "leased",
        )
    )
    done: set[tuple[int, ...]] = set()
    ledger = open_ledger(f"sqlite:///{node.folder}/data/ledger.sqlite", migrate=False)
    while not stopped.wait(0.005):
        with ledger.read() as tx:
            leased = {tuple(row) for row in tx.execute(held)}
        if leased - done and "worker" in node.children():
            os.kill(node.children()["worker"], signal.SIGKILL)
            done |= leased
    ledger.close()
