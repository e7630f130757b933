"""``pacsight pack fit``: heads on frozen embeddings, into a new pack."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_node.cli import JsonOption
from dicom_node.domain import Urgency
from workers.commands.exclusive import Labelled, Said, fit_exclusive
from workers.commands.progress import bar

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from workers.fitting.asking import Asked
    from workers.fitting.choosing import Plan
    from workers.fitting.fitted import Kind
    from workers.fitting.packing import Identity
    from workers.fitting.story import Material
    from workers.heads import TextEncoder
    from workers.pack import Pack


class HeadKind(StrEnum):
    """Which heads are tried; ``auto``: all that the pack and the data allow."""

    AUTO = "auto"
    LINEAR = "linear"
    MLP = "mlp"
    KNN = "knn"
    SVM = "svm"
    ZERO_SHOT = "zero-shot"
    MIXTURE = "mixture"


class Say(StrEnum):
    """Who has the same say in the fit."""

    IMAGES = "images"
    PATIENTS = "patients"
    CLASSES = "classes"


def register(packs: typer.Typer) -> None:
    """Add ``fit`` to the group ``pack``."""
    packs.command("fit")(fit_heads)


def fit_heads(  # noqa: PLR0913 - the command's options
    pack: Annotated[
        str, typer.Argument(help="Name of an installed pack, or a folder.")
    ],
    *,
    data: Annotated[Path, typer.Option(help="Labels, CSV: see `pacsight data`.")],
    embeddings: Annotated[Path, typer.Option(help="What `pacsight embed` wrote.")],
    out: Annotated[Path, typer.Option(help="A folder that is empty, or not there.")],
    finding: Annotated[
        list[str] | None, typer.Option(help="What the labels call it.")
    ] = None,
    exclusive: Annotated[
        str | None, typer.Option(help="'view=AP,PA': labels that exclude one another.")
    ] = None,
    head: Annotated[
        list[HeadKind] | None, typer.Option(help="Which heads are tried.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything follows from it.", min=0)] = 0,
    folds: Annotated[int, typer.Option(help="Outer folds.", min=2)] = 5,
    inner_folds: Annotated[int, typer.Option(help="Inner folds.", min=2)] = 4,
    same_say: Annotated[
        Say, typer.Option(help="Who has the same say in the fit.")
    ] = Say.PATIENTS,
    code: Annotated[
        str | None, typer.Option(help="'VALUE|SCHEME|MEANING' of what is new.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="'AP=VALUE|SCHEME|MEANING' of a new exclusive label."),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="'VALUE|SCHEME|MEANING' of where it is.")
    ] = None,
    urgency: Annotated[Urgency | None, typer.Option()] = None,
    accept: Annotated[
        str | None, typer.Option(help="'DX|CR:CHEST': modalities, body parts.")
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="From images to the study, e.g. max.")
    ] = None,
    present: Annotated[
        list[str] | None, typer.Option(help="A text of a study with the finding.")
    ] = None,
    absent: Annotated[
        list[str] | None, typer.Option(help="A text of a study without it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the new pack.")] = None,
    version: Annotated[str | None, typer.Option(help="Of the new pack.")] = None,
    scores_out: Annotated[
        Path | None, typer.Option(help="Where out-of-fold scores go, .safetensors.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit heads: chosen and judged by nested cross-validation by patient."""
    from workers.cohort import read_cohort, read_embeddings
    from workers.fitting.asking import asked, wishes
    from workers.fitting.choosing import Plan
    from workers.fitting.packing import Identity
    from workers.fitting.samples import Weighing
    from workers.fitting.showing import fit_table
    from workers.fitting.story import Material, fit_pack
    from workers.pack import locate, open_pack

    _check_options(
        finding or [],
        exclusive,
        of_one=code or present or absent,
        of_findings=site or urgency or aggregation or present or absent,
    )
    opened = open_pack(locate(pack))
    wished = wishes(
        code=code,
        site=site,
        urgency=urgency,
        accept=accept,
        aggregation=aggregation,
        texts=(tuple(present or ()), tuple(absent or ())),
    )
    kinds = _kinds(head or [HeadKind.AUTO])
    plan = Plan(
        heads=kinds,
        outer=folds,
        inner=inner_folds,
        seed=seed,
        weighing=Weighing(same_say.value),
    )
    cohort = read_cohort(data)
    identity = Identity(
        name=name or opened.name,
        version=version or f"{opened.version}+{cohort.digest[:8]}",
        created=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    if exclusive is not None or finding is None:
        fit_exclusive(
            opened,
            out,
            Labelled(cohort=cohort, embeddings=embeddings, scores_out=scores_out),
            Said(category=exclusive or "", code=code, values=value, accept=accept),
            plan=plan,
            identity=identity,
            as_json=as_json,
        )
        return
    if finding[0] in {spec.key for spec in opened.manifest.estimates}:
        source = Material(cohort=cohort, embeddings=read_embeddings(embeddings))
        _fit_estimate(opened, out, source, finding, plan, identity, as_json=as_json)
        return
    wanted = [asked(opened, label, wished) for label in finding]
    material = Material(
        cohort=cohort,
        embeddings=read_embeddings(embeddings),
        texts=_texts(opened, wanted, kinds),
    )
    with bar(quiet=as_json) as progress:
        report = fit_pack(
            opened,
            out,
            material,
            wanted,
            plan=plan,
            identity=identity,
            progress=progress,
            scores_out=scores_out,
        )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    Console(width=80).print(fit_table(report), highlight=False)
    typer.echo(f"{out}: {report.pack.name} {report.pack.version}, in shadow mode")
    typer.echo(f"next: `pacsight threshold set {out}`, then `threshold activate`")


def _check_options(
    finding: Sequence[str],
    exclusive: str | None,
    *,
    of_one: object,
    of_findings: object,
) -> None:
    """Refuse options that do not go together."""
    if bool(finding) == (exclusive is not None):
        raise typer.BadParameter("name a --finding, or a category with --exclusive")
    if len(finding) > 1 and of_one:
        raise typer.BadParameter("a code or texts are of one finding: name just one")
    if exclusive is not None and of_findings:
        raise typer.BadParameter(
            "site, urgency, aggregation, present and absent are of findings"
        )


def _fit_estimate(  # noqa: PLR0913 - the command's other half
    pack: "Pack",
    out: Path,
    material: "Material",
    finding: Sequence[str],
    plan: "Plan",
    identity: "Identity",
    *,
    as_json: bool,
) -> None:
    """Give references to a pack that estimates, and say how far it is off."""
    from workers.fitting.estimating import fit_estimate

    if len(finding) > 1:
        raise typer.BadParameter("a quantity is fitted by itself: name just one")
    with bar(quiet=as_json) as progress:
        made, fit = fit_estimate(
            pack,
            out,
            material.cohort,
            material.embeddings,
            finding[0],
            plan=plan,
            identity=identity,
            progress=progress,
        )
    if as_json:
        card = {"folder": str(out.resolve()), "device_uid": made.device_uid}
        typer.echo(json.dumps(card | fit.to_json(), indent=2))
        return
    error = fit.error
    typer.echo(
        f"{out}: {fit.estimate}, mean absolute error {error.value:.2f} "
        f"({error.low:.2f}-{error.high:.2f}) on {fit.studies} studies, "
        f"out of fold by patient; {fit.chosen.k} neighbours"
    )


def _kinds(heads: Sequence[HeadKind]) -> "tuple[Kind, ...]":
    from workers.fitting.choosing import GRIDS

    return tuple(k for k in GRIDS if HeadKind.AUTO in heads or HeadKind(k) in heads)


def _texts(
    pack: "Pack", wanted: "Sequence[Asked]", kinds: "Sequence[Kind]"
) -> "TextEncoder | None":
    """Return what embeds prompts, where a head would use them."""
    of_text = not {"zero-shot", "mixture"}.isdisjoint(kinds)
    if not of_text or all(one.prompts is None for one in wanted):
        return None
    from workers.encoder import open_encoder

    return open_encoder(pack, device="cpu")
