"""``pacsight forget``: what the node holds of a patient or a study is removed.

A Patient ID is asked for, or read from standard input: never from the command line,
which every user of the machine can see while the command runs.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from dicom_node.auditing import at_once
from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import Settings, load_settings
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from dicom_node.forgetting import Found, Holdings, forget, user
from dicom_node.ledger import Ledger, open_ledger

REMAINS = (
    "What remains: the copies of the destinations named above, backups, the audit trail"
    " and, on PostgreSQL, old pages until VACUUM FULL. See docs/patient-data.md."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("forget")(forget_all)


def forget_all(  # noqa: PLR0913 - the command's options
    *,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient",
            help="A patient: ID and issuer are asked for, or two lines of standard input.",
        ),
    ] = False,
    study: Annotated[
        str, typer.Option(help="A study: its UID, or an ending that only it has.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is, and leave it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is still being delivered.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove what the node holds of a patient or a study, for good."""
    if patient == bool(study):
        raise typer.BadParameter("say --patient, or name a --study")
    settings = load_settings(config)
    ledger = open_ledger(settings.ledger_address, migrate=False)
    try:
        holdings = _holdings(settings, ledger)
        found = holdings.of_study(study) if study else _of_patient(holdings)
        wanted = not (found.nothing or dry_run)
        if not as_json:
            _show(found)
        if wanted and not yes:
            _confirm()
        if wanted:
            clean = forget(
                holdings,
                found,
                force=force,
                now=datetime.now(UTC),
                by=user(),
                note=at_once(settings, "forget"),
            )
            _conclude(clean=clean, as_json=as_json)
    finally:
        ledger.close()
    if as_json:
        names = {"destinations": list(found.held.destinations)}
        typer.echo(json.dumps({"forgotten": wanted, **found.counts, **names}))


def _holdings(settings: Settings, ledger: Ledger) -> Holdings:
    return Holdings(ledger=ledger, spool=settings.spool_dir, outbox=settings.outbox_dir)


def _of_patient(holdings: Holdings) -> Found:
    """Return what there is of the patient who is typed in, or piped in."""
    if sys.stdin.isatty():
        identifier = typer.prompt("Patient ID", err=True)
        issuer = typer.prompt(
            "Issuer of Patient ID (empty for none)",
            default="",
            show_default=False,
            err=True,
        )
    else:
        identifier = sys.stdin.readline().rstrip("\n")
        issuer = sys.stdin.readline().rstrip("\n")
    if not identifier.strip():
        raise Permanent("no Patient ID was given")
    return holdings.of_patient(patient_digest(identifier, issuer))


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise Permanent("nobody can be asked here: say --yes, or --dry-run to look")
    typer.confirm("Remove all of it, for good?", abort=True, err=True)


def _show(found: Found) -> None:
    if found.nothing:
        typer.echo("the node holds nothing of it")
        return
    for name, count in found.counts.items():
        typer.echo(f"{name.replace('_', ' '):<22}{count:>8}")
    if found.held.destinations:
        typer.echo(f"was sent to           {', '.join(found.held.destinations)}")


def _conclude(*, clean: bool, as_json: bool) -> None:
    if not as_json:
        typer.echo("forgotten. " + REMAINS)
    if not clean:
        typer.echo(
            "pacsight: the ledger is being read all the time: its log will be"
            " overwritten later",
            err=True,
        )
