"""The chest pack: an encoder of all patients, linear heads, a manifest.

The figures in it come from cross-validation, where no model judged a patient that it
had learned from; the weights that ship have learned from all of them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from workers.chest.crossing import TOPICS, Crossed
from workers.chest.folding import truths
from workers.chest.gating import FILE as GATE
from workers.chest.gating import (
    MODALITIES,
    RATE,
    body_part_finding,
    fit_gate,
    gate_spec,
)
from workers.chest.heads import fit_linear, fit_ordinary
from workers.chest.judging import CATALOGUE, finding
from workers.chest.learning import TOKENIZER, train_encoder
from workers.chest.looking import embed_states, embed_views
from workers.chest.radiographs import Radiographs
from workers.chest.recipe import POLICY, Recipe
from workers.gate import Gate, encode_gate
from workers.medimageinsight import Ensemble
from workers.medimageinsight.training import Progress, save_half_ensemble
from workers.pack import Pack, open_pack, seal
from workers.placing import in_one_piece

VERSION: Final = "1.0.0"
STATEMENT: Final = (
    "Demonstration: learned from 318 patients of one public collection. For research, "
    "not for clinical use."
)
TRAINED_ON: Final = "NIH ChestX-ray14, 477 images of 318 patients at 320 x 320"

_ACCEPTS: Final = {"modality": list(MODALITIES), "body_part": ["CHEST"]}


def build(
    out: Path,
    data: Radiographs,
    crossed: Crossed,
    *,
    seed: int,
    progress: Progress,
    rate: float = RATE,
) -> Pack:
    """Return the pack that was written to `out`: trained on all of `data`.

    Parameters
    ----------
    crossed
        Of the same images: what the figures are measured on. Its recipes are followed.
    rate
        Of the gate's false alarms.
    """
    rows = np.arange(len(data))
    members = [
        train_encoder(data, rows, recipe, seed=seed, progress=progress)
        for recipe in crossed.recipes
    ]
    return write_pack(out, Ensemble(members), (data, crossed), seed=seed, rate=rate)


def write_pack(
    out: Path,
    model: Ensemble,
    learned: tuple[Radiographs, Crossed],
    *,
    seed: int,
    rate: float = RATE,
) -> Pack:
    """Return the pack of an encoder that has learned from all of the radiographs."""
    data, crossed = learned
    with in_one_piece(out) as folder:
        shutil.copytree(TOKENIZER, folder / "tokenizer")
        stored = save_half_ensemble(model, folder / "weights.safetensors")
        heads = fit_all(stored, data, crossed.recipes[0], seed=seed)
        save_file(_tensors(heads), folder / "heads.safetensors")
        gate = fit_gate(stored, data, crossed.learned, rate=rate, seed=seed)
        (folder / GATE).write_bytes(encode_gate(gate))
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)
        seal(folder, manifest(stored, crossed, gate) | {"gate": gate_spec(gate, data)})
    return open_pack(out)


def fit_all(
    model: Ensemble, data: Radiographs, recipe: Recipe, *, seed: int
) -> dict[str, LogisticRegression]:
    """Return the linear head of each finding, fitted on all of `data`."""
    views = embed_views(model, data, recipe, seed=seed)
    truth = truths(data)
    heads = {
        name: fit_linear(views[:, use], truth[use, topic])
        for topic, name in enumerate(TOPICS)
        for use in [truth[:, topic] >= 0]
    }
    return heads | {"orientation": fit_ordinary(embed_states(model, data))}


def manifest(model: Ensemble, crossed: Crossed, gate: Gate) -> dict[str, Any]:
    """Return what `seal` makes ``pack.json`` of."""
    return {
        "format": 1,
        "name": "chest",
        "version": VERSION,
        "title": "Chest X-ray: exam check",
        "synthetic": False,
        "statement": STATEMENT,
        "encoder": {
            "config": asdict(model.config),
            "weights": "weights.safetensors",
            "dtype": "float16",
            "numeric_profile": "float32",
            "embedding_dim": model.dimension,
            "members": len(model.members),
            "tokenizer": "tokenizer",
            "training_data": [TRAINED_ON],
        },
        "preprocessing": asdict(POLICY),
        "accepts": [_ACCEPTS],
        "findings": [
            *(finding(entry, crossed) for entry in CATALOGUE),
            body_part_finding(gate),
        ],
        "threshold_set": {"name": "chest-1", "created": "2026-11-22"},
    }


def _tensors(
    heads: Mapping[str, LogisticRegression],
) -> dict[str, NDArray[np.float32]]:
    return {
        name: value.astype(np.float32)
        for key, head in heads.items()
        for name, value in (
            (f"{key}.weight", head.coef_[0]),
            (f"{key}.bias", head.intercept_),
        )
    }
