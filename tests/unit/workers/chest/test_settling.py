"""A trained encoder settles: the mean of the weights that further passes go through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.chest.learning import settled, train_encoder
from workers.chest.radiographs import Radiographs, read_radiographs
from workers.chest.recipe import POLICY, Recipe
from workers.medimageinsight import MedImageInsight
from workers.medimageinsight.training import Settling

SHORT = Recipe(
    epochs=1, batch=4, text_steps=2, texts=4, source_px=100, settled=0, unsettled=0
)
ROWS = np.arange(12)


@pytest.fixture(scope="module")
def data(folder: Path) -> Radiographs:
    """Return the made-up radiographs."""
    return read_radiographs(folder, POLICY)


@pytest.fixture(scope="module")
def trained(data: Radiographs) -> MedImageInsight:
    """Return an encoder that has not settled."""
    return train_encoder(data, ROWS, SHORT, seed=1, progress=lambda *_: None)


def again(
    trained: MedImageInsight, data: Radiographs, recipe: Recipe = SHORT
) -> MedImageInsight:
    """Return a copy of the encoder that has settled for three steps."""
    copy = MedImageInsight(trained.config)
    copy.load_state_dict(trained.state_dict())
    recipe = replace(recipe, settled=1)
    return settled(copy, data, ROWS, recipe, seed=1, progress=lambda *_: None)


def test_weights_move_and_the_text_tower_stays(
    trained: MedImageInsight, data: Radiographs
) -> None:
    """Twice the same, to the bit."""
    first, second = (again(trained, data).state_dict() for _ in range(2))
    before = trained.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    moved = {name for name in first if not torch.equal(first[name], before[name])}
    assert any(name.startswith("image_encoder.") for name in moved)
    text = [name for name in moved if name.startswith("lang_")]
    assert all(torch.equal(first[n], before[n].half().float()) for n in text)


def test_at_no_rate_nothing_moves(trained: MedImageInsight, data: Radiographs) -> None:
    """The mean of equal weights is what it began from: the float16 that is stored."""
    still = again(trained, data, replace(SHORT, settled_rate=0.0)).state_dict()
    before = trained.state_dict()
    assert all(
        torch.allclose(still[n], before[n].half().float(), atol=1e-7) for n in still
    )


def test_the_mean_is_that_of_the_last_steps(
    trained: MedImageInsight, data: Radiographs
) -> None:
    """Without the first two of three steps it is the third one's weights."""
    name = "image_projection"
    every, last = (
        again(trained, data, replace(SHORT, unsettled=skipped)).state_dict()[name]
        for skipped in (0, 2)
    )
    assert not torch.equal(every, last)


def test_something_must_count() -> None:
    """More steps than those that are left out."""
    with pytest.raises(ValueError, match="some steps must count"):
        Settling(steps=150, learning_rate=1e-3)
