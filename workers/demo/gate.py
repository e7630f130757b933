"""The demo pack's gate: phantoms that nothing was fitted on, and strangers made of them.

Chests are drawn at two matrix sizes: one that was drawn large and then reduced is not
quite one that was drawn small.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.demo.catalogue import ACCEPTS, SIZE_PX
from workers.demo.samples import Order, Samples, Sizes, orders
from workers.gate import Gate
from workers.gate.fitting import Embed, Validation, fit, validation

FILE: Final = "gate.safetensors"
RATE: Final = 0.02
CHEST_SIZES: Final = (144, 144, 384)
HEAD_SIZE: Final = 144
EXPOSED: Final = 1500
"""Chests, and slices of heads, that strangers are made of."""


def demo_orders(
    counts: tuple[int, int], first_seed: int, *, slices: int
) -> list[Order]:
    """Return orders for so many phantoms of each chest and each head kind."""
    drawn = [Sizes(encoder=SIZE_PX, chest=size, head=HEAD_SIZE) for size in CHEST_SIZES]
    return [
        replace(order, sizes=drawn[(order.seed - first_seed) % len(drawn)])
        for order in orders(counts, first_seed, drawn[0], slices=slices)
    ]


def demo_gate(samples: Samples, embed: Embed, *, seed: int) -> Gate:
    """Return the gate of chests and of heads; `embed` is the encoder's, (N, S, S)."""
    parts = [
        _part(samples, tuple(rule["modality"]), head=head, embed=embed, seed=seed)
        for rule, head in zip(ACCEPTS, (False, True), strict=True)
    ]
    return fit(parts, rate=RATE, seed=seed)


def gate_spec(gate: Gate, samples: Samples, first_seed: int) -> dict[str, Any]:
    """Return what the manifest says of the gate."""
    return {
        "file": FILE,
        "kind": gate.kind,
        "threshold": 1.0,
        "rate": RATE,
        "evidence": {
            "validated_on": f"pacsight phantoms, from seed {first_seed}, seen by "
            "nothing before",
            "chests": int((~samples.head).sum()),
            "heads": int(samples.head.sum()),
            "head_slices": int(samples.head[samples.study].sum()),
            "strangers": "the same images inverted, turned by 90, 180 and 270 degrees, "
            "and blank ones",
        },
    }


def _part(
    samples: Samples,
    modalities: tuple[str, ...],
    *,
    head: bool,
    embed: Embed,
    seed: int,
) -> Validation:
    rows = np.flatnonzero(samples.head[samples.study] == head)

    def images(chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        return samples.images[rows[chosen]]

    return validation(
        embed(samples.images[rows]),
        samples.study[rows].astype(np.int32),
        images,
        modalities=modalities,
        embed=embed,
        exposed=EXPOSED,
        seed=seed,
    )
