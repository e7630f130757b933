"""``pacsight audit``: reads the audit trail of this node, from its files.

Who reads it is told to the trail, too (PS3.15 A.5.3.2).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.audit.parts import OutcomeIndicator
from dicom_node.audit.reading import Entry, about_patient, select
from dicom_node.auditing import audit_folder, patient_pseudonyms, tell_read
from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings

OUTCOMES = {
    OutcomeIndicator.SUCCESS: "",
    OutcomeIndicator.MINOR: "[yellow]minor failure[/]",
    OutcomeIndicator.SERIOUS: "[red]serious failure[/]",
    OutcomeIndicator.MAJOR: "[bold red]major failure[/]",
}
LIMIT = 200
LimitOption = Annotated[int, typer.Option(help="Show the last so many.", min=1)]

commands = typer.Typer(help="Read the audit trail.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(commands, name="audit")


@commands.command()
def show(
    *,
    since: Annotated[
        datetime | None, typer.Option(help="Of this time and later, UTC.")
    ] = None,
    event: Annotated[
        str,
        typer.Option(help="Of events whose code or name holds this, e.g. alert."),
    ] = "",
    study: Annotated[
        str, typer.Option(help="About a study: its UID, or how that ends.")
    ] = "",
    as_json: JsonOption = False,
    limit: LimitOption = LIMIT,
    config: ConfigOption = None,
) -> None:
    """Show what the trail says, oldest first."""
    settings = load_settings(config)
    first = None if since is None else since.replace(tzinfo=UTC)

    def wanted(entry: Entry) -> bool:
        named = f"{entry.code} {entry.event} {entry.kind}".lower()
        return (
            (first is None or entry.at >= first)
            and event.lower() in named
            and (not study or any(uid.endswith(study) for uid in entry.studies))
        )

    tell_read(settings)
    _print(select(audit_folder(settings), wanted)[-limit:], as_json=as_json)


@commands.command()
def find(
    *,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient", help="By a Patient ID, which is asked for or read from stdin."
        ),
    ],
    as_json: JsonOption = False,
    limit: LimitOption = LIMIT,
    config: ConfigOption = None,
) -> None:
    """Find what happened to a patient, and to the studies that the trail knows of him.

    The ID is no argument: those stand in process lists and in the shell's history.
    """
    if not patient:
        raise typer.BadParameter("say by what: --patient")
    settings = load_settings(config)
    known = _patient_id()
    names = frozenset({known, patient_pseudonyms(settings).of(known)})
    tell_read(settings)
    _print(about_patient(audit_folder(settings), names)[-limit:], as_json=as_json)


def _patient_id() -> str:
    """Return the ID that somebody types, unseen, or that a script sends."""
    if sys.stdin.isatty():
        typed: str = typer.prompt("Patient ID", hide_input=True, err=True)
        return typed.strip()
    return sys.stdin.readline().strip()


def _print(found: Sequence[Entry], *, as_json: bool) -> None:
    if as_json:
        rows = [{**asdict(one), "at": one.at.isoformat()} for one in found]
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(entry_table(found), highlight=False)


def entry_table(found: Sequence[Entry]) -> Table:
    """Return messages as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what", overflow="fold", max_width=28)
    table.add_column("who, about what", overflow="fold")
    for one in found:
        what = [one.kind or one.event, OUTCOMES[one.outcome]]
        about = [
            escape(" → ".join(one.participants)),
            *map(escape, one.studies),
            f"{one.instances} instances" if one.instances else "",
            escape(one.description),
        ]
        table.add_row(
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            "\n".join(filter(None, what)),
            "\n".join(filter(None, about)),
        )
    return table
