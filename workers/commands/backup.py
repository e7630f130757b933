"""``pacsight backup`` and ``pacsight restore``: what a node keeps, copied and put back."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.backup import BackupError, Kept, back_up, restore, summary
from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import Settings, load_settings
from dicom_node.ledger import open_ledger
from dicom_node.ledger.eras import begin_era
from workers.commands.progress import bar

FilesOnly = Annotated[
    bool,
    typer.Option(
        "--files-only", help="The ledger is on PostgreSQL: pg_dump has copied it."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("backup")(make_backup)
    app.command("restore")(put_back)


def make_backup(
    out: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    *,
    former: Annotated[
        Path | None,
        typer.Option("--since", help="An earlier backup: what it has is linked."),
    ] = None,
    files_only: FilesOnly = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy what the node keeps, while it runs: ledger, spool, outbox, thresholds."""
    settings = load_settings(config)
    with bar(quiet=as_json) as progress:
        made = back_up(
            _kept(settings, config, files_only=files_only),
            out,
            site=settings.site,
            software=version("pacsight"),
            now=datetime.now(UTC),
            former=former,
            progress=progress,
        )
    _say(summary(made), f"{out}: ", as_json=as_json)


def put_back(
    backup: Annotated[Path, typer.Argument(help="A folder that `backup` made.")],
    *,
    files_only: FilesOnly = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put a backup back where nothing is, once every file of it was verified."""
    settings = load_settings(config)
    with bar(quiet=as_json) as progress:
        kept = _kept(settings, None, files_only=files_only)
        restored = restore(backup, kept, progress)
    ledger = open_ledger(settings.ledger_address, migrate=True)
    try:
        with ledger.write() as tx:
            begin_era(tx, at=datetime.now(UTC), why="restored from a backup")
    finally:
        ledger.close()
    _say(summary(restored), f"{settings.data_dir}: ", as_json=as_json)


def _kept(settings: Settings, config: Path | None, *, files_only: bool) -> Kept:
    """Return what the settings say that the node keeps."""
    if settings.ledger_url and not settings.ledger_url.startswith("sqlite"):
        if not files_only:
            raise BackupError(
                "the ledger is on PostgreSQL: run pg_dump first, then say --files-only"
            )
        ledger = None
    else:
        ledger = Path(settings.ledger_address.removeprefix("sqlite:///"))
    return Kept(
        folders={
            "spool": settings.spool_dir,
            "outbox": settings.outbox_dir,
            "thresholds": settings.data_dir / "thresholds",
        },
        ledger=ledger,
        settings=config,
    )


def _say(said: dict[str, object], where: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(said))
        return
    ledger = "the ledger, " if said["ledger"] else ""
    typer.echo(
        f"{where}{ledger}{said['instances']} instances, {said['objects']} objects,"
        f" {said['bytes']} bytes, as of {said['at']}"
    )
