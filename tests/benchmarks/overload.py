"""What becomes of a node that more is sent to than it serves, while its PACS is down.

Sixteen senders by C-STORE (DCMTK: eight dcmsend, eight storescu) and eight by STOW-RS
send studies without a pause to `pacsight up`: Redis, a node, a worker. The node
has twelve places for associations and six for requests, so some are always refused. The
destination of all reports is a port that nobody listens on. Each attempt has to end in
success for every instance, or in a refusal by name: A-ASSOCIATE-RJ, or 503 with
Retry-After. Whatever ends otherwise is lost. At the end the ledger has to have every
instance that was answered with success.

``python tests/benchmarks/overload.py [--minutes N] [--json]``
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.uid import generate_uid
from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.ledger import open_ledger
from dicom_node.ledger.tables import artefact, delivery, study, version
from tests.images import image
from tests.integration.conftest import free_port
from tests.receiving import BOUNDARY, multipart
from tests.running import Running

DCMSEND, STORESCU = "/usr/bin/dcmsend", "/usr/bin/storescu"
INSTANCES = 8
"""Of a study; each has 256 x 256 pixels of 16 bits, 128 KiB."""
AGAIN_S = 0.5
"""How long a sender that was refused waits."""
PLACES, REQUESTS = 12, 6
LIMIT_MIB = 350.0
GROWTH_MIB = 1.0
"""A minute."""
EVERY_S = 1.0


@dataclass
class Tally:
    """What became of what was sent, counted by all senders."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, count: int = 1) -> None:
        """Count."""
        with self.lock:
            self.counts[what] += count

    def lose(self, why: str) -> None:
        """Note what ended in no answer and no refusal."""
        self.add("lost")
        with self.lock:
            self.lost[why] += 1


def a_study() -> Iterator[Dataset]:
    """Yield the images of a new study of a new patient."""
    uid = generate_uid(prefix=None)
    pixels = np.random.default_rng().integers(0, 4096, (256, 256), dtype=np.uint16)
    for number in range(1, INSTANCES + 1):
        yield image(
            pixels,
            SOPInstanceUID=generate_uid(prefix=None),
            StudyInstanceUID=uid,
            SeriesInstanceUID=f"{uid}.1"[:64],
            PatientID=uid[-12:],
            InstanceNumber=number,
        )


# ── senders ─────────────────────────────────────────────────────────────────


def by_dcmsend(running: Running, folder: Path, tally: Tally) -> bool:
    """Send a study with dcmsend; return whether it was let in."""
    _write_study(folder)
    report = folder.with_suffix(".report")
    report.unlink(missing_ok=True)
    words = ["-aec", "PACSIGHT", "+sd", "--create-report-file", str(report)]
    done = subprocess.run(
        [DCMSEND, *words, *running_at(running), folder],
        capture_output=True,
        text=True,
        check=False,
    )
    said = report.read_text() if report.exists() else ""
    answers = re.findall(r"DIMSE Status  : (0x\w{4})", said)
    return _counted(tally, answers, "0x0000", done.stderr)


def by_storescu(running: Running, folder: Path, tally: Tally) -> bool:
    """Send a study with storescu; return whether it was let in."""
    _write_study(folder)
    done = subprocess.run(
        [STORESCU, "-v", "+sd", "-aec", "PACSIGHT", *running_at(running), folder],
        capture_output=True,
        text=True,
        check=False,
    )
    answers = re.findall(r"Received Store Response \((.*)\)", done.stdout + done.stderr)
    return _counted(tally, answers, "Success", done.stderr)


def by_stow(running: Running, _folder: Path, tally: Tally) -> bool:
    """Send a study in a request; return whether it was let in."""
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    try:
        response = httpx.post(
            f"{running.stow}/studies",
            content=multipart([_file(one) for one in a_study()]),
            headers={"content-type": kind},
            timeout=120,
        )
    except httpx.HTTPError as error:
        tally.lose(f"STOW-RS: {type(error).__name__}")
        return False
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        named = "retry-after" in response.headers
        tally.add("refused, 503") if named else tally.lose("503 without Retry-After")
        return False
    if response.status_code != httpx.codes.OK:
        tally.lose(f"STOW-RS: {response.status_code} {response.text[:200]}")
        return False
    stored = response.json()["00081199"]["Value"]
    tally.add("stored", len(stored))
    return True


def running_at(running: Running) -> tuple[str, str]:
    """Return where its associations are opened."""
    return ("127.0.0.1", str(running.dicom_port))


def _write_study(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, one in enumerate(a_study()):
        dcmwrite(folder / f"{number}.dcm", one, enforce_file_format=True)


def _counted(tally: Tally, answers: Sequence[str], good: str, said: str) -> bool:
    """Count the answers to instances; return whether there was an association."""
    tally.add("stored", answers.count(good))
    if re.search("Association Rejected", said):  # why, the node's log says
        tally.add("rejected, local limit")
        return False
    if len(answers) != INSTANCES or set(answers) != {good}:
        tally.lose(said[-300:] or f"{answers}")
    return True


def _file(one: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, one, enforce_file_format=True)
    return buffer.getvalue()


Send = Callable[[Running, Path, Tally], bool]
SENDERS: Sequence[tuple[Send, int]] = ((by_dcmsend, 8), (by_storescu, 8), (by_stow, 8))


def keep_sending(
    send: Send, running: Running, folder: Path, tally: Tally, stop: threading.Event
) -> None:
    """Send studies until `stop`, and wait a little wherever one was refused."""
    while not stop.is_set():
        tally.add("attempts")
        if not send(running, folder, tally):
            stop.wait(AGAIN_S)


# ── what is seen ────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The node at a moment.

    Parameters
    ----------
    at_s
        Since the senders began.
    """

    at_s: float
    rss_mib: float
    threads: int
    files: int
    stored: int
    refused: int


def sample(pid: int, began: float, tally: Tally) -> Sample:
    """Return how the process stands now."""
    status = Path(f"/proc/{pid}/status").read_text()
    counts = dict(tally.counts)
    refused = sum(n for what, n in counts.items() if what.startswith(("ref", "rej")))
    return Sample(
        at_s=time.monotonic() - began,
        rss_mib=_number("VmRSS", status) / 1024,
        threads=_number("Threads", status),
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        stored=counts.get("stored", 0),
        refused=refused,
    )


def _number(name: str, status: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def slope(samples: Sequence[Sample]) -> float:
    """Return how the memory grew in the second half, MiB a minute, by least squares."""
    later = [s for s in samples if s.at_s >= samples[-1].at_s / 2]
    minutes = [s.at_s / 60 for s in later]
    return float(np.polyfit(minutes, [s.rss_mib for s in later], 1)[0])


def in_ledger(folder: Path) -> dict[str, int]:
    """Return what the ledger has."""
    ledger = open_ledger(f"sqlite:///{folder}/data/ledger.sqlite", migrate=False)
    tables = {
        "instances": version,
        "studies": study,
        "results": artefact,
        "waiting": delivery,
    }
    with ledger.read() as tx:
        counts = {
            name: int(tx.execute(select(func.count()).select_from(t)).scalar_one())
            for name, t in tables.items()
        }
    ledger.close()
    return counts


# ── the run ─────────────────────────────────────────────────────────────────


def measure(folder: Path, minutes: float) -> dict[str, object]:
    """Return the figures of a run of so many minutes."""
    running = Running(
        folder=folder / "site",
        dicom_port=free_port(),
        http_port=free_port(),
        settings=(
            f"[[peers]]\nname = 'pacs'\naet = 'PACS'\nhost = '127.0.0.1'\n"
            f"port = {free_port()}\nrights = ['destination']\n"
        ),
    )
    running.start()
    try:
        tally, samples, seconds = _run(running, folder, minutes)
        kept = _settled(running.folder, tally.counts["stored"])
    finally:
        running.stop()
    rejections = logged(running.folder)
    return _figures(tally, samples, seconds, kept=kept, rejections=rejections)


def _run(
    running: Running, folder: Path, minutes: float
) -> tuple[Tally, list[Sample], float]:
    """Let all send for so long, and return what was seen meanwhile."""
    tally, stop = Tally(), threading.Event()
    senders = [send for send, count in SENDERS for _ in range(count)]
    threads = [
        threading.Thread(
            target=keep_sending, args=(send, running, folder / f"{n}", tally, stop)
        )
        for n, send in enumerate(senders)
    ]
    node = running.children()["node"]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    samples: list[Sample] = []
    while time.monotonic() - began < 60 * minutes:
        samples.append(sample(node, began, tally))
        _show(samples)
        time.sleep(EVERY_S)
    stop.set()
    for thread in threads:
        thread.join()
    return tally, samples, time.monotonic() - began


def _settled(folder: Path, stored: int) -> dict[str, int]:
    """Return what the ledger has, once it has all, or does not get more any more."""
    deadline = time.monotonic() + 60
    while (kept := in_ledger(folder))["instances"] < stored:
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return kept


def logged(folder: Path) -> dict[str, int]:
    """Return how often the node's log says that it rejected an association, and why."""
    reasons: Counter[str] = Counter()
    for line in (folder / "up.log").read_text(errors="replace").splitlines():
        if '"association_rejected"' in line:
            reasons[json.loads(line)["reason"]] += 1
    return dict(reasons)


def _figures(
    tally: Tally,
    samples: Sequence[Sample],
    seconds: float,
    *,
    kept: dict[str, int],
    rejections: dict[str, int],
) -> dict[str, object]:
    return {
        "seconds": round(seconds),
        "senders": sum(count for _, count in SENDERS),
        "counts": dict(sorted(tally.counts.items())),
        "why lost": dict(tally.lost.most_common(10)),
        "rejections in the node's log": rejections,
        "ledger": kept,
        "missing in the ledger": tally.counts["stored"] - kept["instances"],
        "most memory, MiB": round(max(s.rss_mib for s in samples), 1),
        "growth in the second half, MiB a minute": round(slope(samples), 2),
        "most threads": max(s.threads for s in samples),
        "most open files": max(s.files for s in samples),
    }


def _show(samples: Sequence[Sample]) -> None:
    """Print a line a minute, with a bar that is as long as the memory."""
    now = samples[-1]
    if len(samples) % round(60 / EVERY_S) != 1:
        return
    bar = "#" * round(40 * now.rss_mib / LIMIT_MIB)
    print(
        f"{now.at_s / 60:4.0f} min {now.stored:8d} stored {now.refused:7d} refused "
        f"{now.threads:4d} threads {now.rss_mib:6.1f} MiB {bar}",
        flush=True,
    )


def holds(figures: dict[str, object]) -> bool:
    """Return whether the figures are those that are promised."""
    counts = figures["counts"]
    assert isinstance(counts, dict)
    most, growth = (
        float(str(figures[name]))
        for name in ("most memory, MiB", "growth in the second half, MiB a minute")
    )
    lost = counts.get("lost", 0) or int(str(figures["missing in the ledger"])) > 0
    named = {f"{PLACES} associations are open": counts.get("rejected, local limit", 0)}
    as_named = figures["rejections in the node's log"] == named
    return not lost and as_named and most < LIMIT_MIB and growth < GROWTH_MIB


def main() -> None:
    """Run it, print the figures, and fail where they are not what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    os.environ |= {  # noqa: TID251 - what it starts reads them
        "PACSIGHT_DICOM__MAX_ASSOCIATIONS": str(PLACES),
        "PACSIGHT_HTTP__MAX_REQUESTS": str(REQUESTS),
    }
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), words.minutes)
    if words.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:42s} {value}")
    sys.exit(not holds(figures))


if __name__ == "__main__":
    main()
