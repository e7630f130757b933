"""``pacsight rebuild``: a lost ledger made anew from spool and outbox."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import Settings, load_settings
from dicom_node.errors import Permanent
from dicom_node.ledger import LedgerDamagedError, open_ledger, rebuilding
from workers.commands.progress import bar


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("rebuild")(rebuild_ledger)


def rebuild_ledger(
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put aside a ledger that still has studies."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a lost or damaged ledger anew, with node and workers stopped."""
    from workers.inforce import packs_in_force
    from workers.rebuilding import rebuild

    settings = load_settings(config)
    now = datetime.now(UTC)
    packs = [pack.card for pack in packs_in_force(settings)]
    aside = _make_room(settings, now, replace=replace)
    ledger = open_ledger(settings.ledger_address, migrate=True)
    try:
        with bar(quiet=as_json) as progress, ledger.write() as tx:
            done = rebuild(tx, settings, packs, now=now, progress=progress)
    finally:
        ledger.close()
    said = {**asdict(done), "damaged": [str(path) for path in done.damaged]}
    if as_json:
        typer.echo(json.dumps({**said, "aside": str(aside or "")}))
        return
    typer.echo(
        f"{done.instances} instances, {done.results} results, {done.objects} objects"
    )
    for path in done.damaged:
        typer.echo(f"pacsight: {path} is damaged, and was left out", err=True)
    if done.left:
        typer.echo(
            f"pacsight: {done.left} results lack instances or their report,"
            " and were left out",
            err=True,
        )
    if aside:
        typer.echo(f"the former ledger is {aside}")


def _make_room(settings: Settings, now: datetime, *, replace: bool) -> Path | None:
    """Return where the former ledger was put; None where there was none worth it.

    Raises
    ------
    Permanent
        If it has studies, and nobody said that it is to be replaced.
    """
    try:
        ledger = open_ledger(settings.ledger_address, migrate=True)
        try:
            with ledger.read() as tx:
                full = rebuilding.has_studies(tx)
        finally:
            ledger.close()
    except LedgerDamagedError:
        return _put_aside(settings, now)
    if not full:
        return None
    if not replace:
        raise Permanent(
            "the ledger has studies: stop node and workers, and say --replace if"
            " it is to be made anew"
        )
    return _put_aside(settings, now)


def _put_aside(settings: Settings, now: datetime) -> Path:
    """Rename SQLite's files, so that nothing of the former ledger is lost."""
    if not settings.ledger_address.startswith("sqlite:///"):
        raise Permanent("the ledger is on PostgreSQL: name an empty database instead")
    file = Path(settings.ledger_address.removeprefix("sqlite:///"))
    aside = file.with_name(f"{file.name}.{now:%Y%m%dT%H%M%S}")
    for suffix in ("-wal", "-shm", ""):
        former = file.with_name(file.name + suffix)
        if former.exists():
            former.rename(aside.with_name(aside.name + suffix))
    return aside
