"""The chest encoder, trained on radiographs of some patients: those and no others.

Everything follows from the images, the seed and the recipe: on one machine, with one
torch and one number of threads, the weights come out the same to the bit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from workers.chest.lessons import Lesson, lessons, rephrasings
from workers.chest.radiographs import Radiographs, resized
from workers.chest.recipe import NORMALISATION, SIZE_PX, Recipe, model_config
from workers.encoder import read_config
from workers.medimageinsight import MedImageInsight, Tokenizer, load
from workers.medimageinsight.training import (
    Batch,
    Lessons,
    Plan,
    Progress,
    Settling,
    settle,
    train,
)
from workers.medimageinsight.vision import VisionTower
from workers.pack import locate, open_pack

_SETTLING = 1000
"""Added to the seed of the batches that a model settles on."""

TOKENIZER = Path(__file__).parents[1] / "packs" / "chest" / "tokenizer"


def train_encoder(
    data: Radiographs,
    rows: NDArray[np.int64],
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress,
) -> MedImageInsight:
    """Return a model that has seen the images in `rows`, and no others."""
    tokenizer = Tokenizer.load(TOKENIZER)
    model = train(
        model_config(tokenizer.vocabulary, recipe),
        tokenizer,
        Lessons(
            batches=_batches(data, rows, recipe, seed),
            rephrasings=rephrasings(count=recipe.texts, seed=seed),
            tower=_tower(recipe.pretrained),
        ),
        _plan(recipe, len(rows), seed),
        normalisation=NORMALISATION,
        progress=progress,
    )
    if not recipe.settled:
        return model
    return settled(model, data, rows, recipe, seed=seed, progress=progress)


def settled(
    model: MedImageInsight,
    data: Radiographs,
    rows: NDArray[np.int64],
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress,
) -> MedImageInsight:
    """Return a trained model averaged over further passes; begins from its float16."""
    return settle(
        model.half().float(),
        Tokenizer.load(TOKENIZER),
        _batches(data, rows, recipe, _SETTLING + seed),
        Settling(
            steps=recipe.settled * (len(rows) // recipe.batch),
            learning_rate=recipe.settled_rate,
            weight_decay=recipe.weight_decay,
            skipped=recipe.unsettled,
            threads=recipe.threads,
            seed=seed,
        ),
        normalisation=NORMALISATION,
        progress=progress,
    )


def _batches(
    data: Radiographs, rows: NDArray[np.int64], recipe: Recipe, seed: int
) -> Iterator[Batch]:
    lesson = Lesson(
        size=SIZE_PX,
        count=recipe.batch,
        ranges=recipe.ranges,
        mixed=recipe.mixed,
    )
    return lessons(resized(data, recipe.source_px), rows, lesson, seed=seed)


def _plan(recipe: Recipe, images: int, seed: int) -> Plan:
    return Plan(
        steps=recipe.epochs * (images // recipe.batch),
        text_steps=recipe.text_steps,
        locked=1.0,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        averaged=recipe.averaged,
        threads=recipe.threads,
        seed=seed,
    )


def _tower(name: str) -> VisionTower | None:
    """Return the image tower of a pack, in single precision."""
    if not name:
        return None
    spec = (pack := open_pack(locate(name))).manifest.encoder
    model = load(pack.weights, config=read_config(spec.config), sha256=spec.sha256)
    return cast("VisionTower", model.float().image_encoder)
