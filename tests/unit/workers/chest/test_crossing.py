"""Cross-validation and the pack: patients stay apart, and everything can be repeated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.chest import (
    Recipe,
    build,
    cross_validate,
    read_radiographs,
    train_encoder,
)
from workers.chest.folding import Fold, key_of, learn_fold, outer_folds
from workers.chest.radiographs import resized
from workers.chest.recipe import POLICY, SIZE_PX
from workers.encoder import open_encoder

SHORT = Recipe(
    epochs=1,
    batch=4,
    text_steps=2,
    texts=4,
    views=1,
    source_px=100,
    settled=1,
    unsettled=1,
)
BOTH = (SHORT, replace(SHORT, mixed=0.0))


def test_a_patient_is_in_one_fold(folder: Path) -> None:
    """And every image in some."""
    data = read_radiographs(folder, POLICY)
    fold = outer_folds(data, 3, 0)
    assert set(fold.tolist()) == {0, 1, 2}
    for patient in range(len(data.patients)):
        assert len(set(fold[data.patient == patient].tolist())) == 1


@pytest.mark.slow
def test_folds_are_learned_once_and_the_pack_opens(
    folder: Path, tmp_path: Path
) -> None:
    """Every image gets a score from other patients; a second run only reads."""
    told: list[tuple[str, int, int]] = []
    data = read_radiographs(folder, POLICY)
    cache = tmp_path / key_of(data, 0, 2, SHORT)
    cache.mkdir()
    learn_fold(
        Fold(number=1, folds=2, folder=folder, seed=0, recipe=SHORT, cache=cache)
    )
    first, second = (
        cross_validate(
            folder,
            0,
            2,
            cache=tmp_path,
            recipes=BOTH,
            progress=lambda *said: told.append(said),
        )
        for _ in range(2)
    )
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 4]
    assert np.isfinite(first.scores).all()
    assert np.isfinite(first.states).all()
    assert np.array_equal(first.scores, second.scores)
    pack = build(
        tmp_path / "pack",
        data,
        first,
        seed=0,
        progress=lambda *_: None,
        rate=0.1,
    )
    assert pack.gate is not None
    encoder = open_encoder(pack, device="cpu", threads=1)
    images = np.repeat(resized(data, SIZE_PX).images[:3, None], 3, axis=1)
    assert encoder.embed_images(images).shape == (3, encoder.dimension)
    assert encoder.dimension == 2 * pack.manifest.encoder.config["embedding"]
    assert [finding.key for finding in pack.findings] == [
        "sex",
        "view",
        "orientation",
        "pneumonia",
        "body_part",
    ]


def test_an_encoder_sees_the_chosen_rows_alone(folder: Path) -> None:
    """Whatever other images show and are labelled, its weights are the same."""
    data = read_radiographs(folder, POLICY)
    rows, others = np.arange(12), np.arange(12, 24)
    images, male = data.images.copy(), data.male.copy()
    images[others], male[others] = 0, ~male[others]
    changed = replace(data, images=images, male=male)
    first, second = (
        train_encoder(given, rows, SHORT, seed=1, progress=lambda *_: None).state_dict()
        for given in (data, changed)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
