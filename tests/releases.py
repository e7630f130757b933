"""A release of small weights: what an import is tried on without 2.5 GB.

Real throughout: the names are the official ones, the tokenizer is a part of CLIP's.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tests.golden import recipe
from tests.packs import CONFIG, TOKENIZER
from workers.importing import Origin
from workers.medimageinsight import FULL, MedImageInsight, save
from workers.medimageinsight.release import KnownIds, Release

_OLDER = (
    (r"^image_encoder\.convs\.", "visual.conv_embeds."),
    (r"^image_encoder\.blocks\.", "visual.main_blocks."),
    (r"^image_encoder\.", "visual."),
    (r"^lang_encoder\.", "text."),
    (r"^image_projection$", "vision_projection"),
    (r"^lang_projection$", "text_projection"),
    (r"\.spatial_block\.window_attn\.fn\.", ".0.attn."),
    (r"\.channel_block\.channel_attn\.fn\.", ".1.attn."),
    (r"\.spatial_block\.window_attn\.norm\.", ".0.norm1."),
    (r"\.channel_block\.channel_attn\.norm\.", ".1.norm1."),
    (r"\.spatial_block\.", ".0."),
    (r"\.channel_block\.", ".1."),
    (r"\.conv1\.fn\.dw\.", ".cpe.0.proj."),
    (r"\.conv2\.fn\.dw\.", ".cpe.1.proj."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".mlp."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The files of a release, and what makes them official."""

    weights: Path
    tokenizer: Path
    release: Release

    def origin(self, *, allow_unofficial: bool = False) -> Origin:
        """Return where they lie."""
        return Origin(
            weights=self.weights,
            tokenizer=self.tokenizer,
            allow_unofficial=allow_unofficial,
        )


def publish(folder: Path) -> Released:
    """Return a release that was written to a folder."""
    weights = folder / "medimageinsigt-v1.0.0.pt"
    digest = save(recipe.fill(MedImageInsight(CONFIG)), weights)
    vectors = json.loads((TOKENIZER / "vectors.json").read_text("utf-8"))
    short = [row for row in vectors if len(row["ids"]) < CONFIG.text.context]
    return Released(
        weights=weights,
        tokenizer=TOKENIZER,
        release=Release(
            name="test",
            sha256=digest,
            size_bytes=weights.stat().st_size,
            config=CONFIG,
            known_ids=tuple(
                KnownIds(text=row["text"], ids=" ".join(map(str, row["ids"])))
                for row in short
            ),
            training_data=("Nothing-v1",),
        ),
    )


def older_name(name: str) -> str:
    """Return the name that a tensor had before the release."""
    for official, older in _OLDER:
        name = re.sub(official, older, name)
    return name


def with_older_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names that they had before the release."""
    return {older_name(name): tensor for name, tensor in tensors.items()}


def write_hollow(path: Path) -> int:
    """Write a file of the official names, shapes and size, all zeros; return its size.

    It is sparse, so it takes no room.
    """
    with torch.device("meta"):
        shapes = MedImageInsight(FULL).state_dict()
    header, at = {}, 0
    for name in sorted(shapes):
        end = at + 4 * shapes[name].numel()
        shape = list(shapes[name].shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path.stat().st_size
