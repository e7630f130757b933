"""``make conformance``: every result and every source, before every checker.

Prints what was composed, what each checker found, and the warnings that have a reason;
exit status 1 if anything is wrong.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from time import monotonic

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_node.domain import ObjectKind
from tests.conformance.cases import GROUPS, cases
from tests.conformance.checkers import CHECKERS
from tests.conformance.judging import Tally, judged
from tests.judges import ALLOWED_WARNINGS

TOOLS = ("dciodvfy", "dcentvfy", "dsrdump", "dsr2html", "DicomSRValidator", "Orthanc")
PLACES = "/usr/bin:/usr/sbin"
SHOWN = 20
"""So many complaints are printed in full."""


def main() -> int:
    """Run the matrix, and return the exit status."""
    asked = _arguments()
    console = Console(stderr=asked.json)
    missing = [name for name in TOOLS if shutil.which(name, path=PLACES) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    wanted = [case for case in cases() if asked.only in f"{case.source}/{case.result}"]
    started = monotonic()
    tally = Tally()
    for done in track(
        judged(wanted, asked.jobs),
        description="composing and judging",
        total=len(wanted),
        console=console,
    ):
        tally.add(done)
    seconds = monotonic() - started
    if asked.json:
        print(json.dumps(_told(tally, len(wanted), seconds), indent=2))
    else:
        _show(tally, console, len(wanted), seconds)
    return 0 if tally.passed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument("--only", default="", help="part of SOURCE/RESULT")
    return parser.parse_args()


# ── what is told ────────────────────────────────────────────────────────────


def _show(tally: Tally, console: Console, count: int, seconds: float) -> None:
    console.print(_kinds(tally))
    console.print()
    console.print(_checkers(tally))
    console.print()
    console.print(_explained(tally))
    for complaint in tally.complaints[:SHOWN]:
        console.print(complaint, style="red", highlight=False, markup=False)
    total = sum(tally.objects.values())
    errors, warnings = sum(tally.errors.values()), sum(tally.warnings.values())
    console.print(
        f"\n{total} objects of {count} cases: {errors} errors, "
        f"{warnings} unexplained warnings, {seconds:.0f} s"
    )


def _kinds(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("objects")
    for group in GROUPS:
        table.add_column(group, justify="right")
    table.add_column("total", justify="right")
    for kind in ObjectKind:
        counts = [tally.objects[kind, group] for group in GROUPS]
        table.add_row(kind, *(str(count) for count in (*counts, sum(counts))))
    return table


def _checkers(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("checker", "judged", "errors", "warnings", "explained"):
        table.add_column(name, justify="left" if name == "checker" else "right")
    for name in _names():
        explained = sum(n for (who, _), n in tally.explained.items() if who == name)
        counts = (tally.judged, tally.errors, tally.warnings)
        table.add_row(name, *(str(c[name]) for c in counts), str(explained))
    return table


def _explained(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("warnings", justify="right")
    table.add_column("explained by")
    counts = Counter[str]()
    for (_, pattern), count in tally.explained.items():
        counts[pattern] += count
    for pattern, count in counts.most_common():
        table.add_row(str(count), ALLOWED_WARNINGS[pattern])
    return table


def _told(tally: Tally, count: int, seconds: float) -> dict[str, object]:
    """Return the same for scripts."""
    return {
        "passed": tally.passed,
        "cases": count,
        "seconds": round(seconds, 1),
        "objects": {
            kind.value: {group: tally.objects[kind, group] for group in GROUPS}
            for kind in ObjectKind
        },
        "checkers": {
            name: {
                "judged": tally.judged[name],
                "errors": tally.errors[name],
                "warnings": tally.warnings[name],
            }
            for name in _names()
        },
        "complaints": tally.complaints,
    }


def _names() -> list[str]:
    return [checker.__name__ for checker in CHECKERS]


if __name__ == "__main__":
    sys.exit(main())
