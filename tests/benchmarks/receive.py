"""How fast a CT series is received, beside a bare handler and Orthanc, and in what memory.

DCMTK's dcmsend sends 300 slices of 512 x 512 over loopback, alone and four at a time, in
rounds that take turns, so that a noisy machine is noisy for all. The front door is the
node's own, with its spool and its ledger. The bare handler is the fastest that pynetdicom
allows for the same promise: chunked receive, write, fsync, rename, fsync of the folder,
with the same largest PDU; no header is read, no digest made, nothing remembered.

``python tests/benchmarks/receive.py [--rounds N] [--json]``
"""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import median
from urllib.request import urlopen

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.hearing import Listener
from dicom_node.intake import Intake
from dicom_node.ledger import open_ledger
from dicom_node.recorder import LedgerRecorder
from dicom_node.scp import StorageScp
from dicom_node.spool import Spool
from tests.integration.conftest import Orthanc
from tests.receiving import bundled

DCMSEND = "/usr/bin/dcmsend"
SLICES = 300
SENDERS = 4
SETTLE_S = 1.0
"""Between two runs, so that what one leaves to do is not done in the other's time."""
FRAMES_OF_THE_LONG_ONE = 1024
SIZE = 512


def serve_node(folder: Path) -> int:
    """Serve the node's DIMSE front door; return its port."""
    spool = Spool(folder / "spool")
    spool.open()
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=True)
    recorder = LedgerRecorder(ledger, encoders=(), wake=lambda: None)
    recorder.start()
    intake = Intake(
        spool=spool, recorder=recorder, rules=(), clock=lambda: datetime.now(UTC)
    )
    scp = StorageScp(Listener(), intake)
    scp.start()
    return scp.port


def serve_bare(folder: Path) -> int:
    """Serve a handler that keeps the same promise and does nothing else."""
    incoming, kept = folder / "spool" / "incoming", folder / "spool" / "kept"
    incoming.mkdir(parents=True)
    kept.mkdir()
    tempfile.tempdir = str(incoming)
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.UNRESTRICTED_STORAGE_SERVICE = True

    def store(event: evt.Event) -> int:
        path = event.dataset_path
        _sync(path)
        path.rename(kept / path.name)
        _sync(kept)
        return 0x0000

    ae = AE(ae_title="BARE")
    ae.add_supported_context(Verification)
    ae.maximum_pdu_size = Listener().max_pdu_bytes
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert server is not None
    return int(server.server_address[1])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


@dataclass
class Server:
    """A receiver in a process of its own."""

    name: str
    folder: Path
    port: int = 0
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and learn its port."""
        command = [sys.executable, __file__, "--serve", self.name, str(self.folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def count(self) -> int:
        """Return how many instances it keeps."""
        return sum(len(files) for _, _, files in os.walk(self.folder / "spool"))

    def clear(self) -> None:
        """Make room for the next round."""
        for folder, _, files in os.walk(self.folder / "spool"):
            for name in files:
                Path(folder, name).unlink()

    def peak_mb(self) -> float:
        """Return the highest resident memory so far (VmHWM)."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        line = next(text for text in status if text.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


@dataclass
class Pacs:
    """Orthanc as a receiver."""

    orthanc: Orthanc
    name: str = "orthanc"

    @property
    def port(self) -> int:
        """Return its DICOM port."""
        return self.orthanc.dicom_port

    def count(self) -> int:
        """Return how many instances it keeps."""
        with urlopen(f"{self.orthanc.url}/statistics") as answer:  # noqa: S310
            return int(json.load(answer)["CountInstances"])

    def clear(self) -> None:
        """Make room for the next round."""
        self.orthanc.clear()


class Series:
    """Slices with the header of a real CT, under new UIDs for every round."""

    def __init__(self, folder: Path, frames: int = 1) -> None:
        self._folder = folder
        dataset = pydicom.dcmread(bundled("CT_small.dcm"))
        noise = np.random.default_rng(1).integers(0, 4096, (SIZE, SIZE), np.uint16)
        dataset.PixelData = noise.tobytes() * frames
        dataset.Rows = dataset.Columns = SIZE
        if frames > 1:
            dataset.NumberOfFrames = frames
        del dataset.DataSetTrailingPadding
        dataset.StudyInstanceUID = self._study(0, 0)
        dataset.SeriesInstanceUID = f"{self._study(0, 0)}.1"
        dataset.SOPInstanceUID = f"{self._study(0, 0)}.1.1000"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        whole = buffer.getvalue()
        pixels = whole.index(b"\xe0\x7f\x10\x00OW")
        self._head, self._pixels = whole[:pixels], whole[pixels:]

    def write(self, run: int, sender: int, slices: int = SLICES) -> Path:
        """Return a folder with a study of its own."""
        folder = self._folder / f"{sender}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        old, new = self._study(0, 0).encode(), self._study(run, sender).encode()
        head = self._head.replace(old, new)
        for number in range(1000, 1000 + slices):
            named = head.replace(new + b".1.1000", new + f".1.{number}".encode())
            (folder / f"{number}.dcm").write_bytes(named + self._pixels)
        return folder

    @staticmethod
    def _study(run: int, sender: int) -> str:
        return f"1.2.826.0.1.3680043.8.498.99.{1000 + run}.{1000 + sender}"


def send(receiver: Server | Pacs, folders: Sequence[Path]) -> float:
    """Return the seconds until the last of the senders is done, one for each folder."""
    command = [DCMSEND, "-q", "-aet", "MODALITY", "-aec", _title(receiver)]
    command += ["+sd", "127.0.0.1", str(receiver.port)]
    begun = time.perf_counter()
    senders = [subprocess.Popen([*command, folder]) for folder in folders]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - begun
    expected = sum(len(list(folder.iterdir())) for folder in folders)
    if any(codes) or receiver.count() != expected:
        raise SystemExit(f"{receiver.name} took {receiver.count()} of {expected}")
    receiver.clear()
    time.sleep(SETTLE_S)
    return seconds


def _title(receiver: Server | Pacs) -> str:
    return "ORTHANC" if isinstance(receiver, Pacs) else "PACSIGHT"


@contextmanager
def receivers(folder: Path) -> Iterator[tuple[Server, Server, Pacs]]:
    """Yield the node's front door, the bare handler, and Orthanc."""
    binary = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if binary is None:
        raise SystemExit("Orthanc is not installed: apt install orthanc")
    node, bare = Server("node", folder / "node"), Server("bare", folder / "bare")
    orthanc = Orthanc(
        binary=binary, folder=folder / "orthanc", modalities={"MODALITY": 11113}
    )
    with ExitStack() as stack:
        for server in (node, bare):
            server.folder.mkdir()
            stack.callback(server.stop)
            server.start()
        stack.callback(orthanc.kill)
        orthanc.start()
        yield node, bare, Pacs(orthanc)


def measure(folder: Path, rounds: int, orthanc_rounds: int) -> dict[str, float]:
    """Return the figures: medians of seconds, and of the ratios round by round."""
    one: dict[str, list[float]] = {"node": [], "bare": [], "orthanc": []}
    four: dict[str, list[float]] = {"node": [], "bare": []}
    series = Series(folder / "series")
    with receivers(folder) as (node, bare, pacs):
        for number in range(rounds + 1):
            folders = [series.write(number, sender) for sender in range(SENDERS)]
            os.sync()  # our own files are on the disk before anybody else's
            for server in (node, bare) if number % 2 else (bare, node):
                one[server.name].append(send(server, folders[:1]))
                four[server.name].append(send(server, folders))
            if 0 < number <= orthanc_rounds:
                one["orthanc"].append(send(pacs, folders[:1]))
        loaded = node.peak_mb()
        long_one = Series(folder / "long", FRAMES_OF_THE_LONG_ONE).write(0, 0, 1)
        long_s = send(node, [long_one])
        peak = node.peak_mb()
    for times in (one["node"], one["bare"], four["node"], four["bare"]):
        del times[0]  # the first round warms up
    return {
        "node_s": median(one["node"]),
        "bare_s": median(one["bare"]),
        "orthanc_s": median(one["orthanc"]),
        "node_4_senders_s": median(four["node"]),
        "bare_4_senders_s": median(four["bare"]),
        "node_to_bare": ratio(one["node"], one["bare"]),
        "orthanc_to_node": ratio(one["orthanc"], one["node"]),
        "node_4_to_1": ratio(four["node"], one["node"]),
        "bare_4_to_1": ratio(four["bare"], one["bare"]),
        "node_512_mb_instance_s": long_s,
        "node_peak_mb": loaded,
        "node_peak_with_512_mb_instance_mb": peak,
    }


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of times that were measured side by side."""
    return median([a / b for a, b in zip(times, others, strict=False)])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("WHAT", "FOLDER"))
    options = parser.parse_args()
    if options.serve:
        logging.basicConfig(level=logging.ERROR)  # why an association was aborted
        what, name = options.serve
        serve = {"node": serve_node, "bare": serve_bare}[what]
        print(serve(Path(name)), flush=True)
        threading.Event().wait()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave nothing behind
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), options.rounds, min(3, options.rounds))
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"receiving {SLICES} CT slices of {SIZE} x {SIZE} from dcmsend, loopback")
    for label, key, unit in ROWS:
        print(f"  {label:<44}{figures[key]:8.2f} {unit}")


ROWS = (
    ("node, one sender", "node_s", "s"),
    ("bare handler with the same fsyncs", "bare_s", "s"),
    ("Orthanc", "orthanc_s", "s"),
    ("node, four senders", "node_4_senders_s", "s"),
    ("bare handler, four senders", "bare_4_senders_s", "s"),
    ("node to bare handler (at most 1.2)", "node_to_bare", ""),
    ("Orthanc to node (at least 4)", "orthanc_to_node", ""),
    ("node, four senders to one (at most 4)", "node_4_to_1", ""),
    ("bare handler, four senders to one", "bare_4_to_1", ""),
    ("node, an instance of 512 MB", "node_512_mb_instance_s", "s"),
    ("node, peak memory (below 300)", "node_peak_mb", "MB"),
    ("the same with 512 MB", "node_peak_with_512_mb_instance_mb", "MB"),
)

if __name__ == "__main__":
    main()
