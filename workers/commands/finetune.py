"""``pacsight pack finetune``: a pack's encoder goes on learning, on one GPU or many."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import ConfigOption, JsonOption
from dicom_node.config import load_settings
from dicom_node.domain import PackCard
from dicom_node.logs import configure_logs
from workers.commands.progress import bar

INTERRUPTED = 130


def register(packs: typer.Typer) -> None:
    """Add the command to the group of packs."""
    packs.command("finetune")(finetune)


def finetune(  # noqa: PLR0913 - the command's options
    pack: Annotated[
        str, typer.Argument(help="Name of an installed pack, or a folder.")
    ],
    *,
    data: Annotated[Path, typer.Option(help="CSV of pairs, or of labels.")],
    images: Annotated[Path, typer.Option(help="The folder that files lie in.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    steps: Annotated[int, typer.Option(min=1, help="Batches to learn from.")] = 1000,
    batch: Annotated[int, typer.Option(min=2, help="Pairs compared in a step.")] = 48,
    at_once: Annotated[
        int, typer.Option(min=1, help="Pairs that go through the model at once.")
    ] = 16,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 5e-6,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.2,
    average: Annotated[float, typer.Option(help="Decay of averaged weights.")] = 0.999,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Parameters whose names begin like this stay; repeatable."),
    ] = None,
    alter: Annotated[str, typer.Option(help="wide, mild or none.")] = "wide",
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fine-tune a pack's encoder by UniCL; a run that was stopped goes on.

    On several GPUs: torchrun --nproc-per-node N -m workers pack finetune ...
    """
    from dicom_node.errors import Permanent
    from workers.app import decode_pool
    from workers.finetuning.batches import Sizes
    from workers.finetuning.labelled import pairs_of
    from workers.finetuning.run import Order
    from workers.finetuning.run import finetune as run
    from workers.finetuning.views import alteration
    from workers.medimageinsight.finetune import Schedule
    from workers.medimageinsight.world import join
    from workers.pack import locate, open_pack

    settings = load_settings(config)
    configure_logs(style=settings.log.format, level="warning")  # the bar tells the rest
    opened = open_pack(locate(pack))
    try:
        order = Order(
            pairs=pairs_of(data, opened, images),
            folder=images,
            schedule=Schedule(
                steps=steps,
                learning_rate=rate,
                weight_decay=decay,
                averaged=average,
                frozen=tuple(freeze or ()),
                seed=seed,
            ),
            sizes=Sizes(batch=batch, at_once=at_once),
            how=alteration(alter),
            every=every,
        )
    except ValueError as error:
        raise Permanent(str(error)) from error
    with join() as world, bar(quiet=as_json or not world.first) as progress:
        try:
            made = run(
                opened,
                out,
                order,
                decoders=lambda: decode_pool(settings),
                world=world,
                progress=progress,
            )
        except KeyboardInterrupt:
            typer.echo(
                f"pacsight: stopped; {out}.run holds what is done, "
                f"the same command goes on",
                err=True,
            )
            raise typer.Exit(code=INTERRUPTED) from None
    if made is not None:
        facts: dict[str, str | int] = {
            "folder": str(out.resolve()),
            "resumed_at": made.resumed_at,
        }
        _show(made.pack.card, made.losses[-1], facts, as_json=as_json)


def _show(
    card: PackCard,
    last: tuple[int, float, float | None],
    facts: dict[str, str | int],
    *,
    as_json: bool,
) -> None:
    step, loss, on_tune = last
    if as_json:
        made = {
            "name": card.name,
            "version": card.version,
            "device_uid": card.device_uid,
            "steps": step,
            "loss": loss,
            "loss_on_tune": on_tune,
        }
        typer.echo(json.dumps(facts | made, indent=2))
        return
    out = facts["folder"]
    typer.echo(f"{out}: {card.name} {card.version}")
    tuned = "no pairs to tune on" if on_tune is None else f"on tune {on_tune:.4f}"
    typer.echo(f"  loss {loss:.4f} at step {step}, {tuned}; on the way: {out}/log.csv")
    typer.echo("  findings are asked by their prompts, in shadow mode, until you")
    typer.echo("  `pacsight pack fit` heads and `pacsight threshold set` thresholds")
