"""``pacsight evaluate``: how good a pack is, in one HTML page and one JSON file."""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from workers.commands.progress import bar


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("evaluate")(evaluate)


def evaluate(  # noqa: PLR0913 - the command's options
    pack: Annotated[
        str, typer.Argument(help="An installed pack, or a folder; with --scores, too.")
    ] = "",
    *,
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    scores: Annotated[
        Path | None, typer.Option(help="Scores, as of `pacsight pack fit`.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labels, as `pacsight data` has them.")
    ] = None,
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(help="What `pacsight embed` wrote; once for each encoder."),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV: study or image, then attributes.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="The images: files or folders; probed for shortcuts."),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two packs, or two files of scores."),
    ] = None,
    threshold_set: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="NAME-vN, or in-force; by default the thresholds that the pack ships.",
        ),
    ] = None,
    prevalence: Annotated[
        list[float] | None,
        typer.Option(help="For predictive values; by default 0.01, 0.05 and 0.1."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the queries drawn, and of probes.", min=0)
    ] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure a pack on labelled studies: figures with intervals, by group, as a report."""
    from workers.evaluating.asjson import as_json as to_json
    from workers.evaluating.story import Order, told
    from workers.evaluating.words import summary
    from workers.inforce import at_thresholds
    from workers.placing import in_one_piece

    repoint = None
    if threshold_set is not None:
        settings = load_settings(config)
        repoint = partial(at_thresholds, wanted=threshold_set, settings=settings)

    order = Order(
        pack=pack,
        scores=scores,
        data=data,
        embeddings=tuple(embeddings or ()),
        groups=groups,
        images=tuple(images or ()),
        compare=compare,
        prevalences=tuple(prevalence or ()),
        seed=seed,
        repoint=repoint,
    )
    with in_one_piece(out) as folder, bar(quiet=as_json) as progress:
        made = told(order, folder, version=version("pacsight"), progress=progress)
    if as_json:
        typer.echo(to_json(made), nl=False)
        return
    for sentence in summary(made):
        typer.echo(sentence)
    typer.echo(f"report: {out / 'report.html'}")
