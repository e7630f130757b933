"""MedImageInsight in torch: the model, its tokenizer, its weights and its loss."""

from workers.medimageinsight.checkpoint import (
    OFFICIAL_SHA256,
    CheckpointError,
    load,
    save,
)
from workers.medimageinsight.config import FULL, Config, TextConfig, VisionConfig
from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.unicl import unicl_loss

__all__ = [
    "FULL",
    "OFFICIAL_SHA256",
    "CheckpointError",
    "Config",
    "MedImageInsight",
    "TextConfig",
    "VisionConfig",
    "load",
    "save",
    "unicl_loss",
]
