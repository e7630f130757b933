"""An evaluation as JSON: every figure of the report with all its digits."""

import json
import math
from dataclasses import asdict
from typing import Any, Final

from workers.evaluating.figures import Evaluation
from workers.evaluating.rules import RULES
from workers.evaluating.words import summary

FORMAT: Final = 1


def as_json(evaluation: Evaluation) -> str:
    """Return the evaluation as JSON text; what is no number is null."""
    content = {
        "format": FORMAT,
        "summary": list(summary(evaluation)),
        "rules": list(RULES),
        **asdict(evaluation),
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
