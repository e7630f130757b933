"""``pacsight quarantine``: instances that ended who read them, and letting them out."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings

commands = typer.Typer(
    help="Instances that ended the decoders or workers that read them.",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(commands, name="quarantine")


@commands.callback()
def show(
    context: typer.Context, *, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """List what is in quarantine, the newest first."""
    from dicom_node.ledger import open_ledger
    from dicom_node.ledger.quarantine import quarantined

    if context.invoked_subcommand is not None:
        return
    ledger = open_ledger(load_settings(config).ledger_address, migrate=False)
    try:
        with ledger.read() as tx:
            lines = quarantined(tx)
    finally:
        ledger.close()
    if as_json:
        rows = [{**asdict(line), "at": line.at.isoformat()} for line in lines]
        typer.echo(json.dumps(rows, indent=2))
        return
    if not lines:
        typer.echo("nothing is in quarantine")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("instance, its file in the spool", "since (UTC), why"):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(
            f"{line.sop_instance_uid}\n{line.path}",
            f"{line.at:%Y-%m-%d %H:%M}\n{line.reason}",
        )
    Console().print(table)


@commands.command("release")
def release_one(
    instance: Annotated[
        str, typer.Argument(help="SOP Instance UID, as `pacsight quarantine` shows it.")
    ],
    *,
    config: ConfigOption = None,
) -> None:
    """Let an instance out: it is read again, and its study concluded again."""
    from dicom_node.domain import SopInstanceUid
    from dicom_node.ledger import open_ledger
    from dicom_node.ledger.quarantine import release

    ledger = open_ledger(load_settings(config).ledger_address, migrate=False)
    try:
        with ledger.write() as tx:
            study_uid = release(tx, SopInstanceUid(instance), now=datetime.now(UTC))
    finally:
        ledger.close()
    typer.echo(f"{study_uid} is read again")
