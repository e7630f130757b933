"""How long a study takes from its last byte to its report in the PACS.

Real everything: ``pacsight up`` with the demo pack, Orthanc as the PACS. The time is
the ledger's, from the reception of the last image to Orthanc's success for the last of
report and capture, less the quiet period. ``python tests/benchmarks/end_to_end.py``.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.conftest import Orthanc, free_port
from tests.running import Running
from workers.phantoms import datasets, phantom

QUIET_S = 2.0
CHESTS = 15
SLICES = 300
RATE_PER_S = 20


@contextmanager
def sandbox() -> Iterator[Running]:
    """Yield a running pacsight with an Orthanc of its own."""
    binary = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if binary is None:
        raise SystemExit("Orthanc is not installed: apt install orthanc")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = Running(
            folder=folder / "up", dicom_port=free_port(), http_port=free_port()
        )
        pacs = Orthanc(
            binary=binary,
            folder=folder / "pacs",
            modalities={"PACSIGHT": node.dicom_port},
        )
        node.settings = (
            f"[study]\nquiet_period_s = {QUIET_S}\n"
            '[[peers]]\nname = "pacs"\naet = "ORTHANC"\nhost = "127.0.0.1"\n'
            f'port = {pacs.dicom_port}\nrights = ["destination"]\n'
        )
        pacs.start()
        try:
            node.start()
            yield node
        finally:
            node.stop()
            pacs.kill()


class Memory:
    """Watches the node's resident memory (VmHWM, MB)."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")

    def peak_mb(self) -> float:
        """Return the highest resident memory so far."""
        line = next(
            text
            for text in self._status.read_text().splitlines()
            if text.startswith("VmHWM")
        )
        return int(line.split()[1]) / 1024


def send_at(instances: Sequence[Dataset], port: int, rate_per_s: float | None) -> None:
    """Send instances over one association, so many a second, or as fast as can be."""
    scu = AE(ae_title="MODALITY")
    scu.add_requested_context(
        instances[0].SOPClassUID, instances[0].file_meta.TransferSyntaxUID
    )
    association = scu.associate("127.0.0.1", port, ae_title="PACSIGHT")
    begun = time.perf_counter()
    for number, instance in enumerate(instances):
        if rate_per_s is not None:
            time.sleep(max(0.0, begun + number / rate_per_s - time.perf_counter()))
        status = association.send_c_store(instance)
        assert status.Status == 0, status
    association.release()


def seconds(node: Running, uid: str) -> float:
    """Return how long the study took, less the quiet period."""
    node.until_state([uid], "done")
    study = node.study(uid)
    assert study is not None
    return float(study["seconds"]) - QUIET_S


def chest(node: Running, seed: int) -> float:
    """Return how long one chest X-ray took."""
    instances = datasets(phantom("pneumothorax", seed))
    send_at(instances, node.dicom_port, None)
    return seconds(node, str(instances[0].StudyInstanceUID))


def head(node: Running, seed: int, rate_per_s: float | None) -> float:
    """Return how long a CT of 300 slices took."""
    instances = datasets(phantom("haemorrhage", seed), slices=SLICES)
    send_at(instances, node.dicom_port, rate_per_s)
    return seconds(node, str(instances[0].StudyInstanceUID))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with sandbox() as node:
        memory = Memory(node.children()["node"])
        chest(node, 1)  # the worker's first study also loads what it needs
        chests = [chest(node, 100 + n) for n in range(CHESTS)]
        figures = {
            "chest_median_s": statistics.median(chests),
            "chest_slowest_s": max(chests),
            "ct300_at_20_per_s_s": head(node, 200, RATE_PER_S),
            "ct300_full_speed_s": head(node, 201, None),
            "node_peak_mb": memory.peak_mb(),
        }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print("last byte to report in the PACS, quiet period excluded")
    print(f"  chest X-ray, median of {CHESTS}    {figures['chest_median_s']:6.2f} s")
    print(f"  chest X-ray, slowest         {figures['chest_slowest_s']:6.2f} s")
    print(f"  CT, 300 slices, 20 a second  {figures['ct300_at_20_per_s_s']:6.2f} s")
    print(f"  CT, 300 slices, full speed   {figures['ct300_full_speed_s']:6.2f} s")
    print(f"node, peak resident memory     {figures['node_peak_mb']:6.0f} MB")


if __name__ == "__main__":
    main()
