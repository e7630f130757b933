"""What an atlas is, and what it answers, for people and for programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.atlas.answering import Answer
from workers.atlas.manifest import AtlasManifest


def atlas_json(manifest: AtlasManifest, folder: Path) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "folder": str(folder.resolve()),
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "cases": manifest.cases - manifest.removed,
        "removed": manifest.removed,
        "floor": manifest.floor,
        "left_out": manifest.left_out,
        "cells": [
            {
                "finding": cell.finding,
                "modality": cell.modality,
                "body_part": cell.body_part,
                "cases": cell.cases,
                "patients": cell.patients,
            }
            for cell in manifest.cells
        ],
    }


def atlas_lines(manifest: AtlasManifest, folder: Path) -> Iterator[str]:
    """Yield what a person reads."""
    left = manifest.cases - manifest.removed
    yield (
        f"{folder}: {manifest.name} {manifest.version}, {left} cases in "
        f"{len(manifest.cells)} cells of {manifest.floor} patients at least"
    )
    yield f"  sha256:{manifest.digest}"
    for reason, count in manifest.left_out.items():
        yield f"  left out: {count}, {reason}"
    if manifest.removed:
        yield f"  removed: {manifest.removed}"


def cell_table(manifest: AtlasManifest) -> Table:
    """Return the cells, one a row."""
    names = {label.key: label.concept.meaning for label in manifest.labels}
    table = Table("finding", "modality", "body part", "cases", "patients")
    for cell in manifest.cells:
        table.add_row(
            names[cell.finding] if cell.finding else "none present",
            cell.modality,
            cell.body_part or "not stated",
            str(cell.cases),
            str(cell.patients),
        )
    return table


def answer_view(answer: Answer) -> RenderableType:
    """Return an answer as a person reads it."""
    parts: list[RenderableType] = [Text(f"{answer.question}: {answer.source}")]
    if answer.compared:
        parts.append(Text(f"compared: {answer.compared}"))
    if answer.prompts:
        texts = Table("text", "similarity", "share of these texts")
        for one in answer.prompts:
            texts.add_row(one.text, f"{one.similarity:.4f}", f"{one.share:.1%}")
        parts.append(texts)
    if answer.hits:
        hits = Table("", "case", "kind", "similarity", "labels", "about")
        for rank, hit in enumerate(answer.hits, start=1):
            by = f" ({hit.established_by})" if hit.established_by else ""
            similarity = f"{hit.similarity:.4f}"
            labels = ", ".join(hit.labels) + by
            kind = hit.kind.name.lower()
            hits.add_row(str(rank), hit.name, kind, similarity, labels, hit.about)
        parts.append(hits)
    if answer.remark:
        parts.append(Text(answer.remark))
    return Group(*parts)
