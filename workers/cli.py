"""The command ``pacsight``: everything that a person can ask of it.

Commands import what they need when they run, so that ``pacsight studies`` neither
waits for torch nor needs it.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydicom.config import disable_value_validation
from rich.console import Console

from dicom_node import cli as node_cli
from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import Settings, load_settings
from dicom_node.domain import PackCard
from dicom_node.errors import PacsightError, Transient
from dicom_node.lifecycle import State
from dicom_node.logs import configure_logs
from workers.commands import atlas
from workers.commands.progress import bar

PERMANENT, TRANSIENT, INTERRUPTED = 2, 75, 130
"""Exit codes: what will not work however often it is tried, EX_TEMPFAIL, and Ctrl-C."""

app = typer.Typer(
    name="pacsight",
    help="A DICOM node beside the PACS: embeds, classifies and reports every study.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
packs = typer.Typer(help="Make, check and show packs.", no_args_is_help=True)
importers = typer.Typer(help="Make a pack of released weights.", no_args_is_help=True)
packs.add_typer(importers, name="import")
app.add_typer(packs, name="pack")
node_cli.register(app)
atlas.register(app)


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
    from dicom_node.service import Node
    from workers.pack import locate, open_pack

    settings = _settings(config)
    running = Node(settings, [open_pack(locate(p)).card for p in settings.packs])
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    running.start()
    try:
        stopped.wait()
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
        lines = [node_cli.study_json(line) for line in done.studies]
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


@packs.command("verify")
def verify_pack(
    pack: Annotated[
        str, typer.Argument(help="Name of an installed pack, or a folder.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check every file of a pack and the model in it, and say what it is."""
    from workers.describing import describe
    from workers.pack import locate, open_pack

    found = describe(open_pack(locate(pack)))
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else str(found))


@importers.command("medimageinsight")
def import_medimageinsight(  # noqa: PLR0913 - the command's options
    *,
    weights: Annotated[Path, typer.Option(help="The released file of weights.")],
    tokenizer: Annotated[Path, typer.Option(help="Its vocab.json and merges.txt.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    kind: Annotated[
        str, typer.Option(help="chest-xray, exam-category or bone-age.")
    ] = "chest-xray",
    profile: Annotated[
        str, typer.Option(help="auto (measured), float32, bfloat16 or float16.")
    ] = "auto",
    allow_unofficial: Annotated[
        bool, typer.Option("--allow-unofficial", help="Take other weights, marked so.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a pack of the MedImageInsight weights: checked, or not made at all."""
    from workers.importing import Origin, import_pack
    from workers.medimageinsight.release import RELEASE

    origin = Origin(
        weights=weights, tokenizer=tokenizer, allow_unofficial=allow_unofficial
    )
    with bar(quiet=as_json) as progress:
        made = import_pack(
            origin,
            out,
            kind=kind,
            release=RELEASE,
            progress=progress,
            profile=profile,
        )
    official = made.pack.manifest.encoder.sha256 == RELEASE.sha256
    whose = f"official, release {RELEASE.name}" if official else "unofficial"
    choice = made.choice
    _show_made(
        made.pack.card,
        out,
        as_json=as_json,
        weights=whose,
        numeric_profile=choice.profile,
        because=choice.reason,
    )


@packs.command("references")
def supply_references(
    pack: Annotated[
        str, typer.Argument(help="Name of an installed pack, or a folder.")
    ],
    *,
    embeddings: Annotated[Path, typer.Option(help="What `pacsight embed` wrote.")],
    labels: Annotated[Path, typer.Option(help="CSV: sop_instance_uid, value.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    as_json: JsonOption = False,
) -> None:
    """Give labelled images to a pack that estimates: they go into a new pack."""
    from workers.pack import locate, open_pack
    from workers.references import supply

    with bar(quiet=as_json) as progress:
        made = supply(
            open_pack(locate(pack)),
            out,
            embeddings=embeddings,
            labels=labels,
            progress=progress,
        )
    counts = {
        "references": made.references,
        "labels_left": made.labels_left,
        "images_left": made.images_left,
    }
    _show_made(made.pack.card, out, as_json=as_json, **counts)


@packs.command("train-demo")
def train_demo_pack(
    *,
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    seed: Annotated[int, typer.Option(help="Everything follows from it.", min=0)] = 0,
) -> None:
    """Train the demo pack on synthetic phantoms: the same seed, the same weights."""
    from workers.demo import train_demo

    with Console(stderr=True).status("training the demo pack") as status:
        pack = train_demo(out=out, seed=seed, progress=status.console.log)
    typer.echo(f"{out}: {pack.name} {pack.version}, device UID {pack.device_uid}")


@packs.command("evaluate-demo")
def evaluate_demo_pack(
    *,
    pack: Annotated[
        str, typer.Option(help="Name of an installed pack, or a folder.")
    ] = "phantoms",
    per_class: Annotated[
        int, typer.Option(help="Phantoms of each kind.", min=10)
    ] = 500,
    seed: Annotated[int, typer.Option(help="Other phantoms.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure a demo pack on phantoms it has never seen, shortcuts included."""
    from workers.demo import evaluate_demo
    from workers.pack import locate

    folder = locate(pack)
    with Console(stderr=True, quiet=as_json).status("evaluating") as status:
        found = evaluate_demo(
            pack=folder, n_per_class=per_class, seed=seed, progress=status.console.log
        )
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else str(found))
    if not found.passed:
        raise typer.Exit(code=1)


def _share_cores() -> None:
    """Let torch's threads wait briefly, then sleep: decoding needs the cores, too.

    Read by its OpenMP when that is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # noqa: TID251 - set, not read


def _show_made(card: PackCard, out: Path, *, as_json: bool, **facts: int | str) -> None:
    """Say what was made, and what to do next."""
    if as_json:
        made = {
            "folder": str(out.resolve()),
            "name": card.name,
            "version": card.version,
            "device_uid": card.device_uid,
        }
        typer.echo(json.dumps(made | facts, indent=2))
        return
    typer.echo(f"{out}: {card.name} {card.version}, device UID {card.device_uid}")
    for name, value in facts.items():
        typer.echo(f"  {name.replace('_', ' ')}: {value}")
    typer.echo(f"next: `pacsight pack verify {out}`, and in pacsight.toml")
    typer.echo(f'  packs = ["{out.resolve()}"]')


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(style=settings.log.format, level=settings.log.level)
    return settings
