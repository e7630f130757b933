"""``pacsight pack fit --exclusive``: labels that exclude one another, into a new pack."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from workers.commands.progress import bar

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from workers.cohort import Cohort
    from workers.fitting.choosing import Plan
    from workers.fitting.exclusive.asking import Question
    from workers.fitting.packing import Identity
    from workers.heads import TextEncoder
    from workers.pack import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What is fitted on: labels, embeddings; and where out-of-fold shares go."""

    cohort: "Cohort"
    embeddings: Path
    scores_out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the options say of the category."""

    category: str
    code: str | None
    values: list[str] | None
    accept: str | None


def fit_exclusive(  # noqa: PLR0913 - the command's third part
    pack: "Pack",
    out: Path,
    labelled: Labelled,
    said: Said,
    *,
    plan: "Plan",
    identity: "Identity",
    as_json: bool,
) -> None:
    """Fit a category, and say how well its labels are told from one another."""
    from workers.cohort import read_embeddings
    from workers.fitting.exclusive.showing import category_table
    from workers.fitting.exclusive.story import fit_category
    from workers.fitting.story import Material

    question = _question(pack, labelled, said)
    material = Material(
        cohort=labelled.cohort,
        embeddings=read_embeddings(labelled.embeddings),
        texts=_texts(pack, question, plan),
    )
    with bar(quiet=as_json) as progress:
        report = fit_category(
            pack,
            out,
            material,
            question,
            plan=plan,
            identity=identity,
            progress=progress,
            scores_out=labelled.scores_out,
        )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    Console(width=80).print(category_table(report.fit), highlight=False)
    typer.echo(f"{out}: {report.pack.name} {report.pack.version}")
    typer.echo(f"next: `pacsight pack verify {out}`")


def _question(pack: "Pack", labelled: Labelled, said: Said) -> "Question":
    from workers.fitting.asking import accepts, triple
    from workers.fitting.exclusive.asking import Names, question

    names = Names(
        code=triple(said.code) if said.code else None,
        values=tuple(said.values or ()),
        accepts=accepts(said.accept) if said.accept else None,
    )
    return question(pack, labelled.cohort, said.category, names)


def _texts(pack: "Pack", question: "Question", plan: "Plan") -> "TextEncoder | None":
    """Return what embeds prompts, where a head would use them."""
    if "zero-shot" not in plan.heads or not question.prompted:
        return None
    from workers.encoder import open_encoder

    return open_encoder(pack, device="cpu")
