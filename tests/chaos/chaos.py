"""10,000 studies are sent while everything is killed, filled, frozen: none is lost.

Real everything: two ``pacsight node`` on one PostgreSQL, one ``pacsight worker``, Redis,
an Orthanc as the PACS; modalities that send by C-STORE and STOW-RS until they hear
success. Faults and the points at which processes are killed are drawn from a seed. In
the end what was acknowledged is compared with the ledger, the outbox and the PACS.
``python tests/chaos/chaos.py``.
"""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bars import bars
from tests.chaos.account import Account, said
from tests.chaos.plan import FEW_POINTS, Chaos
from tests.chaos.run import run
from tests.delivery.archives import orthanc_binary, python_plugin

STUDIES = 10_000


def table(account: Account) -> str:
    """Return the account for people."""
    lines = [f"seed {account.seed}, {account.lasted_s:.0f} s"]
    lines += ["what there was", *_rows(account.counts)]
    lines += [
        f"what went wrong on purpose: {sum(account.faults.values())}",
        *_rows(account.faults),
        f"  (the disk is full by {account.full_by})",
        "after everything was killed at once",
        *(f"  {what:<44}{said(s)}" for what, s in account.recoveries.items()),
        "what must not be",
        *_rows(account.wrong),
        *(f"  e.g. {what}: {one}" for what, e in account.examples.items() for one in e),
        "as it should be" if account.is_right else "NOT as it should be",
    ]
    return "\n".join(lines)


def _rows(counts: object) -> list[str]:
    assert isinstance(counts, dict)
    return [f"  {what:<44}{count:>8}" for what, count in counts.items()]


def planned(options: argparse.Namespace) -> Chaos:
    """Return a run: the long form, or as much of it as fits fewer studies."""
    studies = options.studies
    chaos = Chaos(seed=options.seed, studies=studies)
    if options.ledger == "sqlite":
        chaos = replace(chaos, nodes=1)
    if options.short:
        return replace(
            chaos, faults=1, kills=1, points=FEW_POINTS, lease_s=1.5, longest=0.1
        )
    share = min(1.0, studies / STUDIES)
    return replace(
        chaos,
        faults=max(1, round(chaos.faults * share)),
        kills=max(1, round(chaos.kills * share)),
    )


def main() -> None:
    """Print the account; exit with 1 where anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))  # noqa: S311 - a test's own dice
    parser.add_argument(
        "--ledger", choices=["postgresql", "sqlite"], default="postgresql"
    )
    parser.add_argument("--folder", type=Path, help="where everything stays; new")
    parser.add_argument(
        "--short",
        action="store_true",
        help="each fault once, not for long; kills at four of the points",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave nothing behind
    if orthanc_binary() is None or python_plugin() is None:
        raise SystemExit(
            "Orthanc or a plugin of it is not installed:"
            " apt install orthanc orthanc-dicomweb orthanc-python"
        )
    chaos = planned(options)
    print(f"seed {chaos.seed}", file=sys.stderr)
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        )
        show = stack.enter_context(bars())
        account = run(chaos, folder, show=show)
    if options.json:
        print(json.dumps(asdict(account) | {"is_right": account.is_right}, indent=2))
    else:
        print(table(account))
    sys.exit(not account.is_right)


if __name__ == "__main__":
    main()
