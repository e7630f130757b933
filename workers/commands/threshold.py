"""``pacsight threshold``: a site's own thresholds, chosen, looked at, put in force."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from dicom_node.files import write_durably

thresholds = typer.Typer(
    help="Choose thresholds, and put them in force.", no_args_is_help=True
)

_AFTERWARDS = (
    "restart node and workers; `pacsight conclude --all` then concludes again what is "
    "concluded"
)

PackArgument = Annotated[str, typer.Argument(help="An installed pack, or a folder.")]
NameArgument = Annotated[str, typer.Argument(help="A pack's name, or its folder.")]
SetArgument = Annotated[
    str, typer.Argument(metavar="SET", help="Name and version, as NAME-vN.")
]


class PointMode(StrEnum):
    """Whether a finding flags; in shadow mode it is computed and stored alone."""

    LIVE = "live"
    SHADOW = "shadow"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(thresholds, name="threshold")


@thresholds.command("set")
def choose_threshold(  # noqa: PLR0913 - the command's options
    pack: PackArgument,
    *,
    finding: Annotated[str, typer.Option(help="The finding's key in the pack.")],
    name: Annotated[str, typer.Option(help="Of the set; its version rises by itself.")],
    scores: Annotated[
        Path | None, typer.Option(help="Scores: of `pacsight pack fit`, out of fold.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="Scores of other patients, to judge on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labels with roles tune and test.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="What `pacsight embed` wrote.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Flag at least this share of positives.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Leave at least this share of negatives.")
    ] = None,
    ppv: Annotated[
        float | None, typer.Option(help="At least this share of flags is right.")
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="For --ppv, and to count alarms at.")
    ] = None,
    youden: Annotated[
        bool, typer.Option("--youden", help="Highest sum of the two.")
    ] = False,
    rule_in_specificity: Annotated[
        float | None, typer.Option(help="Flag from here, with --rule-out-sensitivity.")
    ] = None,
    rule_out_sensitivity: Annotated[
        float | None, typer.Option(help="Rule out below; indeterminate between.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Lower limits have to reach the target.")
    ] = None,
    allow_undemonstrated: Annotated[
        bool,
        typer.Option("--allow-undemonstrated", help="And if not, write that down."),
    ] = False,
    mode: Annotated[
        PointMode | None, typer.Option(help="From now on. Default: as it was.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    runs: Annotated[int, typer.Option(help="Samples of the bootstrap.", min=10)] = 500,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Choose a threshold and write it down in a new set. It is not in force yet."""
    from workers.commands.threshold_setting import Asked, Sources, set_threshold

    asked = Asked(
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ppv,
        prevalence=prevalence,
        youden=youden,
        rule_in_specificity=rule_in_specificity,
        rule_out_sensitivity=rule_out_sensitivity,
        confidence=confidence,
        allow_undemonstrated=allow_undemonstrated,
        mode=None if mode is None else mode.value,
        seed=seed,
        runs=runs,
    )
    made = set_threshold(
        pack,
        finding,
        name=name,
        asked=asked,
        sources=Sources(scores=scores, judge=judge, data=data, embeddings=embeddings),
        settings=load_settings(config),
    )
    typer.echo(json.dumps(made.to_json(), indent=2) if as_json else str(made))


@thresholds.command("list")
def list_sets(
    pack: Annotated[
        str | None, typer.Argument(help="A pack's name; without one, all of them.")
    ] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List threshold sets, and which of them are in force."""
    from workers.commands.threshold_views import lines_json, lines_table, set_lines
    from workers.inforce import threshold_store

    lines = set_lines(threshold_store(load_settings(config)), pack)
    if as_json:
        typer.echo(json.dumps(lines_json(lines), indent=2))
    elif lines:
        Console().print(lines_table(lines))
    else:
        typer.echo("there is no threshold set")


@thresholds.command("show")
def show_set(
    pack: NameArgument,
    label: SetArgument,
    *,
    svg: Annotated[
        Path | None, typer.Option(help="Write the ROC curves there, too, as SVG.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show a set: thresholds, what was measured at them, and the ROC curves."""
    from workers.commands.threshold_views import set_view
    from workers.inforce import pack_name, threshold_store
    from workers.thresholds.drawing import roc_svg

    settings = load_settings(config)
    found = threshold_store(settings).read(pack_name(pack, settings), label)
    if svg is not None:
        write_durably(svg, roc_svg(found.set).encode())
    if as_json:
        shown = found.to_json() | {"digest": found.set.digest}
        typer.echo(json.dumps(shown, indent=2))
    else:
        Console().print(set_view(found), highlight=False)


@thresholds.command("activate")
def activate(
    pack: PackArgument,
    label: SetArgument,
    *,
    shadow: Annotated[
        list[str] | None,
        typer.Option(help="A finding that is computed and stored, and flags nothing."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Put a set in force: from the next start of node and workers on."""
    from workers.inforce import put_in_force

    decided = put_in_force(pack, label, shadow or (), load_settings(config))
    typer.echo(f"{decided.set} is in force for {decided.pack} {decided.pack_version}")
    if decided.shadow:
        typer.echo(f"in shadow mode: {', '.join(decided.shadow)}")
    typer.echo(_AFTERWARDS)


@thresholds.command("deactivate")
def deactivate(pack: PackArgument, *, config: ConfigOption = None) -> None:
    """Go back to the thresholds that the pack ships, from the next start on."""
    from workers.inforce import put_in_force

    decided = put_in_force(pack, None, (), load_settings(config))
    typer.echo(
        f"{decided.pack} {decided.pack_version} has the thresholds that it ships"
    )
    typer.echo(_AFTERWARDS)


@thresholds.command("verify")
def verify(
    pack: Annotated[
        str | None, typer.Argument(help="A pack's name; without one, all of them.")
    ] = None,
    *,
    config: ConfigOption = None,
) -> None:
    """Check every set and every decision: digests, signatures, and that none is missing."""
    from workers.inforce import pack_name, threshold_store

    settings = load_settings(config)
    store = threshold_store(settings)
    for name in store.packs() if pack is None else (pack_name(pack, settings),):
        sets, decisions = store.verify(name)
        typer.echo(f"{name}: {sets} sets and {decisions} decisions verify")


@thresholds.command("key")
def show_key(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show this site's public key; it is made at the first time."""
    from workers.inforce import threshold_store

    key = threshold_store(load_settings(config)).public_key()
    typer.echo(json.dumps({"public_key": key}) if as_json else key)
