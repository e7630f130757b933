"""1,000 results are delivered to Orthanc in a storm: none lost, none doubled, all alike.

Real everything: reports and pages as a worker leaves them, a real ``pacsight node``,
three Orthancs, sent to by C-STORE, by STOW-RS, and (reports alone) by Orthanc's REST
API. Meanwhile all four are killed, stopped, frozen and started; Orthanc refuses, and
loses what it called stored; connections are late, stall, and are cut. In the end what
the archives hold is compared with the outbox. ``python tests/delivery/storm.py``.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bars import bars
from tests.delivery.account import Account
from tests.delivery.archives import orthanc_binary, python_plugin
from tests.delivery.plan import Storm
from tests.delivery.scene import weather

RESULTS = 1000
BYTES_OF_A_RESULT = 3 * 4_750_000
"""In the outbox and in two archives."""


def table(account: Account) -> str:
    """Return the account for people."""
    lines = [
        f"{account.results} results, a report and a page each; seed {account.seed}",
        f"{'':<28}{'by C-STORE':>12}{'STOW-RS':>12}{'REST':>12}",
    ]
    for what in (
        "objects",
        "stored",
        "doubled",
        "lost",
        "astray",
        "different",
        "strange",
    ):
        counts = [getattr(account.archives[t], what) for t in account.archives]
        lines.append(f"  {what:<26}" + "".join(f"{n:>12}" for n in counts))
    ledger = account.ledger
    lines += [
        "the ledger",
        f"  studies                     {_counts(ledger.studies)}",
        f"  deliveries                  {_counts(ledger.deliveries)}",
        f"  found lost, and sent again  {ledger.lost}",
        *(f"  verified, {way:<16}  {n}" for way, n in ledger.verified.items()),
        f"  attempts, median and most   {ledger.attempts_median:g}, {ledger.attempts_most}",
        "what went wrong on purpose",
        *(f"  {fault:<58}{count:>6}" for fault, count in account.faults.items()),
        f"delivered in {account.delivering_s:.0f} s:"
        + (" as it should be" if account.is_right else " NOT as it should be"),
    ]
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def main() -> None:
    """Print the account; exit with 1 where anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=RESULTS)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))  # noqa: S311 - a test's own dice
    parser.add_argument("--folder", type=Path, help="where everything stays; new")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave nothing behind
    storm = Storm(seed=options.seed)
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        _check_orthanc()
        _check_room(folder, options.results)
        print(f"seed {storm.seed}", file=sys.stderr)
        with bars() as show:
            account = weather(storm, folder, results=options.results, show=show)
    if options.json:
        print(json.dumps(asdict(account) | {"is_right": account.is_right}, indent=2))
    else:
        print(table(account))
    sys.exit(not account.is_right)


def _check_orthanc() -> None:
    if orthanc_binary() is None or python_plugin() is None:
        raise SystemExit(
            "Orthanc or a plugin of it is not installed:"
            " apt install orthanc orthanc-dicomweb orthanc-python"
        )


def _check_room(folder: Path, results: int) -> None:
    needed, free = results * BYTES_OF_A_RESULT, shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{results} results need {needed / 1e9:.0f} GB of disk, there are"
            f" {free / 1e9:.0f} at {folder}: choose --results or --folder"
        )


if __name__ == "__main__":
    main()
