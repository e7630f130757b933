"""One outer fold: an encoder that has not seen its patients, and what it makes of them.

Two files a fold, in a folder that is named by all they depend on: ``fold-N.weights``,
and ``fold-N.embedded``, which is made again from the weights where it is missing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from workers.chest.learning import TOKENIZER, train_encoder
from workers.chest.looking import embed_states, embed_views
from workers.chest.radiographs import Radiographs, read_radiographs
from workers.chest.recipe import (
    POLICY,
    Recipe,
    model_config,
)
from workers.cohort.folds import folds as patientwise
from workers.medimageinsight import Ensemble, MedImageInsight, Tokenizer, load
from workers.medimageinsight.training import Progress, save_half


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Which fold of how many, of which data, learned how, kept where."""

    number: int
    folds: int
    folder: Path
    seed: int
    recipe: Recipe
    cache: Path

    @property
    def weights(self) -> Path:
        """The encoder's weights, float16."""
        return self.cache / f"fold-{self.number}.weights"

    @property
    def embedded(self) -> Path:
        """What the encoder makes of every image."""
        return self.cache / f"fold-{self.number}.embedded"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """Embeddings by one fold's encoder, of length one.

    Parameters
    ----------
    states
        (6, N, D) of every image, in each of `STATES`.
    views
        (V, N, D) of altered views of the training images; zeros for test images.
    """

    states: NDArray[np.float32]
    views: NDArray[np.float32]


def embed_fold(fold: Fold) -> Embedded:
    """Return what is kept of a fold."""
    found = load_file(fold.embedded)
    return Embedded(states=found["states"], views=found["views"])


def encoder_of(fold: Fold) -> MedImageInsight:
    """Return the encoder that a fold has trained."""
    with fold.weights.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    config = model_config(_vocabulary(), fold.recipe)
    return load(fold.weights, config=config, sha256=digest)


def ensemble_of(members: Sequence[Fold]) -> Ensemble:
    """Return the encoders that one outer fold has trained by several recipes, as one."""
    return Ensemble([encoder_of(member) for member in members])


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Return what the ensemble of these encoders makes of the images."""
    scale = np.float32(len(parts) ** -0.5)
    return Embedded(
        states=scale * np.concatenate([part.states for part in parts], axis=-1),
        views=scale * np.concatenate([part.views for part in parts], axis=-1),
    )


def learn_fold(fold: Fold, progress: Progress = lambda *_: None) -> None:
    """Train a fold's encoder, if it is not there, and write what it makes of images."""
    data = read_radiographs(fold.folder, POLICY)
    rows = np.flatnonzero(outer_folds(data, fold.folds, fold.seed) != fold.number)
    if not fold.weights.exists():
        seed = _seed(fold)
        model = train_encoder(data, rows, fold.recipe, seed=seed, progress=progress)
        partial = fold.weights.with_suffix(".partial")
        save_half(model, partial)
        partial.rename(fold.weights)
    if not fold.embedded.exists():
        found = _embedded(fold, encoder_of(fold), data, rows)
        partial = fold.embedded.with_suffix(".partial")
        save_file({"states": found.states, "views": found.views}, partial)
        partial.rename(fold.embedded)


def truths(data: Radiographs) -> NDArray[np.int8]:
    """Return the truth of each image, (N, 3): sex, view, pneumonia; -1 does not apply."""
    columns = (data.male, data.ap, data.pneumonia)
    return np.stack([column.astype(np.int8) for column in columns], axis=1)


def outer_folds(data: Radiographs, folds: int, seed: int) -> NDArray[np.int8]:
    """Return the outer fold of each image (N,): by patient, the truths balanced."""
    return patientwise(data.patient, truths(data), folds, seed=seed)


def key_of(data: Radiographs, seed: int, folds: int, recipe: Recipe) -> str:
    """Return a name for all that trained folds depend on."""
    sizes = asdict(model_config(_vocabulary(), recipe))
    stated = {"seed": seed, "folds": folds, "recipe": asdict(recipe), "sizes": sizes}
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    digest.update(POLICY.digest.encode())
    digest.update(data.images.tobytes())
    digest.update(truths(data).tobytes() + data.patient.tobytes())
    return digest.hexdigest()[:16]


def _seed(fold: Fold) -> int:
    return fold.seed * fold.folds + fold.number


def _vocabulary() -> int:
    return Tokenizer.load(TOKENIZER).vocabulary


def _embedded(
    fold: Fold,
    model: MedImageInsight,
    data: Radiographs,
    rows: NDArray[np.int64],
) -> Embedded:
    states = embed_states(model, data)
    views = np.zeros((fold.recipe.views, *states[0].shape), np.float32)
    views[:, rows] = embed_views(model, data, fold.recipe, seed=_seed(fold), rows=rows)
    return Embedded(states=states, views=views)
