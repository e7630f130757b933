"""The sizes of the chest encoder, how long it learns, and what it is given to see."""

from dataclasses import dataclass, field
from typing import Final

from workers.chest.altering import Ranges
from workers.medimageinsight import Config, TextConfig, VisionConfig
from workers.medimageinsight.training import Normalisation
from workers.policy import IntensityRule, Percentiles, Preprocessing

SIZE_PX: Final = 96
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
NORMALISATION: Final = Normalisation(mean=MEAN, std=STD)

POLICY: Final = Preprocessing(
    name="chest-1",
    size=SIZE_PX,
    intensity=(IntensityRule(method=Percentiles(low=0.5, high=99.5)),),
    mean=MEAN,
    std=STD,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the encoder learns. Fixed beforehand: no fold chooses any of it.

    Parameters
    ----------
    epochs, batch
        Passes over the images that are learned from, and images in a batch.
    source_px
        What images are brought to before they are altered.
    mixed
        How often a batch is blended with itself.
    text_steps, texts
        Batches of texts alone that come first, and pairs of texts in one.
    views
        Altered views of each image that the heads are fitted on.
    pretrained
        The pack whose image tower is started from; empty starts from scratch.
    dims
        Channels of the image tower's stages.
    settled
        Passes over the images at a constant rate, once all is learned, of whose weights
        the mean is taken; 0 leaves it out.
    settled_rate
        The constant rate.
    unsettled
        Steps of them, from the first, whose weights do not count.
    threads
        The weights depend on it in their last bits.
    """

    epochs: int = 150
    batch: int = 16
    source_px: int = 120
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    warmup: int = 100
    averaged: float = 0.998
    mixed: float = 0.6
    text_steps: int = 150
    texts: int = 40
    views: int = 8
    pretrained: str = "phantoms"
    dims: tuple[int, int, int, int] = (16, 32, 96, 192)
    settled: int = 60
    settled_rate: float = 7e-4
    unsettled: int = 150
    threads: int = 1
    ranges: Ranges = field(default_factory=Ranges)


MEMBERS: Final = (Recipe(mixed=0.0), Recipe())
"""How the members of the ensemble learn: on images as they are, and on blended ones."""


def model_config(vocabulary: int, recipe: Recipe) -> Config:
    """Return the sizes of the chest model."""
    return Config(
        vision=VisionConfig(
            dims=recipe.dims,
            depths=(1, 1, 2, 1),
            heads=(1, 2, 4, 8),
            groups=(1, 2, 4, 8),
            window=6,
            drop_path=0.1,
        ),
        text=TextConfig(
            vocabulary=vocabulary, context=77, width=128, heads=4, layers=2
        ),
        embedding=128,
        image_size_px=SIZE_PX,
    )
