"""What the audit trail costs: ``python -m tests.benchmarks.audit [--events N]``.

How long `note` keeps a thread that receives, how many events a second become durable,
and how large a message is, alone and compressed by nobody.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.trail import MOST_WAITING, AuditTrail
from dicom_node.domain import InstancesReceived
from tests.audits import one_of_each, teller

PIECE = 5000


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="on which disk; default: /tmp's")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        measure(Path(name), given.events)


def measure(path: Path, count: int) -> None:
    """Write so many events of instances received, in pieces that fit the queue."""
    assert PIECE < MOST_WAITING
    event = next(one for one in one_of_each() if isinstance(one, InstancesReceived))
    folder = AuditFolder(path=path / "audit")
    trail = AuditTrail(folder, teller(), clock=lambda: datetime.now(UTC))
    trail.start()
    trail.flush()
    spent: list[float] = []
    began = time.perf_counter()
    for _ in range(count // PIECE):
        for _ in range(PIECE):
            before = time.perf_counter()
            trail.note(event)
            spent.append(time.perf_counter() - before)
        trail.flush()
    seconds = time.perf_counter() - began
    trail.stop()
    size = sum(file.stat().st_size for file in folder.files())
    lone = [_alone(path / f"alone-{n}") for n in range(20)]
    quantiles = statistics.quantiles(spent, n=1000)
    print(
        f"note: median {1e6 * statistics.median(spent):.1f} us,"
        f" 99.9 % {1e6 * quantiles[-1]:.0f} us, most {1e3 * max(spent):.1f} ms"
    )
    print(f"durable: {len(spent) / seconds:.0f} events a second")
    print(f"one event alone is durable after {1e3 * statistics.median(lone):.0f} ms")
    print(f"message: {size / len(spent):.0f} bytes")


def _alone(path: Path) -> float:
    """Return how long one event takes to be durable, in seconds."""
    event = one_of_each()[2]
    trail = AuditTrail(
        AuditFolder(path=path), teller(), clock=lambda: datetime.now(UTC)
    )
    trail.start()
    trail.flush()
    began = time.perf_counter()
    trail.note(event)
    trail.flush()
    seconds = time.perf_counter() - began
    trail.stop()
    return seconds


if __name__ == "__main__":
    main()
