"""MedImageInsight in torch: the model, its tokenizer, its weights and its loss."""

from workers.medimageinsight.config import FULL, Config, TextConfig, VisionConfig
from workers.medimageinsight.model import MedImageInsight

__all__ = [
    "FULL",
    "Config",
    "MedImageInsight",
    "TextConfig",
    "VisionConfig",
]
