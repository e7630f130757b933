"""A pack with a category that was fitted: written whole, with its evidence."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from dicom_node.domain import Sha256
from workers.copying import copy_parts, seal_again
from workers.fitting.exclusive.asking import Question
from workers.fitting.exclusive.learning import Head
from workers.fitting.exclusive.report import CategoryFit
from workers.fitting.packing import Identity, put
from workers.pack import Pack
from workers.placing import Progress, in_one_piece


def write_category(  # noqa: PLR0913 - what a pack is made of
    pack: Pack,
    out: Path,
    question: Question,
    head: Head,
    fit: CategoryFit,
    *,
    identity: Identity,
    data: Sha256,
    progress: Progress,
) -> Pack:
    """Return the pack that was written to `out`: `pack`, with this category.

    Raises
    ------
    Permanent
        If it cannot be written there.
    """
    with in_one_piece(out) as folder:
        manifest = copy_parts(pack, folder, progress)
        manifest |= {"name": identity.name, "version": identity.version}
        spec = _category(question, fit, data) | {"head": _head(question, head, folder)}
        put(manifest.setdefault("categories", []), spec)
        sealed = seal_again(pack, folder, manifest)
    return replace(sealed, folder=out.resolve())


def _category(question: Question, fit: CategoryFit, data: Sha256) -> dict[str, Any]:
    """Return the category's entry, but for its head."""
    spec = question.to_json()
    spec["validated"] = {"data": data, **fit.to_json()}
    if fit.calibrated:
        calibration = fit.choice.calibration.spec(name=f"{question.key}-{data[:8]}")
        spec["calibration"] = asdict(calibration)
    return spec


def _head(question: Question, head: Head, folder: Path) -> Mapping[str, Any] | None:
    """Return the head's entry; its numbers are written into the folder."""
    key = question.key
    name = f"category-{re.sub(r'[^a-z0-9]+', '-', key.casefold())}.safetensors"
    spec = head.spec(file=name, key=key)
    if spec is None:
        return None
    (folder / name).unlink(missing_ok=True)  # a link to another pack's
    save_file(head.named(key), folder / name)
    return {one: _plain(value) for one, value in asdict(spec).items()}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
