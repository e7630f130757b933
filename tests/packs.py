"""A small pack that is real throughout: model, tokenizer, heads, thresholds.

Its weights are those of the recipe, so it sees nothing; everything else about it is as
in a pack that does.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.golden import recipe
from workers.medimageinsight import MedImageInsight, save
from workers.pack import Pack, seal
from workers.policy import IntensityRule, Percentiles, Preprocessing, Window

CONFIG = replace(
    recipe.SMALL, text=replace(recipe.SMALL.text, vocabulary=651, context=16)
)
POLICY = Preprocessing(
    name="test-1",
    size=CONFIG.image_size_px,
    intensity=(
        IntensityRule(modality=("CT",), method=Window(center=40, width=80)),
        IntensityRule(method=Percentiles()),
    ),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
TOKENIZER = Path(__file__).parent / "golden" / "clip_subset"


def manifest(**changes: Any) -> dict[str, Any]:
    """Return what `seal` makes a ``pack.json`` of: two findings on chests, one on heads."""
    values: dict[str, Any] = {
        "format": 1,
        "name": "test-pack",
        "version": "1.0",
        "title": "A pack for tests",
        "synthetic": True,
        "statement": "Knows nothing of medicine.",
        "encoder": {
            "config": asdict(CONFIG),
            "weights": "weights.safetensors",
            "dtype": "float32",
            "numeric_profile": "float32",
            "embedding_dim": CONFIG.embedding,
            "tokenizer": "tokenizer",
            "training_data": ["nothing"],
        },
        "preprocessing": asdict(POLICY),
        "accepts": [
            {"modality": ["DX", "CR"], "body_part": ["CHEST"]},
            {"modality": ["CT"], "body_part": ["HEAD"]},
        ],
        "findings": [
            finding("pneumothorax", code=["36118008", "SCT", "Pneumothorax"]),
            finding(
                "effusion",
                code=["60046008", "SCT", "Pleural effusion"],
                head={"kind": "zero-shot"},
                prompts={
                    "positive": ["x-ray chest pleural effusion."],
                    "negative": ["x-ray chest no pleural effusion."],
                },
            ),
            finding(
                "haemorrhage",
                code=["1386000", "SCT", "Intracranial hemorrhage"],
                accepts={"modality": ["CT"], "body_part": ["HEAD"]},
                aggregation="top3-mean",
            ),
        ],
        "threshold_set": {"name": "test-2026-01", "created": "2026-01-15"},
    }
    return values | changes


def finding(key: str, **changes: Any) -> dict[str, Any]:
    """Return one finding of a manifest: on chests, with a linear head."""
    values: dict[str, Any] = {
        "key": key,
        "meaning": key.capitalize(),
        "code": ["0", "99TEST", key],
        "urgency": "urgent",
        "accepts": {"modality": ["DX", "CR"], "body_part": ["CHEST"]},
        "aggregation": "max",
        "head": {"kind": "linear", "weights": "heads.safetensors", "key": key},
        "operating_point": {"name": "sens>=0.95", "threshold": 0.5},
    }
    return values | changes


def category(key: str, *, labels: Sequence[str] = ("one", "other")) -> dict[str, Any]:
    """Return one category of a manifest: labels with a prompt each."""
    return {
        "key": key,
        "meaning": key.capitalize(),
        "code": ["0", "99TEST", key],
        "labels": [
            {
                "key": label,
                "meaning": label,
                "code": [label, "99TEST", label],
                "prompts": [f"x-ray {label}."],
            }
            for label in labels
        ],
    }


def estimate(key: str, **head: Any) -> dict[str, Any]:
    """Return one estimate of a manifest, in months; `head` is of its neighbours."""
    return {
        "key": key,
        "meaning": key.capitalize(),
        "code": ["0", "99TEST", key],
        "unit": ["mo", "UCUM", "month"],
        "head": {"kind": "neighbours", **head},
    }


def write_parts(folder: Path) -> None:
    """Write weights, heads and tokenizer of the pack; the manifest is still missing."""
    folder.mkdir(parents=True, exist_ok=True)
    save(recipe.fill(MedImageInsight(CONFIG)), folder / "weights.safetensors")
    heads = {}
    for key in ("pneumothorax", "haemorrhage"):
        heads[f"{key}.weight"] = recipe.noise(f"head {key}", (CONFIG.embedding,))
        heads[f"{key}.bias"] = np.zeros(1, dtype=np.float32)
    save_file(heads, folder / "heads.safetensors")
    (folder / "tokenizer").mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZER / name, folder / "tokenizer" / name)


def make_pack(folder: Path, **changes: Any) -> Pack:
    """Return the pack, written to `folder`; `changes` are to its manifest."""
    write_parts(folder)
    return seal(folder, manifest(**changes))
