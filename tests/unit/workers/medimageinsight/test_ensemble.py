"""Several models as one: joined embeddings, the mean of the cosines, one file."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from workers.medimageinsight import (
    CheckpointError,
    Ensemble,
    MedImageInsight,
    load,
    load_ensemble,
    save,
)


@pytest.fixture
def pair(small: MedImageInsight) -> Ensemble:
    """Return two models of the same sizes and other weights."""
    return Ensemble([small, MedImageInsight(small.config).eval()])


def images(model: Ensemble, count: int = 3) -> torch.Tensor:
    """Return noise, (count, 3, S, S)."""
    size = model.config.image_size_px
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_embeddings_are_joined_and_have_length_one(pair: Ensemble) -> None:
    """A cosine is the mean of the members' cosines."""
    shown = images(pair)
    with torch.inference_mode():
        found = pair.encode_image(shown)
        members = cast("Iterable[MedImageInsight]", pair.members)
        each = [member.encode_image(shown) for member in members]
    assert found.shape == (3, pair.dimension)
    assert pair.dimension == 2 * pair.config.embedding
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    mean = torch.stack([e @ e.T for e in each]).mean(dim=0)
    assert torch.allclose(found @ found.T, mean, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_file_holds_all_members(
    pair: Ensemble, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Written and read again, prepared or not, it computes the same."""
    path = tmp_path / "weights.safetensors"
    digest = save(pair, path)
    again = load_ensemble(path, 2, dtype=dtype, config=pair.config, sha256=digest)
    shown = images(pair)
    with torch.inference_mode():
        expected = pair.encode_image(shown)
        actual = again.prepare().encode_image(shown)
    assert torch.allclose(actual, expected, atol=1e-5 if dtype.itemsize == 4 else 0.05)


def test_another_number_of_members_is_refused(pair: Ensemble, tmp_path: Path) -> None:
    """Neither a part of the file is used, nor is one member taken for the model."""
    path = tmp_path / "weights.safetensors"
    digest = save(pair, path)
    for members in (1, 3):
        with pytest.raises(CheckpointError, match="members"):
            load_ensemble(path, members, config=pair.config, sha256=digest)
    with pytest.raises(CheckpointError, match="missing"):
        load(path, config=pair.config, sha256=digest)


def test_members_are_of_the_same_sizes(small: MedImageInsight) -> None:
    """Else their embeddings would not weigh the same."""
    other = MedImageInsight(replace(small.config, embedding=small.config.embedding + 1))
    with pytest.raises(ValueError, match="same sizes"):
        Ensemble([small, other])
