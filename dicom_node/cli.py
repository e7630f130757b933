"""Commands that ask the ledger and act on it: ``studies``, ``retry`` and the like.

They work beside a running node, or without one, on the ledger that the settings name.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from dicom_node import operations
from dicom_node.access import Role, ServiceToken, digest_of
from dicom_node.config import Settings, load_settings
from dicom_node.domain import Flag, Priority, SopInstanceUid
from dicom_node.ledger import Ledger, motion, open_ledger
from dicom_node.ledger.arrivals import keep_patient_of
from dicom_node.ledger.deliveries import (
    DeliveryLine,
    dead_letters,
    deliveries,
    studies_with_dead_letters,
)
from dicom_node.ledger.overview import StudyLine, journal, studies
from dicom_node.lifecycle import CONCLUDED
from dicom_node.lines import delivery_json, journal_json, study_json
from dicom_node.web import tokens

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Settings file. Default: ./pacsight.toml, if there is one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
StudyArgument = Annotated[
    str, typer.Argument(help="Study Instance UID, or an ending that only it has.")
]
REFRESH_S = 1.0

token_app = typer.Typer(
    name="token", help="Tokens of services, for HTTP.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("studies")(show_studies)
    app.command("journal")(show_journal)
    app.command("complete")(complete)
    app.command("deliveries")(show_deliveries)
    app.command("retry")(retry)
    app.command("conclude")(conclude)
    app.command("resolve")(resolve)
    app.add_typer(token_app, name="token")


def show_studies(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the list up to date until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 50,
    config: ConfigOption = None,
) -> None:
    """List the studies of the ledger, flagged and urgent ones first."""
    with _ledger(load_settings(config)) as ledger:
        if watch and not as_json:
            _watch(ledger, limit)
            return
        lines = _studies(ledger, limit)
        if as_json:
            typer.echo(json.dumps([study_json(line) for line in lines], indent=2))
        else:
            Console().print(study_table(lines))


def show_journal(
    study: Annotated[
        str | None,
        typer.Argument(help="A study; without one, data sets that were refused."),
    ] = None,
    *,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 100,
    config: ConfigOption = None,
) -> None:
    """Tell what happened to a study, newest first."""
    with _ledger(load_settings(config)) as ledger, ledger.read() as tx:
        uid = None if study is None else motion.find(tx, study).study_uid
        lines = journal(tx, uid, limit=limit)
    if as_json:
        typer.echo(json.dumps([journal_json(line) for line in lines], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("when (UTC)", "what", "detail"):
        table.add_column(name, overflow="fold")
    for line in lines:
        at = line.at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(at, line.kind, line.detail)
    Console().print(table)


def complete(study: StudyArgument, *, config: ConfigOption = None) -> None:
    """Say that a study is complete: it is concluded without waiting any longer."""
    with _ledger(load_settings(config)) as ledger, ledger.write() as tx:
        found = operations.complete(tx, study)
        typer.echo(f"{found.study_uid} is {found.state}")


def show_deliveries(
    study: Annotated[
        str | None, typer.Argument(help="A study; without one, all of them.")
    ] = None,
    *,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 50,
    config: ConfigOption = None,
) -> None:
    """Tell where each object stands at each destination, and how that was seen."""
    with _ledger(load_settings(config)) as ledger, ledger.read() as tx:
        uid = None if study is None else motion.find(tx, study).study_uid
        lines = deliveries(tx, study_uid=uid, limit=limit)
    if as_json:
        typer.echo(json.dumps([delivery_json(line) for line in lines], indent=2))
    else:
        Console().print(delivery_table(lines))


def retry(
    study: Annotated[
        str | None,
        typer.Argument(help="A study; without one, what was given up is listed."),
    ] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Send everything again that was given up.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Try again what failed of a study, or list what was given up.

    A study is concluded again, or its reports are sent again: the same objects.
    """
    now = datetime.now(UTC)
    with _ledger(load_settings(config)) as ledger:
        if study is None and not every:
            _list_dead_letters(ledger, as_json=as_json)
            return
        with ledger.write() as tx:
            names = studies_with_dead_letters(tx) if study is None else [study]
            tried = [operations.retry(tx, motion.find(tx, name), now) for name in names]
    if as_json:
        rows = [{"study_uid": uid, "state": state} for uid, state in tried]
        typer.echo(json.dumps(rows, indent=2))
        return
    for uid, state in tried:
        typer.echo(f"{uid} is {state}")


def conclude(
    study: Annotated[
        str | None,
        typer.Argument(help="Study Instance UID, or an ending that only it has."),
    ] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Every study that is concluded.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Conclude studies again with the packs in use now, from the embeddings kept.

    Only where a pack has changed is there a new revision, whose report supersedes the
    former. Studies whose images were purged stay as they are; the journal says so.
    """
    if every == (study is not None):
        raise typer.BadParameter("name a study, or say --all")
    now = datetime.now(UTC)
    with _ledger(load_settings(config)) as ledger:
        with ledger.read() as tx:
            named = None if study is None else motion.find(tx, study)
            keys = [named.key] if named else motion.keys_in(tx, CONCLUDED)
        count = sum(operations.conclude_again(ledger, key, now) for key in keys)
    typer.echo(f"the node concludes {count} of {len(keys)} again")


def resolve(
    study: StudyArgument,
    *,
    keep: Annotated[
        str,
        typer.Option(help="SOP Instance UID of an instance of the right patient."),
    ],
    config: ConfigOption = None,
) -> None:
    """Settle a study that is held, because it has instances of several patients."""
    with _ledger(load_settings(config)) as ledger, ledger.write() as tx:
        found = motion.find(tx, study)
        uid = SopInstanceUid(keep)
        left_out = keep_patient_of(tx, found.study_uid, uid, at=datetime.now(UTC))
        typer.echo(f"{found.study_uid}: {left_out} instances are left out")


@token_app.command("new")
def new_token(
    name: Annotated[str, typer.Argument(help="Whose it is, for logs and audit.")],
    *,
    role: Annotated[list[Role], typer.Option(help="What it may do; can be repeated.")],
    as_json: JsonOption = False,
) -> None:
    """Make a token for a service: shown this once, the settings hold its digest alone."""
    token = tokens.new_token()
    known = ServiceToken(name=name, sha256=digest_of(token), roles=frozenset(role))
    roles = sorted(known.roles)
    if as_json:
        table = {"name": name, "sha256": known.sha256, "roles": roles}
        typer.echo(json.dumps({"token": token, **table}, indent=2))
        return
    typer.echo(f"{token}\n")
    typer.echo("[[http.tokens]]")
    typer.echo(f"name = {json.dumps(name)}")
    typer.echo(f'sha256 = "{known.sha256}"')
    typer.echo(f"roles = {json.dumps(roles)}")
    typer.echo(
        "\nThe first line is the token, for the service: it is shown this once."
        "\nThe others go into pacsight.toml; then start the node again.",
        err=True,
    )


def delivery_table(lines: Sequence[DeliveryLine]) -> Table:
    """Return deliveries as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("study, object", no_wrap=True)
    table.add_column("destination, state", overflow="fold", max_width=24)
    table.add_column("since (UTC), tries, why", overflow="fold")
    for line in lines:
        verified = f" by {line.verified}" if line.verified else ""
        tries = "1 try" if line.attempts == 1 else f"{line.attempts} tries"
        table.add_row(
            f"{_ending(line.study_uid)}\n{line.kind}",
            f"{line.destination}\n{line.state}{verified}",
            f"{line.since:%Y-%m-%d %H:%M}, {tries}\n{line.detail}",
        )
    return table


def study_table(lines: Sequence[StudyLine]) -> Table:
    """Return the studies as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("study", no_wrap=True)
    table.add_column("modality", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("flag", no_wrap=True)
    table.add_column("top finding, score / threshold", overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*study_cells(line))
    return table


def study_cells(line: StudyLine) -> tuple[str, ...]:
    """Return what the table shows of a study."""
    uid = _ending(line.study_uid)
    stat = "[bold]STAT[/] " if line.priority is Priority.STAT else ""
    finding = line.finding
    if line.score is not None and line.threshold is not None:
        finding += f" {line.score:.2f} / {line.threshold:.2f}"
    if line.quarantined:
        finding += f" [yellow]({line.quarantined} in quarantine)[/]"
    seconds = "" if line.seconds is None else f"{line.seconds:.1f}"
    modality = "+".join(line.modalities)
    return (uid, stat + modality, line.state, flag_text(line.flag), finding, seconds)


def _ending(uid: str) -> str:
    """Return as much of a UID's end as fits, and as commands take for the whole."""
    return uid if len(uid) <= 14 else f"…{uid[-13:]}"  # noqa: PLR2004 - what fits


def flag_text(flag: Flag | None) -> str:
    """Return a flag in one or two words, marked by more than its colour."""
    match flag:
        case None:
            return ""
        case Flag.ABOVE:
            return "[bold red]▲ above[/]"
        case Flag.BELOW:
            return "[green]▽ below[/]"
        case Flag.INDETERMINATE:
            return "[yellow]◇ unclear[/]"
        case Flag.NOT_EVALUATED:
            return "[dim]- not eval.[/]"


def _studies(ledger: Ledger, limit: int) -> list[StudyLine]:
    with ledger.read() as tx:
        return studies(tx, limit=limit)


def _watch(ledger: Ledger, limit: int) -> None:
    with Live(study_table(_studies(ledger, limit)), screen=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                live.update(study_table(_studies(ledger, limit)))
        except KeyboardInterrupt:
            return


def _list_dead_letters(ledger: Ledger, *, as_json: bool) -> None:
    with ledger.read() as tx:
        lines = dead_letters(tx)
    if as_json:
        rows = [
            {**delivery_json(line), "next": f"pacsight retry {line.study_uid}"}
            for line in lines
        ]
        typer.echo(json.dumps(rows, indent=2))
    elif lines:
        Console().print(delivery_table(lines))
        typer.echo(
            "\nMend what the last column says, then send again: `pacsight retry STUDY`,"
            "\nor everything: `pacsight retry --all`."
        )
    else:
        typer.echo("nothing was given up")


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = open_ledger(settings.ledger_address, migrate=False)
    try:
        yield ledger
    finally:
        ledger.close()
