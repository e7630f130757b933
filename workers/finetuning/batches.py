"""Which pairs are learned from at which step, and what the model is shown of them.

Everything follows from the seed, the step and the place in the batch, so that a run
that goes on sees what it would have seen, and more processes share the same batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.finetuning.pairs import Pairs
from workers.finetuning.views import Alteration, altered
from workers.medimageinsight.gradcache import Part
from workers.medimageinsight.tokenizer import Tokenizer
from workers.medimageinsight.world import World

_WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many pairs a step compares, and how many go through the model at once."""

    batch: int
    at_once: int

    def __post_init__(self) -> None:
        if not self.at_once >= 1 or self.batch < 2:  # noqa: PLR2004 - nothing to compare
            raise ValueError("a batch needs two pairs, and one at least at once")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What is learned from.

    Parameters
    ----------
    images
        (F, 3, S, S) uint8 RGB, of each file.
    mean, std
        Of the preprocessing policy, by channel, of values in 0..1.
    """

    pairs: Pairs
    images: NDArray[np.uint8]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    how: Alteration
    seed: int

    @property
    def place(self) -> NDArray[np.int64]:
        """Return (N,) which of `images` each pair has."""
        at = {file: number for number, file in enumerate(self.pairs.files)}
        return np.array([at[pair.file] for pair in self.pairs.pairs], np.int64)


def rows_of(
    step: int, learned: NDArray[np.int64], size: int, seed: int
) -> NDArray[np.int64]:
    """Return the pairs (size,) of a step: all of them once, then again in new order.

    What does not fill a batch at the end of an order is left to the next one.
    """
    turns = len(learned) // size
    epoch, turn = divmod(step, turns)
    order = np.random.default_rng([seed, epoch]).permutation(learned)
    return order[turn * size : (turn + 1) * size]


def parts_of(
    material: Material,
    rows: NDArray[np.int64],
    *,
    step: int,
    sizes: Sizes,
    tokenizer: Tokenizer,
    world: World,
) -> Iterator[Part]:
    """Yield this process's parts of a batch: every so-manieth, altered."""
    place = material.place
    for number, at in enumerate(range(0, len(rows), sizes.at_once)):
        if number % world.size != world.rank:
            continue
        some = rows[at : at + sizes.at_once]
        seed = [material.seed, step, number]
        views = [
            _view(material, int(place[row]), [material.seed, step, at + i])
            for i, row in enumerate(some)
        ]
        tokens = tokenizer.encode([material.pairs.pairs[row].text for row in some])
        yield Part(
            rows=torch.arange(at, at + len(some), device=world.device),
            images=normalised(np.stack(views), material, world.device),
            ids=tokens[0].to(world.device),
            mask=tokens[1].to(world.device),
            seed=int(np.random.SeedSequence(seed).generate_state(1)[0]),
        )


def normalised(
    images: NDArray[np.uint8], material: Material, device: torch.device
) -> Tensor:
    """Return (B, 3, S, S) float32 as the model takes it, of uint8 RGB."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    mean = torch.tensor(material.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(material.std, device=device).view(1, 3, 1, 1)
    return (pixels.float() / _WHITE - mean) / std


def _view(material: Material, place: int, seed: list[int]) -> NDArray[np.uint8]:
    red, green, blue = (round(_WHITE * level) for level in material.mean)
    return altered(
        material.images[place],
        np.random.default_rng(seed),
        how=material.how,
        fill=(red, green, blue),
    )
