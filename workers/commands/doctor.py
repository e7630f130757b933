"""``pacsight doctor``: names what is broken, hop by hop, and says what to do."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from dicom_node.doctor import ADVICE, Ailment, Finding, Hop, Mark, examine
from dicom_node.errors import SettingsError
from dicom_node.logs import configure_logs
from workers.commands.doctor_view import finding_view, summary

Listed = Annotated[
    list[str] | None,
    typer.Option("--peer", help="Ask this peer alone; may be given several times."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(doctor)


def doctor(
    *,
    peer: Listed = None,
    store_test: Annotated[
        bool,
        typer.Option(
            "--store-test", help="Send each destination a small object, and ask for it."
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask every hop of the flow whether it works, and say what to do where not."""
    configure_logs(level="error")
    found = _told(_found(config, peer or [], store_test=store_test), as_json=as_json)
    if any(one.mark is Mark.BROKEN for one in found):
        raise typer.Exit(code=1)


def _found(
    config: Path | None, peers: list[str], *, store_test: bool
) -> Iterator[Finding]:
    """Yield what is found; without settings there is nothing else to ask."""
    from workers.commands.doctor_checks import checks

    try:
        settings = load_settings(config)
        asked = checks(
            settings,
            peers=peers,
            store_test=store_test,
            now=partial(datetime.now, UTC),
        )
    except SettingsError as error:
        said, ailment = str(error), Ailment.SETTINGS
        yield Finding(hop=Hop.SETTINGS, said=said, ailment=ailment)
        return
    where = f": {config}" if config else ""
    yield Finding(hop=Hop.SETTINGS, said=f"they can be used{where}")
    yield from examine(asked)


def _told(found: Iterator[Finding], *, as_json: bool) -> list[Finding]:
    """Tell each finding when it is known, and return them."""
    if as_json:
        all_found = list(found)
        typer.echo(json.dumps([_row(one) for one in all_found], indent=2))
        return all_found
    console = Console(highlight=False)
    waiting = console.status("asking ...") if console.is_terminal else nullcontext()
    all_found = []
    with waiting:
        for one in found:
            console.print(finding_view(one))
            all_found.append(one)
    console.print(summary(all_found))
    return all_found


def _row(found: Finding) -> dict[str, object]:
    """Return a finding as JSON, with what to do."""
    advice = None if found.ailment is None else asdict(ADVICE[found.ailment])
    return {**asdict(found), "mark": found.mark, "advice": advice}
