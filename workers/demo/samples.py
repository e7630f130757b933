"""Phantoms as arrays of small images, with their truth: what is learned and measured.

Images are rendered at little more than the encoder's own size and reduced by the
node's policy, which is close to, and some fifty times faster than, going through
full-size DICOM.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from workers.phantoms import (
    ANY_CHEST,
    CHEST_FINDINGS,
    CHEST_KINDS,
    HEAD_FINDINGS,
    HEAD_KINDS,
    ChestPhantom,
    HeadPhantom,
    ct_grey,
    phantom,
    radiograph_grey,
)

FINDINGS: Final = (*CHEST_FINDINGS, *HEAD_FINDINGS)
LEARNED_SLICES: Final = 3
_CHUNK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Matrix sizes in pixels: of the encoder, and of chests and heads as acquired."""

    encoder: int
    chest: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A phantom to be rendered.

    Parameters
    ----------
    slices
        Of a head: how many, evenly spaced; 0 asks for a few to learn from.
    """

    kind: str
    seed: int
    sizes: Sizes
    slices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images of many phantoms.

    Parameters
    ----------
    images
        (N, S, S) uint8.
    shown
        (N, len(FINDINGS)) bool: what this very image shows.
    study
        (N,) which phantom, as an index of `truth` and `kinds`.
    truth
        (studies, len(FINDINGS)) bool.
    """

    images: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    study: NDArray[np.int64]
    truth: NDArray[np.bool_]
    kinds: tuple[str, ...]

    @property
    def head(self) -> NDArray[np.bool_]:
        """(studies,) bool: a head scan, not a chest."""
        return np.array([kind in HEAD_KINDS for kind in self.kinds])


def orders(
    counts: tuple[int, int], first_seed: int, sizes: Sizes, *, slices: int
) -> list[Order]:
    """Return orders for so many phantoms of every chest kind and every head kind."""
    chests, heads = counts
    every = [(kind, chests) for kind in CHEST_KINDS]
    every += [(kind, heads) for kind in HEAD_KINDS]
    return [
        Order(kind=kind, seed=first_seed + index, sizes=sizes, slices=slices)
        for kind, count in every
        for index in range(count)
    ]


def orders_to_learn(
    counts: tuple[int, int], first_seed: int, sizes: Sizes
) -> list[Order]:
    """Return orders for so many chests with any findings, and of every head kind.

    Findings that are there as often as not, and in any company, are learned from
    far fewer images than one at a time.
    """
    chests, heads = counts
    any_chests = [
        Order(kind=ANY_CHEST, seed=first_seed + index, sizes=sizes)
        for index in range(chests)
    ]
    return any_chests + orders((0, heads), first_seed, sizes, slices=0)


def render(wanted: Sequence[Order], *, processes: int) -> Samples:
    """Return the ordered phantoms' images, in order, drawn by several processes.

    Each with one thread: the matrices are small, and more threads get in each other's
    way.
    """
    if processes == 1:
        with threadpool_limits(1):
            return _gather(map(_draw, wanted), wanted)
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=threadpool_limits,
        initargs=(1,),
    )
    with pool:
        return _gather(pool.map(_draw, wanted, chunksize=_CHUNK), wanted)


_Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]


def _draw(order: Order) -> _Drawn:
    """Images (n, S, S), what each shows (n, F), what the patient has (F,)."""
    made = phantom(order.kind, order.seed)
    truth = np.array([finding in made.findings for finding in FINDINGS])
    if isinstance(made, ChestPhantom):
        image = radiograph_grey(
            made.pixels(order.sizes.chest), order.sizes.encoder, inverted=made.inverted
        )
        return image[None], truth[None], truth
    levels = made.levels(order.slices) if order.slices else _learned_levels(made)
    images = [
        ct_grey(made.pixels(level, order.sizes.head), order.sizes.encoder)
        for level in levels
    ]
    shown = np.array([truth & made.shows(level) for level in levels])
    return np.stack(images), shown, truth


def _learned_levels(made: HeadPhantom) -> tuple[float, ...]:
    """Levels to learn from: of a bleed, most of them where it is plain to see.

    Those of other heads are as often in the middle, so that the level tells nothing.
    """
    rng = np.random.default_rng(made.seed)
    levels = rng.uniform(0.04, 0.96, LEARNED_SLICES)
    bleed = made.head.bleed
    middle, reach = rng.uniform(0.34, 0.72), rng.uniform(0.10, 0.17)
    if bleed is not None:
        middle, reach = bleed.level, bleed.extent
    levels[1:] = middle + reach * rng.uniform(-0.8, 0.8, 2)
    return tuple(float(level) for level in levels)


def _gather(drawn: Iterable[_Drawn], wanted: Sequence[Order]) -> Samples:
    images, shown, truth, study = [], [], [], []
    for index, (image, seen, has) in enumerate(drawn):
        images.append(image)
        shown.append(seen)
        truth.append(has)
        study += [index] * len(image)
    return Samples(
        images=np.concatenate(images),
        shown=np.concatenate(shown),
        study=np.array(study),
        truth=np.stack(truth),
        kinds=tuple(order.kind for order in wanted),
    )
