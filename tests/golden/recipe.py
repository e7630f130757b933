"""Weights and inputs that anyone can re-create bit for bit, from their names alone.

A value is a hash of the tensor's name and its flat index, so no random generator,
library or platform has a say in it. The formula is the published one of the reference
goldens: splitmix64's finaliser over ``crc32(name) * 2**32 + index``.

``python tests/golden/recipe.py`` writes ``medimageinsight.npz`` anew: the outputs of
`SMALL` in double precision, as this checkout computes them. Do so only while the
tests against the reference's own goldens pass.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.medimageinsight import (
    Config,
    MedImageInsight,
    TextConfig,
    Tokens,
    VisionConfig,
)

GOLDEN = Path(__file__).parent / "medimageinsight.npz"
PUBLISHED_LOGIT_SCALE = 4.513362407684326

# Heads differ from groups, and no grid below is a multiple of the window, so that a
# mistake in either shows.
SMALL = Config(
    vision=VisionConfig(
        dims=(16, 32, 48), depths=(1, 2, 1), heads=(2, 4, 6), groups=(1, 2, 3), window=5
    ),
    text=TextConfig(vocabulary=64, context=12, width=32, heads=4, layers=2),
    embedding=24,
    image_size_px=56,
)
END = SMALL.text.vocabulary - 1


def noise(
    name: str, shape: tuple[int, ...], *, mean: float = 0.0, std: float = 1.0
) -> NDArray[np.float32]:
    """Return values, evenly spread, that depend on nothing but name and index."""
    count = math.prod(shape)
    seed = zlib.crc32(name.encode()) << 32
    z = np.arange(count, dtype=np.uint64) + np.uint64(seed)
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)) / 2.0**24 - 0.5  # in [-0.5, 0.5)
    values = mean + unit * (std * math.sqrt(12))
    return values.astype(np.float32).reshape(shape)


def weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the value of a parameter, scaled as suits what it is."""
    if name == "logit_scale":
        return np.array(PUBLISHED_LOGIT_SCALE, dtype=np.float32)
    if ".dw." in name and len(shape) > 1:
        return noise(name, shape, std=0.1)
    if len(shape) > 1:
        return noise(name, shape, std=1 / math.sqrt(math.prod(shape[1:])))
    if name.endswith(".weight"):  # of a norm
        return noise(name, shape, mean=1, std=0.1)
    return noise(name, shape, std=0.02)


def fill(model: MedImageInsight, *, damped: bool = False) -> MedImageInsight:
    """Return the model with the recipe's weights, in evaluation mode.

    `damped` weights make the image tower well conditioned, as trained ones are: they
    are for judging half precision, never for goldens.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = weight(name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(value))
            if damped:
                parameter.mul_(np.float32(damping(name)).item())
    return model.eval().requires_grad_(requires_grad=False)


def damping(name: str) -> float:
    """Return what tames a parameter: random weights of 24 blocks amplify rounding."""
    ends = ("fn.proj", "net.fc2")
    if name.rpartition(".")[0].endswith(tuple(f".{end}" for end in ends)):
        return float(48**-0.5)
    return 0.3 if ".dw." in name else 1.0


def images(*shape: int) -> Tensor:
    """Return images (B, 3, H, W) float32, normalised."""
    return torch.from_numpy(noise("input:image", shape))


def small_images() -> Tensor:
    """Return the images of the golden, higher than wide."""
    return images(2, 3, 72, 56)


def small_texts() -> Tokens:
    """Return the tokens of the golden: a short text, a full one and an empty one."""
    ids = torch.full((3, SMALL.text.context), END)
    ids[:, 0] = END - 1
    ids[0, 1:5] = torch.tensor([7, 0, 41, 7])
    ids[1, 1:-1] = torch.arange(20, 20 + SMALL.text.context - 2)
    mask = torch.ones_like(ids)
    mask[:, 1:] = ids[:, :-1] != END
    return Tokens(ids, mask)


def _write() -> None:
    model = fill(MedImageInsight(SMALL)).double()
    np.savez_compressed(
        GOLDEN,
        image_embeddings=model.encode_image(small_images().double()).numpy(),
        text_embeddings=model.encode_text(*small_texts()).numpy(),
    )


if __name__ == "__main__":
    _write()
