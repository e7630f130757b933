"""Names, identifiers and free text stay in the spool, the outbox and the destination.

The whole flow with marked patients, in several character sets, through everything that
can go wrong on the way; then everything that was written, said or asked is searched.
"""

import http.server
import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from redis import Redis

from dicom_node.dispatch import QUEUES
from tests.integration.conftest import free_port
from tests.marks import Marks, found_in
from tests.receiving import BOUNDARY, multipart, written
from tests.running import Running, descendants
from tests.sites import chest

HEADER = 8192
"""Bytes of a file that hold all but its pixels."""
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
SETTINGS = """
[log]
level = "debug"
format = "json"
[study]
quiet_period_s = 1.5
expected_quiet_period_s = 0.5
minimum_revision_interval_s = 0
[report]
reject_superseded = true
[[peers]]
name = "archive"
via = "folder"
folder = "{folder}/archive"
rights = ["destination"]
objects = ["SR", "SC", "KO", "RN"]
[[peers]]
name = "moody"
aet = "MODALITY"
via = "stow"
dicomweb = "{moody}"
rights = ["send", "destination"]
expected = "qido"
[peers.retry]
first_s = 0.3
cap_s = 0.5
"""


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
"""A set of processes, in which everything goes wrong."""


@dataclass
class Moody:
    """A DICOMweb service that takes nothing, and quotes a patient when it says so."""

    quotes: str
    asked: list[str] = field(default_factory=list)

    def serve(self) -> Iterator[str]:
        """Yield its base URL while it runs."""
        moody = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(404)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(400)

            def _answer(self, status: int) -> None:
                moody.asked.append(f"{self.requestline}\n{self.headers}")
                body = f"cannot file {moody.quotes}".encode()
                self.send_response(status, moody.quotes)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Warning", f"299 {moody.quotes}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
        server.shutdown()
        server.server_close()


@dataclass
class Watched:
    """What a run left and said, by what it is: texts and files' bytes."""

    marks: list[str]
    folder: Path
    said: dict[str, bytes]
    kinds: set[str]
    states: set[str]


def stow(running: Running, *parts: bytes, study: str = "") -> int:
    """Return the status of a STOW-RS request with these parts."""
    answer = httpx.post(
        f"{running.stow}/studies{study}",
        content=multipart(parts),
        headers={"Content-Type": MULTIPART},
        timeout=30,
    )
    return answer.status_code


def marked(marks: Marks, seed: int, charset: str = "ISO_IR 192") -> Dataset:
    """Return a marked study of one image."""
    return marks.put_into(chest(seed), charset)


def odd(instance: Dataset, marks: Marks) -> Dataset:
    """Return an instance with values that break their VR, each of them a mark."""
    instance.add_new("PatientBirthDate", "LO", marks.word())
    instance.add_new("PatientAge", "LO", marks.word())
    instance.add_new("AccessionNumber", "LO", marks.word() + marks.word() + "x" * 20)
    instance.add_new("InstanceNumber", "LO", marks.word())
    instance.add_new("RescaleSlope", "LO", marks.word())
    instance.add_new("RescaleIntercept", "LO", marks.word())
    return instance


def misfortunes(running: Running, marks: Marks) -> None:
    """Send what cannot be taken, read or sent on."""
    good = written(marked(marks, 20))
    assert stow(running, good, study="/1.2.3.4") == 409
    no_uid = marked(marks, 21)
    del no_uid.SOPInstanceUID
    assert stow(running, written(no_uid)) == 409
    assert stow(running, written(marked(marks, 22))[:-5000]) == 409
    assert stow(running, marks.word().encode() * 9) == 409
    unreadable = marked(marks, 23)
    unreadable.PixelData = unreadable.PixelData[:101]
    first, second = marked(marks, 24), marked(marks, 24)
    second.SOPInstanceUID = f"{first.SOPInstanceUID}.2"
    strange = odd(marked(marks, 25), marks)
    parts = [written(one) for one in (unreadable, first, second, strange)]
    assert stow(running, *parts) == 200
    called = ["-aet", "STRANGER", "-aec", "NOBODY", "127.0.0.1"]
    rejected = subprocess.run(
        ["/usr/bin/echoscu", *called, str(running.dicom_port)],
        check=False,
        capture_output=True,
    )
    assert rejected.returncode != 0


def queued(socket: Path) -> bytes:
    """Return every message and key of the broker, and its dump."""
    with Redis(unix_socket_path=str(socket)) as client:
        client.save()
        messages = [client.lrange(queue, 0, -1) for queue in QUEUES]
        keys = client.keys("*")
    dump = (socket.parent / "dump.rdb").read_bytes()
    assert any(messages), "no message was caught on the queue"
    return repr((messages, keys)).encode() + dump


def command_lines(running: Running) -> bytes:
    """Return the command line of every process of the set."""
    assert running._process is not None
    found = b""
    for pid in {running._process.pid, *descendants(running._process.pid)}:
        try:
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Return what a set left behind that saw marked patients through all of it."""
    folder = tmp_path_factory.mktemp("marked")
    marks = Marks(seed=7)
    moody = Moody(quotes=marks.word())
    serving = moody.serve()
    running = Running(
        folder=folder,
        dicom_port=free_port(),
        http_port=free_port(),
        settings=SETTINGS.format(folder=folder, moody=next(serving)),
    )
    running.start()
    try:
        with monitored(folder):
            said = flow(running, marks)
        states = {study["state"] for study in running.studies()}
    finally:
        running.stop()
        said_to_peers = "\n".join(moody.asked).encode()
        next(serving, None)
    said["requests"] = said_to_peers
    kinds = {
        line["kind"]
        for name, text in said.items()
        if name.startswith("journal")
        for line in json.loads(text)
    }
    return Watched(
        marks=marks.made, folder=folder, said=said, kinds=kinds, states=states
    )


@contextmanager
def monitored(folder: Path) -> Iterator[None]:
    """Write down what the broker is told meanwhile."""
    socket = str(folder / "data" / "redis.sock")
    with (folder / "monitor.log").open("wb") as log:
        monitor = subprocess.Popen(["redis-cli", "-s", socket, "monitor"], stdout=log)
    try:
        yield
    finally:
        monitor.terminate()
        monitor.wait()


def flow(running: Running, marks: Marks) -> dict[str, bytes]:
    """Take marked studies through all of it, and return what is said of them."""
    socket = running.folder / "data" / "redis.sock"
    worker = running.children()["worker"]
    charsets = ("ISO_IR 192", "ISO_IR 100", "\\ISO 2022 IR 87")
    good = [marked(marks, 10 + n, charset) for n, charset in enumerate(charsets)]
    os.kill(worker, signal.SIGSTOP)
    running.send(good, "-aet", "MODALITY")
    misfortunes(running, marks)
    running.until(lambda: is_queued(socket), "messages on the queue")
    said = {"queue and its dump": queued(socket)}
    os.kill(worker, signal.SIGCONT)
    running.until_state([str(one.StudyInstanceUID) for one in good], "undelivered")
    running.send([marked(marks, 10)], "-aet", "MODALITY")
    notes = running.folder / "archive"
    running.until(lambda: list(notes.glob("*/RN-*")), "a rejection note")
    running.until(lambda: is_held(running), "a study to be held")
    said["command lines"] = command_lines(running)
    return said | answers(running)


def answers(running: Running) -> dict[str, bytes]:
    """Return what commands say of everything, and of each study."""
    uids = [study["study_uid"] for study in running.studies()]
    of_each = [("journal", uid, "--json") for uid in uids]
    asked = [*_COMMANDS, *of_each]
    return {" ".join(words): running.command(*words).encode() for words in asked}


_COMMANDS = (
    ("studies", "--json"),
    ("journal", "--json", "--limit", "1000"),
    ("deliveries", "--json", "--limit", "1000"),
    ("retry", "--json"),
)


def is_queued(socket: Path) -> bool:
    """Return whether a message waits for the worker."""
    with Redis(unix_socket_path=str(socket)) as client:
        return any(client.llen(queue) for queue in QUEUES)


def is_held(running: Running) -> bool:
    """Return whether any study is held."""
    return any(study["state"] == "held" for study in running.studies())


def test_the_flow_went_through_all_of_it(watched: Watched) -> None:
    """Refused, unreadable, held, undelivered: each of them happened."""
    assert {"refused", "unreadable", "undeliverable", "held"} <= watched.kinds
    assert {"held", "undelivered"} <= watched.states
    assert b"/series?" in watched.said["requests"]
    assert b"POST" in watched.said["requests"]


def test_marks_are_found_where_patients_may_be(watched: Watched) -> None:
    """What is searched for can be found: in the spool, the outbox and the archive."""
    for name in ("data/spool", "data/outbox", "archive"):
        files = sorted((watched.folder / name).rglob("*.dcm"))
        everything = b"".join(file.read_bytes()[:HEADER] for file in files)
        assert len(found_in(watched.marks, everything)) > 20, name


def test_no_mark_is_anywhere_else(watched: Watched) -> None:
    """Logs, ledger, queue, command lines, answers, requests: no form of any mark."""
    allowed = ("data/spool/", "data/outbox/", "archive/", "outgoing-")
    everything = dict(watched.said)
    for path in sorted(watched.folder.rglob("*")):
        name = str(path.relative_to(watched.folder))
        if path.is_file() and not name.startswith(allowed):
            everything[name] = path.read_bytes()

    assert {"up.log", "data/ledger.sqlite", "monitor.log", "data/dump.rdb"} <= set(
        everything
    )
    leaks = {name: found_in(watched.marks, c) for name, c in everything.items()}
    assert {name: marks for name, marks in leaks.items() if marks} == {}


def test_nobody_else_can_read_what_a_node_writes(watched: Watched) -> None:
    """Files 0600, folders 0700, the socket 0700."""
    assert modes(watched.folder / "data") == {}


def modes(folder: Path) -> dict[str, str]:
    """Return what under the folder others than its owner may touch."""
    return {
        str(path.relative_to(folder)): stat.filemode(path.lstat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if path.lstat().st_mode & 0o077
    }
