"""The command ``pacsight``: everything that a person can ask of it.

Commands import what they need when they run, so that ``pacsight studies`` neither
waits for torch nor needs it.
"""

import json
import os
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydicom.config import disable_value_validation
from rich.console import Console

from dicom_node import audit_command, purge_command
from dicom_node import cli as node_cli
from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import Settings, load_settings
from dicom_node.errors import PacsightError, Transient
from dicom_node.lifecycle import State
from dicom_node.lines import study_json
from dicom_node.logs import configure_logs
from workers.commands import (
    atlas,
    backup,
    data,
    doctor,
    forget,
    gate,
    rebuild,
    threshold,
)
from workers.commands import evaluate as evaluate_command
from workers.commands import pack as pack_commands
from workers.commands import quarantine as quarantine_commands

PERMANENT, TRANSIENT, INTERRUPTED = 2, 75, 130
"""Exit codes: what will not work however often it is tried, EX_TEMPFAIL, and Ctrl-C."""
LOOK_S = 0.5
"""The kernel may give a signal to any thread; Python acts on it once the first one runs."""

app = typer.Typer(
    name="pacsight",
    help="A DICOM node beside the PACS: embeds, classifies and reports every study.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
node_cli.register(app)
purge_command.register(app)
audit_command.register(app)
pack_commands.register(app)
threshold.register(app)
evaluate_command.register(app)
gate.register(app)
data.register(app)
atlas.register(app)
doctor.register(app)
forget.register(app)
quarantine_commands.register(app)
backup.register(app)
rebuild.register(app)


def main() -> None:
    """Run the command line: errors of ours are one sentence and an exit code."""
    try:
        app()
    except PacsightError as error:
        typer.echo(f"pacsight: {error}", err=True)
        sys.exit(TRANSIENT if isinstance(error, Transient) else PERMANENT)


@app.command()
def up(*, config: ConfigOption = None) -> None:
    """Run everything on this machine: broker, node and worker, until Ctrl-C."""
    from workers.up import run_all

    environ = os.environ  # noqa: TID251 - handed on to the children, not read
    run_all(_settings(config), config, environ=environ)


@app.command()
def node(*, config: ConfigOption = None) -> None:
    """Run the node: front doors, ledger, outbox."""
    from dicom_node.auditing import alarmed
    from dicom_node.service import Node
    from workers.inforce import packs_in_force

    settings = _settings(config)
    with alarmed(settings, "node"):
        cards = [pack.card for pack in packs_in_force(settings)]
    running = Node(settings, cards)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    running.start()
    try:
        while not stopped.wait(LOOK_S):
            pass
    finally:
        running.stop()


@app.command()
def worker(*, config: ConfigOption = None) -> None:
    """Run a worker: it embeds and concludes what the node puts on the queue."""
    _share_cores()
    from workers.app import run_worker

    run_worker(_settings(config))


@app.command()
def analyze(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM files, or folders of them.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Where the reports are written.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Analyze files without any network: reports and captures go into a folder."""
    _share_cores()
    from workers.analyze import analyze_files

    settings = load_settings(config)
    configure_logs(style=settings.log.format, level="warning")  # the bar tells the rest
    progress = Console(stderr=True, quiet=as_json)
    done = analyze_files(paths, out, settings=settings, console=progress)
    for file, why in done.refused:
        typer.echo(f"pacsight: {file} was not taken in: {why}", err=True)
    if as_json:
        lines = [study_json(line) for line in done.studies]
        typer.echo(json.dumps(lines, indent=2))
    else:
        Console().print(node_cli.study_table(done.studies))
        typer.echo(f"reports: {out}")
    if any(line.state is not State.DONE for line in done.studies):
        raise typer.Exit(code=1)


@app.command("read-report")
def read_back(
    where: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A report of pacsight.")
    ],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say what a report says, from the object alone: findings, scores, flags, evidence."""
    from dicom_node.retrieve import is_url, retrieve
    from sr_writer.reading import read_report
    from workers.telling import report_json, report_view

    settings = load_settings(config) if is_url(where) else Settings()
    timeout_s = settings.caller.http_timeout_s
    with disable_value_validation():  # its warnings show values
        dataset = retrieve(where, settings.peers, timeout_s=timeout_s)
        report = read_report(dataset)
    if as_json:
        typer.echo(json.dumps(report_json(report), indent=2))
    else:
        Console().print(report_view(report), highlight=False)
    if not report.flags_follow:
        raise typer.Exit(code=1)


class VolumeMethod(StrEnum):
    """How the embedding of a volume is made; ``pack``: as the pack says."""

    MEDIAN = "median"
    MEAN = "mean"
    UNIT_MEAN = "unit-mean"
    PACK = "pack"


@app.command()
def embed(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM files, or folders of them.")
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="What is written: FILE.safetensors or FILE.parquet.")
    ],
    pack: Annotated[str, typer.Option(help="An installed pack, or a folder.")],
    volumes: Annotated[
        VolumeMethod | None, typer.Option(help="Embed volumes too, by this method.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write the embedding of every frame to a file; a run that was stopped goes on."""
    _share_cores()
    from workers.embedding import embed_files
    from workers.manifest import VolumeSpec
    from workers.pack import locate, open_pack

    settings = load_settings(config)
    configure_logs(style=settings.log.format, level="warning")  # the bar tells the rest
    opened = open_pack(locate(pack))
    method = volumes.value if volumes else ""
    if volumes is VolumeMethod.PACK:
        method = (opened.manifest.volume or VolumeSpec()).embedding
    try:
        tally = embed_files(
            paths,
            out,
            pack=opened,
            settings=settings,
            console=Console(stderr=True, quiet=as_json),
            method=method,
        )
    except KeyboardInterrupt:
        typer.echo(f"pacsight: stopped; {out}.part holds what is done", err=True)
        raise typer.Exit(code=INTERRUPTED) from None
    for line in tally.complaints():
        typer.echo(f"pacsight: {line}", err=True)
    typer.echo(json.dumps(tally.to_json(), indent=2) if as_json else f"{out}: {tally}")
    if tally.broken:
        raise typer.Exit(code=1)


def _share_cores() -> None:
    """Let torch's threads wait briefly, then sleep: decoding needs the cores, too.

    Read by its OpenMP when that is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # noqa: TID251 - set, not read


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(style=settings.log.format, level=settings.log.level)
    return settings
