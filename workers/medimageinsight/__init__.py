"""MedImageInsight in torch: the model, its tokenizer, its weights and its loss."""

from workers.medimageinsight.checkpoint import (
    OFFICIAL_SHA256,
    load,
    load_ensemble,
    save,
)
from workers.medimageinsight.config import (
    FULL,
    Config,
    TextConfig,
    VisionConfig,
    parse_config,
)
from workers.medimageinsight.ensemble import Ensemble
from workers.medimageinsight.errors import CheckpointError
from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.prepared import multiplies_bfloat16
from workers.medimageinsight.tokenizer import Tokenizer, Tokens
from workers.medimageinsight.unicl import unicl_loss

__all__ = [
    "FULL",
    "OFFICIAL_SHA256",
    "CheckpointError",
    "Config",
    "Ensemble",
    "MedImageInsight",
    "TextConfig",
    "Tokenizer",
    "Tokens",
    "VisionConfig",
    "load",
    "load_ensemble",
    "multiplies_bfloat16",
    "parse_config",
    "save",
    "unicl_loss",
]
