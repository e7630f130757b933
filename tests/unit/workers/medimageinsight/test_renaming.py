"""Older names become the official ones, whatever else is left as it is."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.golden import recipe
from tests.releases import older_name, with_older_names
from workers.medimageinsight import CheckpointError, MedImageInsight
from workers.medimageinsight.renaming import (
    POSITIONS,
    needs_renaming,
    official_name,
    renamed,
    rewrite,
)

CONTEXT = recipe.SMALL.text.context


@pytest.mark.parametrize(
    ("older", "official"),
    [
        ("visual.conv_embeds.0.proj.weight", "image_encoder.convs.0.proj.weight"),
        (
            "visual.main_blocks.2.8.0.cpe.0.proj.weight",
            "image_encoder.blocks.2.8.spatial_block.conv1.fn.dw.weight",
        ),
        (
            "image_encoder.main_blocks.2.8.1.cpe.1.proj.bias",
            "image_encoder.blocks.2.8.channel_block.conv2.fn.dw.bias",
        ),
        (
            "visual.main_blocks.0.0.0.attn.qkv.weight",
            "image_encoder.blocks.0.0.spatial_block.window_attn.fn.qkv.weight",
        ),
        (
            "visual.main_blocks.0.0.1.attn.proj.bias",
            "image_encoder.blocks.0.0.channel_block.channel_attn.fn.proj.bias",
        ),
        (
            "visual.main_blocks.1.0.0.norm1.weight",
            "image_encoder.blocks.1.0.spatial_block.window_attn.norm.weight",
        ),
        (
            "visual.main_blocks.1.0.1.norm2.bias",
            "image_encoder.blocks.1.0.channel_block.ffn.norm.bias",
        ),
        (
            "visual.main_blocks.3.0.1.mlp.fc2.weight",
            "image_encoder.blocks.3.0.channel_block.ffn.fn.net.fc2.weight",
        ),
        (
            "visual.main_blocks.3.0.1.mlp.net.fc1.weight",
            "image_encoder.blocks.3.0.channel_block.ffn.fn.net.fc1.weight",
        ),
        ("visual.norms.weight", "image_encoder.norms.weight"),
        ("text.pos_emb", "lang_encoder.positional_embedding"),
        (
            "text.resblocks.15.mlp.c_fc.weight",
            "lang_encoder.resblocks.15.mlp.c_fc.weight",
        ),
        ("vision_projection", "image_projection"),
        ("text_projection", "lang_projection"),
        ("logit_scale", "logit_scale"),
        ("decoder.weight", "decoder.weight"),
    ],
)
def test_an_older_name_has_an_official_one(older: str, official: str) -> None:
    """What is not known stays, and is refused as unknown later on."""
    assert official == official_name(older)


@pytest.mark.corpus
def test_every_official_name_stays_and_is_found_again(shared: Path) -> None:
    """Over the whole list of 601: as it is, and by the way of its older name."""
    listed = json.loads((shared / "golden" / "state_dict_keys.json").read_text("utf-8"))
    assert len(listed) == 601
    assert list(listed) == [official_name(name) for name in listed]
    assert list(listed) == [official_name(older_name(name)) for name in listed]


@given(st.text(max_size=40))
def test_renaming_twice_is_renaming_once(name: str) -> None:
    """Whatever the name."""
    once = official_name(name)
    assert once == official_name(once)


def test_a_file_of_older_names_becomes_the_official_one(
    small: MedImageInsight, tmp_path: Path
) -> None:
    """Every tensor, bit for bit."""
    tensors = small.state_dict()
    save_file(with_older_names(tensors), tmp_path / "old")
    assert needs_renaming(tmp_path / "old", context=CONTEXT)
    rewrite(tmp_path / "old", tmp_path / "new", context=CONTEXT)
    again = load_file(tmp_path / "new")
    assert tensors.keys() == again.keys()
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    assert not needs_renaming(tmp_path / "new", context=CONTEXT)


@pytest.mark.parametrize("length", [2 * CONTEXT, CONTEXT // 2, 77])
def test_positions_of_another_length_are_interpolated(length: int) -> None:
    """A straight line stays one, its middle where it was."""
    line = torch.linspace(0.0, 1.0, length)[:, None].repeat(1, 3)
    found = renamed({"text.positional_embedding": line}, context=CONTEXT)[POSITIONS]
    assert found.shape == (CONTEXT, 3)
    assert found.mean().item() == pytest.approx(0.5)
    steps = found[1:, 0].diff()[1:-1]
    assert (steps > 0).all()
    if length > CONTEXT:  # between ends that repeat, the steps are even
        assert steps.numpy() == pytest.approx(steps.mean().item())


def test_positions_of_the_right_length_stay(small: MedImageInsight) -> None:
    """Nothing is computed where nothing has to be."""
    positions = small.state_dict()[POSITIONS]
    assert positions is renamed({POSITIONS: positions}, context=CONTEXT)[POSITIONS]


def test_two_tensors_of_one_name_are_refused() -> None:
    """Which of them was meant nobody can know."""
    twice = {
        "visual.norms.bias": torch.zeros(1),
        "image_encoder.norms.bias": torch.ones(1),
    }
    with pytest.raises(
        CheckpointError, match=r"image_encoder\.norms\.bias is there under two names"
    ):
        renamed(twice, context=CONTEXT)


def test_what_is_no_file_of_tensors_has_no_names(tmp_path: Path) -> None:
    """One sentence, of one kind."""
    (tmp_path / "page").write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        needs_renaming(tmp_path / "page", context=CONTEXT)
    with pytest.raises(CheckpointError, match="cannot be read"):
        needs_renaming(tmp_path / "none", context=CONTEXT)
