"""``pacsight data``: labelled images made into DICOM, checked, and split by patient."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli import JsonOption
from workers.commands.progress import bar

TableArgument = Annotated[Path, typer.Argument(help="A table of labels, CSV.")]

data = typer.Typer(help="Labelled data sets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group ``data``."""
    app.add_typer(data, name="data")


@data.command("sample")
def draw_sample(
    *,
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    patients: Annotated[int, typer.Option(help="Half have it.", min=20)] = 240,
    finding: Annotated[
        str, typer.Option(help="pneumothorax, effusion, nodule or enlarged_heart.")
    ] = "nodule",
    seed: Annotated[int, typer.Option(help="Other chests.", min=0, max=900)] = 0,
) -> None:
    """Draw labelled chests to try things with: plain images, and a table of them."""
    from workers.cohort.sample import TABLE, draw
    from workers.placing import in_one_piece

    with bar(quiet=False) as progress, in_one_piece(out) as folder:
        made = draw(
            folder, patients=patients, seed=seed, finding=finding, progress=progress
        )
    typer.echo(
        f"{out}: {made.images} images of {made.patients} drawn chests; "
        f"labels in {out / TABLE}"
    )


@data.command("wrap")
def wrap_images(  # noqa: PLR0913 - the command's options
    table: Annotated[Path, typer.Argument(help="CSV: a line for each image.")],
    *,
    images: Annotated[Path, typer.Option(help="The folder of PNG or JPEG files.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    finding: Annotated[
        list[str] | None, typer.Option(help="Present where the labels list it.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="Listed, it says that findings are absent.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column that is a finding: 1, 0 or empty."),
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE, a finding of its own.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="file, patient, study, labels, sex, age, view=COLUMN."),
    ] = None,
    body_part: Annotated[str, typer.Option(help="BodyPartExamined of all.")] = "CHEST",
    source: Annotated[str, typer.Option(help="Who said so.")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Make DICOM radiographs and a table of labels of plain images and a table."""
    from dataclasses import asdict

    from workers.cohort.wrapping import LABELS, Columns, Wrapping, wrap
    from workers.placing import in_one_piece

    renamed = dict(_pair(text) for text in rename or ())
    unknown = renamed.keys() - {
        "file",
        "patient",
        "study",
        "labels",
        "sex",
        "age",
        "view",
    }
    if unknown:
        raise typer.BadParameter(f"there is no {min(unknown)!r} to rename")
    wrapping = Wrapping(
        columns=Columns(**renamed, findings=tuple(column or ())),
        listed=tuple(finding or ()),
        negative=tuple(negative or ()),
        attributes=tuple(_pair(text) for text in attribute or ()),
        body_part=body_part.upper(),
        source=source,
    )
    with bar(quiet=as_json) as progress, in_one_piece(out) as folder:
        made = wrap(table, images, folder, wrapping, progress=progress)
    if as_json:
        typer.echo(
            json.dumps(asdict(made) | {"labels_file": str(out / LABELS)}, indent=2)
        )
        return
    typer.echo(
        f"{out}: {made.images} images of {made.patients} patients; "
        f"{made.labels} labels in {out / LABELS}"
    )


@data.command("check")
def check_labels(
    table: TableArgument,
    *,
    embeddings: Annotated[
        Path | None, typer.Option(help="What `pacsight embed` wrote: is all in it?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a table of labels holds; what is wrong with it is one sentence."""
    from workers.cohort import join, read_cohort, read_embeddings
    from workers.cohort.counting import counted

    cohort = read_cohort(table)
    if embeddings is not None:
        join(cohort, read_embeddings(embeddings))
    found = counted(cohort)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    typer.echo(
        f"{table}: {found.patients} patients, {found.studies} studies, "
        f"{found.units} images or series, sha256 {found.digest[:12]}"
    )
    shown = Table("finding", *("1", "0", "uncertain", "missing", "values"))
    for name, counts in found.findings.items():
        shown.add_row(name, *(str(counts[word]) for word in counts))
    Console(width=80).print(shown)
    roles = Counter(role or "none" for role in cohort.roles)
    typer.echo("patients by role: " + ", ".join(f"{r} {n}" for r, n in roles.items()))


@data.command("split")
def split_patients(  # noqa: PLR0913 - the command's options
    table: TableArgument,
    *,
    out: Annotated[Path, typer.Option(help="The table with roles.")],
    train: Annotated[float, typer.Option(min=0, max=1)] = 0.6,
    tune: Annotated[float, typer.Option(min=0, max=1)] = 0.2,
    calibrate: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=1)] = 0.2,
    atlas: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed, the same roles.")] = 0,
) -> None:
    """Deal the patients of a table to roles, once: shares that add up to 1."""
    from workers.cohort import Role, assign_roles, read_cohort, write_cohort

    shares = {
        Role.TRAIN: train,
        Role.TUNE: tune,
        Role.CALIBRATE: calibrate,
        Role.TEST: test,
        Role.ATLAS: atlas,
    }
    cohort = assign_roles(read_cohort(table), shares, seed)
    write_cohort(cohort, out)
    counts = Counter(cohort.roles)
    dealt = ", ".join(f"{role} {counts[role]}" for role in Role if counts[role])
    typer.echo(f"{out}: patients {dealt}; sha256 {cohort.digest[:12]}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value
