"""A draft of a pack: a folder with a commented ``pack.toml`` that a person fills in.

TOML, because it takes comments; its keys are those of ``pack.json``, except that the
encoder may be taken from another pack by its name.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from dicom_node.errors import Permanent
from workers.placing import in_one_piece

DRAFT = "pack.toml"
CARD = "MODEL_CARD.md"
FILL_IN = "FILL IN"
"""Stands where only a person knows what to say; a draft that holds it is not built."""

_DRAFT = """\
# A draft of a pack. Fill in what says "FILL IN", then
#     pacsight pack build {folder} --out FOLDER
# Every field is explained in docs/pack-format.md.
format = 1
name = "{name}"
version = "0.1.0"           # rises with every change
title = "FILL IN: what a radiologist reads above every result"
synthetic = false           # true for a demonstration on made-up images
statement = "FILL IN: what every reader must know, e.g. Research only. Validated on 400 studies of one site."

[encoder]
from = "{encoder}"           # weights, tokenizer and preprocessing are those of this pack
# or, instead of `from`, everything: config, weights, dtype, numeric_profile, embedding_dim, tokenizer

[threshold_set]
name = "{name}-1"
created = "FILL IN: the day, e.g. 2026-01-31"

# Which images the pack was validated for. One [[accepts]] for each kind.
[[accepts]]
modality = ["DX", "CR"]
body_part = ["CHEST"]       # "" stands for an image that does not say
# view = ["PA", "AP"]
# age_years = [18, 120]
# min_pixels = 512

# What it looks for. One [[findings]] for each.
[[findings]]
key = "pneumothorax"
meaning = "Pneumothorax"
code = ["36118008", "SCT", "Pneumothorax"]
site = ["39607008", "SCT", "Lung structure"]
urgency = "critical"        # critical, urgent or routine
aggregation = "max"         # from images to the study: max, mean, median, top3-mean, embedding-median, ...
mode = "shadow"             # computed and stored, not reported; "live" once it is evaluated
head = {{ kind = "zero-shot" }}
# or a head that was fitted, e.g. by `pacsight pack fit`; its file lies in this folder
# head = {{ kind = "linear", weights = "heads.safetensors", key = "pneumothorax" }}

[findings.prompts]
positive = ["x-ray chest anteroposterior pneumothorax."]
negative = ["x-ray chest anteroposterior no finding."]

[findings.operating_point]
name = "unvalidated"        # e.g. "sens>=0.95", once it was chosen on a ROC curve
threshold = 0.5
"""

_CARD = """\
# Model card of {name}

FILL IN: what it is for, what it was trained and evaluated on, how well it does in which
group, and what it must not be used for.
"""


def write_draft(out: Path, *, name: str, encoder: str) -> None:
    """Write a draft to `out`: a pack called `name`, on the encoder of another one.

    Raises
    ------
    Permanent
        If `out` is neither absent nor an empty folder.
    """
    with in_one_piece(out) as folder:
        text = _DRAFT.format(name=name, encoder=encoder, folder=out)
        (folder / DRAFT).write_text(text, encoding="utf-8")
        (folder / CARD).write_text(_CARD.format(name=name), encoding="utf-8")


def read_draft(folder: Path) -> dict[str, Any]:
    """Return what a draft says: the fields of a manifest, as far as it has them.

    Raises
    ------
    Permanent
        If there is none, it is not understood, or something is not filled in.
    """
    path = folder / DRAFT
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent(f"{path}: not TOML ({error})") from error
    if where := _left_open(read):
        raise Permanent(f"{path}: {where} is not filled in")
    plain: dict[str, Any] = json.loads(json.dumps(read, default=str))
    return plain


def _left_open(value: object, where: str = "") -> str:
    """Return where something is to be filled in; empty if nothing is."""
    if isinstance(value, str):
        return where if value.startswith(FILL_IN) else ""
    if isinstance(value, dict):
        parts = [(f"{where}.{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list):
        parts = [(f"{where}[{number}]", one) for number, one in enumerate(value)]
    else:
        return ""
    found = (_left_open(inner, name.removeprefix(".")) for name, inner in parts)
    return next(filter(None, found), "")
