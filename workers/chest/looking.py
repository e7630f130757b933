"""Radiographs as an encoder sees them: as they are, in wrong states, in altered views."""

import numpy as np
from numpy.typing import NDArray

from workers.chest.altering import STATES, altered, in_state
from workers.chest.radiographs import Radiographs, resized
from workers.chest.recipe import NORMALISATION, SIZE_PX, Recipe
from workers.medimageinsight import Ensemble, MedImageInsight
from workers.medimageinsight.training import embed_images

Embeddings = NDArray[np.float32]


def embed_states(model: MedImageInsight | Ensemble, data: Radiographs) -> Embeddings:
    """Return embeddings (6, N, D) of every image, in each of `STATES`."""
    plain = resized(data, SIZE_PX).images
    return np.stack(
        [embed_images(model, in_state(plain, state), NORMALISATION) for state in STATES]
    )


def embed_views(
    model: MedImageInsight | Ensemble,
    data: Radiographs,
    recipe: Recipe,
    *,
    seed: int,
    rows: NDArray[np.int64] | None = None,
) -> Embeddings:
    """Return embeddings (V, n, D) of altered views, of all images or of some rows."""
    larger = resized(data, recipe.source_px).images
    larger = larger if rows is None else larger[rows]
    rng = np.random.default_rng([seed, 2])
    ranges = recipe.ranges.ordinary()
    return np.stack(
        [
            embed_images(
                model, altered(larger, SIZE_PX, rng, ranges).images, NORMALISATION
            )
            for _ in range(recipe.views)
        ]
    )
