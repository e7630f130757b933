"""``pacsight pack``: packs are drafted, made, checked, shown and compared."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli import JsonOption
from dicom_node.domain import PackCard
from workers.commands import finetune
from workers.commands.progress import bar

PackArgument = Annotated[
    str, typer.Argument(help="Name of an installed pack, or a folder.")
]
OutOption = Annotated[Path, typer.Option(help="A folder that is empty, or not there.")]

packs = typer.Typer(help="Make, check and show packs.", no_args_is_help=True)
importers = typer.Typer(help="Make a pack of released weights.", no_args_is_help=True)
packs.add_typer(importers, name="import")


def register(app: typer.Typer) -> None:
    """Add the group of packs."""
    finetune.register(packs)
    app.add_typer(packs, name="pack")


@packs.command("new")
def new_pack(
    name: Annotated[str, typer.Argument(help="What the pack is called.")],
    *,
    out: OutOption,
    encoder: Annotated[
        str, typer.Option(help="The pack whose encoder it has: a name, or a folder.")
    ] = "phantoms",
) -> None:
    """Write the draft of a pack: a commented pack.toml, to be filled in."""
    from workers.drafting.draft import DRAFT, write_draft
    from workers.pack import locate

    locate(encoder)
    write_draft(out, name=name, encoder=encoder)
    typer.echo(f"{out / DRAFT}: fill it in, then `pacsight pack build {out}`")


@packs.command("build")
def build_pack(
    draft: Annotated[Path, typer.Argument(help="A folder with a pack.toml.")],
    *,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Make a pack of a draft: its files gathered, checked and sealed."""
    from workers.drafting.building import build

    with bar(quiet=as_json) as progress:
        made = build(draft, out, progress=progress)
    _show_made(made.card, out, as_json=as_json, files=len(made.manifest.files))


@packs.command("show")
def show_pack(pack: PackArgument, *, as_json: JsonOption = False) -> None:
    """Say what a pack asks, of which images, and on which evidence."""
    from workers.drafting.showing import show
    from workers.pack import locate, open_pack

    found = show(open_pack(locate(pack)))
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else str(found))


@packs.command("diff")
def diff_packs(
    first: PackArgument, second: PackArgument, *, as_json: JsonOption = False
) -> None:
    """Say what tells two packs apart; exit code 1 where anything does."""
    from workers.drafting.difference import differences
    from workers.pack import locate, open_pack

    found = differences(open_pack(locate(first)), open_pack(locate(second)))
    if as_json:
        typer.echo(json.dumps([asdict(change) for change in found], indent=2))
    else:
        typer.echo("\n".join(map(str, found)) or "the same pack")
    if found:
        raise typer.Exit(code=1)


@packs.command("schema")
def show_schema() -> None:
    """Print the JSON schema of pack.json."""
    from workers.manifest import manifest_schema

    typer.echo(json.dumps(manifest_schema(), indent=2))


@packs.command("verify")
def verify_pack(
    pack: PackArgument,
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
    out: OutOption,
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
    pack: PackArgument,
    *,
    embeddings: Annotated[Path, typer.Option(help="What `pacsight embed` wrote.")],
    labels: Annotated[Path, typer.Option(help="CSV: sop_instance_uid, value.")],
    out: OutOption,
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
    out: OutOption,
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
