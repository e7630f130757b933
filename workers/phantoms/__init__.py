"""Synthetic studies with known findings: a kind and a seed are the whole study."""

from workers.phantoms.grey import CT_WINDOW_HU, PERCENTILES, ct_grey, radiograph_grey
from workers.phantoms.phantom import (
    ANY_CHEST,
    CHEST_FINDINGS,
    CHEST_KINDS,
    HEAD_FINDINGS,
    HEAD_KINDS,
    KINDS,
    ChestPhantom,
    Finding,
    HeadPhantom,
    Patient,
    Phantom,
    Region,
    phantom,
)
from workers.phantoms.study import datasets

__all__ = [
    "ANY_CHEST",
    "CHEST_FINDINGS",
    "CHEST_KINDS",
    "CT_WINDOW_HU",
    "HEAD_FINDINGS",
    "HEAD_KINDS",
    "KINDS",
    "PERCENTILES",
    "ChestPhantom",
    "Finding",
    "HeadPhantom",
    "Patient",
    "Phantom",
    "Region",
    "ct_grey",
    "datasets",
    "phantom",
    "radiograph_grey",
]
