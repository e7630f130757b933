"""``pacsight purge``: removes now what the settings let go, or says what stays and why."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from dicom_node.ledger import open_ledger
from dicom_node.purge import Ruling
from dicom_node.wiring import new_purger

MIB = 1 << 20
GOES, WENT = "goes", "removed"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("purge")(purge)


def purge(
    *,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Remove nothing: say what goes, what stays, why."
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove files that are needed no more, as the node does by itself.

    Only those of studies that are done, with every object delivered and verified at
    every destination, for as long as the settings say.
    """
    settings = load_settings(config)
    ledger = open_ledger(settings.ledger_address, migrate=False)
    try:
        purger = new_purger(settings, ledger)
        found = list(purger.rulings() if dry_run else purger.purge())
    finally:
        ledger.close()
    if as_json:
        typer.echo(json.dumps([asdict(ruling) for ruling in found], indent=2))
        return
    Console().print(_table(found, GOES if dry_run else WENT))


def _table(rulings: Iterable[Ruling], gone: str) -> Table:
    """Return how many studies, files and bytes there are of each shelf and reason."""
    studies: Counter[tuple[str, str]] = Counter()
    files: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for ruling in rulings:
        kept = f"stays: {ruling.why_kept}" if ruling.why_kept else gone
        row = (ruling.shelf.value, kept)
        studies[row] += 1
        files[row] += ruling.files
        sizes[row] += ruling.size
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("where")
    table.add_column("what becomes of it", overflow="fold")
    for name in ("studies", "files", "MiB"):
        table.add_column(name, justify="right")
    for row, count in sorted(studies.items()):
        mib = f"{sizes[row] / MIB:.1f}"
        table.add_row(*row, str(count), str(files[row]), mib)
    return table
