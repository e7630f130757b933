"""The sizes of a MedImageInsight model: checked when made, without torch.

Source: the official ``config.yaml`` of release 2024.09.27, whose sizes are `FULL`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """Sizes of the image tower (DaViT), one entry per stage.

    A depth of one means one spatial block followed by one channel block.

    Raises
    ------
    ValueError
        If the entries do not describe a tower that can be built.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    groups: tuple[int, ...]
    window: int = 12
    drop_path: float = 0.2

    def __post_init__(self) -> None:
        stages = {len(self.dims), len(self.depths), len(self.heads), len(self.groups)}
        if len(stages) != 1 or 0 in stages:
            raise ValueError(f"stages of unequal number, or none: {self}")
        _positive(*self.dims, *self.depths, *self.heads, *self.groups, self.window)
        for dim, heads, groups in zip(self.dims, self.heads, self.groups, strict=True):
            _divides(heads, dim)
            _divides(groups, dim)
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), not {self.drop_path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Sizes of the text tower.

    Raises
    ------
    ValueError
        If the sizes do not describe a tower that can be built.
    """

    vocabulary: int
    context: int
    width: int
    heads: int
    layers: int

    def __post_init__(self) -> None:
        _positive(self.vocabulary, self.context, self.width, self.heads, self.layers)
        _divides(self.heads, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Sizes of both towers and of the space they share.

    `image_size_px` is the height and width that the weights were trained for; the
    image tower itself takes any.

    Raises
    ------
    ValueError
        If a size is not positive.
    """

    vision: VisionConfig
    text: TextConfig
    embedding: int
    image_size_px: int

    def __post_init__(self) -> None:
        _positive(self.embedding, self.image_size_px)


def parse_config(data: Mapping[str, Any]) -> Config:
    """Return the sizes that `data` states, as JSON would.

    Raises
    ------
    ValueError
        If one is missing, unknown or impossible; it begins with the name of that one.
    """
    text = json.dumps(data)
    try:
        config = _configs.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
    if _configs.dump_python(config, mode="json") != json.loads(text):
        raise ValueError("every size of the model has to be stated, and no more")
    return config


_configs = TypeAdapter(Config)


def _positive(*sizes: int) -> None:
    if min(sizes) < 1:
        raise ValueError(f"sizes must be positive, not {sizes}")


def _divides(parts: int, whole: int) -> None:
    if whole % parts:
        raise ValueError(f"{whole} channels cannot be shared by {parts} heads")


FULL = Config(
    vision=VisionConfig(
        dims=(256, 512, 1024, 2048),
        depths=(1, 1, 9, 1),
        heads=(8, 16, 32, 64),
        groups=(8, 16, 32, 64),
    ),
    text=TextConfig(vocabulary=49408, context=77, width=1024, heads=16, layers=16),
    embedding=1024,
    image_size_px=480,
)
"""The official release, 2024.09.27: 615,996,417 parameters."""
