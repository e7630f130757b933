"""``pacsight atlas``: reference atlases, built, checked, shown, and cases taken out."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli import ConfigOption, JsonOption
from workers.commands import search
from workers.commands.progress import bar

atlases = typer.Typer(
    help="Make, check and show reference atlases.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(atlases, name="atlas")
    app.command("search")(search.search)


class Embedding(StrEnum):
    """How a whole volume is embedded."""

    UNIT_MEAN = "unit-mean"
    MEDIAN = "median"
    MEAN = "mean"


@atlases.command()
def build(  # noqa: PLR0913 - the command's options
    *,
    data: Annotated[Path, typer.Option(help="Labels: those with the role atlas.")],
    embeddings: Annotated[Path, typer.Option(help="What `pacsight embed` wrote.")],
    images: Annotated[Path, typer.Option(help="Folder with the DICOM files.")],
    pack: Annotated[str, typer.Option(help="An installed pack, or a folder.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    floor: Annotated[
        int, typer.Option(help="Patients that every cell has at least.", min=1)
    ] = 5,
    name: Annotated[str, typer.Option(help="Of the atlas; else of the folder.")] = "",
    version: Annotated[str, typer.Option(help="Of the atlas.")] = "1",
    concepts: Annotated[
        Path | None,
        typer.Option(help="CSV: finding, value, scheme, meaning; else of the pack."),
    ] = None,
    volumes: Annotated[
        Embedding, typer.Option(help="How a whole volume is embedded.")
    ] = Embedding.UNIT_MEAN,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Make an index for large atlases.")
    ] = False,
    link: Annotated[
        Path | None, typer.Option(help="Who is who; else beside the atlas.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make an atlas of labelled images: de-identified, and no cell under the floor."""
    from dicom_node.config import load_settings
    from workers.app import decode_pool
    from workers.atlas.building import Plan, build_atlas
    from workers.atlas.concepts import read_concepts
    from workers.atlas.gathering import Sources
    from workers.atlas.link import beside
    from workers.cohort import read_cohort, read_embeddings
    from workers.pack import locate, open_pack

    plan = Plan(
        name=name or out.resolve().name,
        version=version,
        created=datetime.now(UTC).date(),
        floor=floor,
        concepts=read_concepts(concepts) if concepts else {},
        volume_embedding=volumes.value,
        approximate=approximate,
        link=link,
    )
    opened = open_pack(locate(pack))
    sources = Sources(
        cohort=read_cohort(data),
        embeddings=read_embeddings(embeddings),
        images=images,
    )
    with decode_pool(load_settings(config)) as pool, bar(quiet=as_json) as progress:
        build_atlas(
            plan, out, sources=sources, pack=opened, decoders=pool, progress=progress
        )
    _told(out, as_json=as_json)
    if not as_json:
        typer.echo(f"who is who: {link or beside(out)}: keep it here, and private")


@atlases.command()
def verify(
    atlas: Annotated[Path, typer.Argument(help="Folder of the atlas.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of an atlas, and write down that it was."""
    from workers.atlas.checking import verify as verify_files
    from workers.atlas.manifest import read_atlas

    manifest = read_atlas(atlas)
    with bar(quiet=as_json) as progress:
        verify_files(atlas, manifest, progress)
    _told(atlas, as_json=as_json)


@atlases.command()
def show(
    atlas: Annotated[Path, typer.Argument(help="Folder of the atlas.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what an atlas holds, cell by cell."""
    from workers.atlas.describing import cell_table
    from workers.atlas.manifest import read_atlas

    _told(atlas, as_json=as_json)
    if not as_json:
        Console().print(cell_table(read_atlas(atlas)))


@atlases.command()
def remove(
    atlas: Annotated[Path, typer.Argument(help="Folder of the atlas.")],
    cases: Annotated[list[str], typer.Argument(help="Identifiers: ATL-...")],
    *,
    reason: Annotated[str, typer.Option(help="Why: stays with the atlas.")],
    version: Annotated[str, typer.Option(help="Of what is left.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    as_json: JsonOption = False,
) -> None:
    """Take cases out: a new version, in which no search finds them."""
    from workers.atlas.opened import open_atlas
    from workers.atlas.removal import Removal, remove_cases

    opened = open_atlas(atlas)
    with bar(quiet=as_json) as progress:
        remove_cases(
            opened,
            Removal(cases=tuple(cases), reason=reason, version=version),
            out,
            progress=progress,
        )
    _told(out, as_json=as_json)


@atlases.command()
def publish(
    atlas: Annotated[Path, typer.Argument(help="Folder of the atlas.")],
    uri: Annotated[str, typer.Argument(help="Of Milvus: http(s)://..., or FILE.db.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove other versions of it there.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write an atlas to Milvus, where `--atlas milvus+URI` and packs find it."""
    from dicom_node.config import load_settings
    from workers.atlas.opened import open_atlas
    from workers.atlas.published import MilvusPlace
    from workers.atlas.published import publish as write

    token = load_settings(config).worker.milvus_secret
    opened, place = open_atlas(atlas), MilvusPlace.of(uri)
    with bar(quiet=as_json) as progress:
        place = write(opened, place, token, replace=replace, progress=progress)
    if as_json:
        told = {"atlas": str(place), "digest": opened.digest}
        typer.echo(json.dumps(told, indent=2))
    else:
        typer.echo(f"published: {place}\n  sha256:{opened.digest}")


def _told(folder: Path, *, as_json: bool) -> None:
    """Say what the atlas in a folder is."""
    from workers.atlas.describing import atlas_json, atlas_lines
    from workers.atlas.manifest import read_atlas

    manifest = read_atlas(folder)
    if as_json:
        typer.echo(json.dumps(atlas_json(manifest, folder), indent=2))
        return
    for line in atlas_lines(manifest, folder):
        typer.echo(line)
