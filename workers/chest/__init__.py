"""The chest pack: learned from real radiographs, judged on patients it has not seen."""

from workers.chest.build import build
from workers.chest.crossing import Crossed, cross_validate
from workers.chest.learning import train_encoder
from workers.chest.radiographs import Radiographs, read_radiographs
from workers.chest.recipe import Recipe

__all__ = [
    "Crossed",
    "Radiographs",
    "Recipe",
    "build",
    "cross_validate",
    "read_radiographs",
    "train_encoder",
]
