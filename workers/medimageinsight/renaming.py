"""Weights under older names, brought to those of the official checkpoint.

`official_name` and `renamed` are pure: everything that is renamed or resized of foreign
checkpoints is so here. The older names are those that the release's own loader takes
(`visual.`, `text.`), and the Florence-style ones of DaViT.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from workers.medimageinsight.errors import CheckpointError

POSITIONS = "lang_encoder.positional_embedding"

_RULES = (
    (r"^visual\.", "image_encoder."),
    (r"^text\.", "lang_encoder."),
    (r"^vision_projection$", "image_projection"),
    (r"^text_projection$", "lang_projection"),
    (r"^lang_encoder\.pos_emb$", POSITIONS),
    (r"^image_encoder\.conv_embeds\.", "image_encoder.convs."),
    (r"^image_encoder\.main_blocks\.", "image_encoder.blocks."),
    (r"^(image_encoder\.blocks\.\d+\.\d+)\.0\.", r"\1.spatial_block."),
    (r"^(image_encoder\.blocks\.\d+\.\d+)\.1\.", r"\1.channel_block."),
    (r"_block\.cpe\.0\.proj\.", "_block.conv1.fn.dw."),
    (r"_block\.cpe\.1\.proj\.", "_block.conv2.fn.dw."),
    (r"\.spatial_block\.attn\.", ".spatial_block.window_attn.fn."),
    (r"\.channel_block\.attn\.", ".channel_block.channel_attn.fn."),
    (r"\.spatial_block\.norm1\.", ".spatial_block.window_attn.norm."),
    (r"\.channel_block\.norm1\.", ".channel_block.channel_attn.norm."),
    (r"_block\.norm2\.", "_block.ffn.norm."),
    (r"_block\.mlp\.(net\.)?", "_block.ffn.fn.net."),
)
"""Patterns and what they become, one after the other."""


def official_name(name: str) -> str:
    """Return a tensor's name in the official checkpoint; itself where none is known."""
    for pattern, official in _RULES:
        name = re.sub(pattern, official, name)
    return name


def renamed(tensors: Mapping[str, Tensor], *, context: int) -> dict[str, Tensor]:
    """Return the tensors under their official names.

    Parameters
    ----------
    context
        How many positions the text tower has: position embeddings (L, W) of another
        length are interpolated linearly.

    Raises
    ------
    CheckpointError
        If two tensors would have one name.
    """
    _check_distinct(tensors)
    found = {official_name(name): tensor for name, tensor in tensors.items()}
    positions = found.get(POSITIONS)
    if positions is not None and positions.ndim == 2 and len(positions) != context:  # noqa: PLR2004 - (L, W)
        columns = positions.float().T[None]  # (1, W, L)
        resized = interpolate(columns, size=context, mode="linear")[0].T
        found[POSITIONS] = resized.to(positions.dtype).contiguous()
    return found


def needs_renaming(path: Path, *, context: int) -> bool:
    """Return whether a file has names or positions that `renamed` would change.

    Raises
    ------
    CheckpointError
        If it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            if any(official_name(name) != name for name in names):
                return True
            shape = file.get_slice(POSITIONS).get_shape() if POSITIONS in names else []
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    return bool(shape) and shape[0] != context


def rewrite(source: Path, target: Path, *, context: int) -> None:
    """Write the tensors of one file to another, under their official names.

    Raises
    ------
    CheckpointError
        If two tensors would have one name.
    """
    with safe_open(source, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    save_file(renamed(tensors, context=context), target)


def _check_distinct(names: Iterable[str]) -> None:
    counts = Counter(map(official_name, names))
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise CheckpointError(f"{twice[0]} is there under two names")
