"""The shipped gate on a few strangers of each kind; ``tests/benchmarks/gate.py`` on many."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import strangers
from workers.demo.samples import Samples, Sizes, orders, render
from workers.encoder import Encoder, open_encoder
from workers.pack import Pack, locate, open_pack

UNSEEN = 9_100_000_000
COUNT = 40
Judge = Callable[[NDArray[np.uint8], str], NDArray[np.bool_]]


@pytest.fixture(scope="module")
def shipped() -> Pack:
    """Return the shipped pack."""
    return open_pack(locate("phantoms"))


@pytest.fixture(scope="module")
def outside(shipped: Pack) -> Judge:
    """Return what tells which images, (N, 3, S, S) uint8, are outside, each by itself."""
    encoder: Encoder = open_encoder(shipped, device="cpu", threads=1)
    gate = shipped.gate
    assert gate is not None
    return lambda images, modality: (
        gate.distances(encoder.embed_images(np.ascontiguousarray(images)), modality)
        > gate.limit
    )


@pytest.fixture(scope="module")
def unseen(shipped: Pack) -> Samples:
    """Return phantoms from seeds that nothing has seen."""
    sizes = Sizes(encoder=shipped.preprocessing.size, chest=144, head=144)
    return render(orders((8, 3), UNSEEN, sizes, slices=8), processes=1)


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (N, 3, S, S) of (N, S, S)."""
    return np.repeat(images[:, None], 3, axis=1)


@pytest.mark.parametrize("modality", ["DX", "CT"])
def test_few_unseen_phantoms_are_outside(
    modality: str, unseen: Samples, outside: Judge
) -> None:
    """2 in 100; of 40, a few more may be by chance."""
    rows = unseen.head[unseen.study] == (modality == "CT")
    assert outside(grey(unseen.images[rows]), modality).mean() <= 0.125


@pytest.mark.parametrize("modality", [pytest.param("DX", marks=pytest.mark.slow), "CT"])
def test_strangers_are_outside(
    modality: str, unseen: Samples, outside: Judge, shipped: Pack
) -> None:
    """Nine in ten at least of each kind, whether the gate was tuned on it or not."""
    rows = np.flatnonzero(unseen.head[unseen.study] == (modality == "CT"))
    made = strangers.of_heads if modality == "CT" else strangers.of_chests
    kinds = made(shipped.preprocessing, COUNT, None) | strangers.of_validated(
        grey(unseen.images[rows]), COUNT
    )
    caught = {name: outside(images, modality).mean() for name, images in kinds.items()}
    assert {name for name, share in caught.items() if share < 0.9} == set(), caught


def test_a_head_in_place_of_a_chest_is_outside(unseen: Samples, outside: Judge) -> None:
    """Each modality has a range of its own; so the other way round."""
    head = unseen.head[unseen.study]
    assert outside(grey(unseen.images[head]), "DX").mean() >= 0.95
    assert outside(grey(unseen.images[~head]), "CT").mean() >= 0.95


@pytest.mark.corpus
def test_fruit_is_no_brain(outside: Judge, shipped: Pack, shared: Path) -> None:
    """Slices of the real series, one in five, whatever its header says."""
    images = [
        strangers.as_input(stored, shipped.preprocessing, "MR")
        for stored in strangers.fruit(shared, COUNT)
    ]
    assert outside(np.stack(images), "CT").mean() >= 0.95
