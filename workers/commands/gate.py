"""``pacsight gate``: fit what tells strangers from validated images, and ask it."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from dicom_node.logs import configure_logs
from workers.commands.progress import bar

if TYPE_CHECKING:
    from workers.gating import Held, Tools
    from workers.pack import Pack

gates = typer.Typer(
    help="Tell images from those that a pack was validated on.", no_args_is_help=True
)

PackArgument = Annotated[
    str, typer.Argument(help="Name of an installed pack, or a folder.")
]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(gates, name="gate")


@gates.command("fit")
def fit(  # noqa: PLR0913 - the command's options
    pack: PackArgument,
    *,
    embeddings: Annotated[
        Path, typer.Option(help="File of `pacsight embed` with this pack.")
    ],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labels: which patient each image is of, and their roles."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Every embedding; studies stand for patients."),
    ] = False,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="The images: files or folders; strangers are made of them."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="False alarms to be allowed.")
    ] = 0.02,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fit a gate on embeddings of validation images; write the pack anew, with it."""
    from dicom_node.errors import Permanent
    from workers.cohort import read_cohort, read_embeddings
    from workers.gating import fit_gate, groups_of, with_gate
    from workers.pack import locate, open_pack

    if (data is None) != every:
        raise Permanent("name the labels with --data, or take --all the embeddings")
    opened = open_pack(locate(pack))
    embedded = read_embeddings(embeddings)
    groups = groups_of(embedded, read_cohort(data) if data else None)
    with _tools(opened, config, images or []) as tools:
        gate = fit_gate(
            opened, embedded, groups=groups, rate=rate, seed=seed, tools=tools
        )
    evidence = {
        "embeddings": embeddings.name,
        "images": int((groups >= 0).sum()),
        "patients" if data else "studies": len(set(groups[groups >= 0].tolist())),
    }
    with bar(quiet=as_json) as progress:
        made = with_gate(opened, out, gate, evidence=evidence, progress=progress)
    about = {
        "pack": str(out),
        "digest": made.digest,
        "kind": gate.kind,
        "rate": rate,
        **evidence,
    }
    if as_json:
        typer.echo(json.dumps(about))
        return
    typer.echo(
        f"{out}: {made.name} {made.version} ({made.digest[:12]}) with a gate, {gate.kind}, "
        f"on {evidence['images']} images; {rate:.1%} of such images are left out"
    )


@gates.command("check")
def check(
    pack: PackArgument,
    files: Annotated[list[Path], typer.Argument(help="DICOM files, or folders.")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say which images lie inside of what a pack was validated on, and how far."""
    from dicom_node.errors import Permanent
    from workers.gating import hold
    from workers.pack import locate, open_pack

    opened = open_pack(locate(pack))
    gate = opened.gate
    if gate is None:
        raise Permanent(f"pack {opened.name} has no gate")
    with _tools(opened, config, files) as tools:
        held = hold(opened, gate, tools) if tools else []
    if as_json:
        typer.echo(json.dumps([_plain(one, gate.limit) for one in held]))
        return
    for one in held:
        frames = f" ({one.frames} frames)" if one.frames > 1 else ""
        said = (
            f"outside: {one.reason}" if one.reason else f"inside ({one.distance:.2f})"
        )
        typer.echo(f"{one.path}{frames}: {said}")


@contextmanager
def _tools(
    pack: "Pack", config: Path | None, paths: Sequence[Path]
) -> Iterator["Tools | None"]:
    """Yield what reads and embeds these files, as the settings have it; None for none."""
    from workers.app import decode_pool
    from workers.encoder import open_encoder
    from workers.gating import Tools

    if not paths:
        yield None
        return
    settings = load_settings(config)
    configure_logs(style=settings.log.format, level="warning")
    worker = settings.worker
    with decode_pool(settings) as decoders:
        encoder = open_encoder(pack, device=worker.device, threads=worker.threads)
        yield Tools(encoder=encoder, decoders=decoders, paths=tuple(paths))


def _plain(one: "Held", limit: float) -> dict[str, object]:
    return {
        "file": str(one.path),
        "frames": one.frames,
        "distance": round(one.distance, 4) if math.isfinite(one.distance) else None,
        "limit": limit,
        "inside": not one.reason,
        "reason": one.reason,
    }
