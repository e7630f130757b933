"""A million inputs that nobody would send, to everything that reads from outside.

Multipart, files, STOW-RS requests, PDUs, reports, JSON and settings: seeded changes of
real ones. Nothing may raise what its door has no answer for, take longer than a
second, or make the process grow. ``python tests/fuzz/fuzz.py``; what is found is
written into ``build/fuzz``, with the command that repeats it.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.campaign import TARGETS, Account, Found, attempt, campaign, dice_of

CASES = 1_000_000
FOUND = Path(__file__).parents[2] / "build" / "fuzz"


def table(accounts: Sequence[Account], seed: int) -> str:
    """Return the accounts for people."""
    head = f"{'':<14}{'cases':>10}{'cases/s':>9}{'slowest':>9}{'grown':>9}  found"
    lines = [f"seed {seed}", head]
    lines += [
        f"{one.target:<14}{one.cases:>10,}{one.cases / one.seconds:>9,.0f}"
        f"{one.slowest_s:>7.2f} s{one.grown_bytes / 2**20:>6.1f} MB"
        f"  {len(one.findings) or 'nothing'}"
        for one in accounts
    ]
    cases, seconds = sum(a.cases for a in accounts), sum(a.seconds for a in accounts)
    lines.append(f"{'together':<14}{cases:>10,} in {seconds:,.0f} s")
    return "\n".join(lines)


def kept(found: Found, seed: int) -> str:
    """Write the input of a finding into a file, and return how to repeat it."""
    if found.case < 0:
        return f"{found.target}: {found.what}"
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"{found.target}-{seed}-{found.case}.bin"
    path.write_bytes(found.data)
    again = f"tests/fuzz/fuzz.py --only {found.target} --input {path}"
    return f"{found.target}, case {found.case}: {found.what}\n  python {again}"


def repeat(target: str, data: bytes) -> str:
    """Return what is wrong with an input, empty for nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        TARGETS[target].open(Path(folder)) as reader,
    ):
        return attempt(reader, data)[1]


def main() -> None:
    """Print the accounts; exit with 1 where anything was found."""
    options = _options()
    if options.only and (options.input or options.case is not None):
        what = repeat(options.only, _input(options))
        print(what or "nothing")
        sys.exit(bool(what))
    bars = Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        auto_refresh=False,  # processes are forked: no thread of ours may hold a lock
    )
    tasks: dict[str, object] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done)  # type: ignore[arg-type]
        bars.refresh()

    how = {"seed": options.seed, "jobs": options.jobs, "only": options.only}
    accounts = list(campaign(options.cases, show=show, **how))
    findings = [found for account in accounts for found in account.findings]
    told = [kept(found, options.seed) for found in findings]
    if options.json:
        rows = [{**asdict(one), "findings": len(one.findings)} for one in accounts]
        print(json.dumps(rows, indent=2))
    else:
        print(table(accounts, options.seed))
    for line in told:
        print(line, file=sys.stderr)
    sys.exit(bool(findings))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))  # noqa: S311 - a test's own dice
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=TARGETS, default="")
    parser.add_argument(
        "--case", type=int, help="repeat this one, with --only and --seed"
    )
    parser.add_argument("--input", type=Path, help="read this file, with --only")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _input(options: argparse.Namespace) -> bytes:
    if options.input:
        return bytes(options.input.read_bytes())
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        TARGETS[options.only].open(Path(folder)) as reader,
    ):
        return reader.make(dice_of(options.only, options.seed, options.case))


if __name__ == "__main__":
    main()
