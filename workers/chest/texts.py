"""What the chest encoder reads: short label texts, in MedImageInsight's shapes.

A text is an opening and what is said of the image: one topic at a time. Each topic has
values that exclude one another, and each value has several wordings.
"""

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

OPENINGS: Final = ("x-ray chest", "chest x-ray", "chest radiograph", "x-ray thorax")
ENDINGS: Final = ("", ".")

SEX: Final = (
    ("female", "woman", "female patient"),
    ("male", "man", "male patient"),
)
VIEW: Final = (
    ("posteroanterior", "PA", "PA view", "posteroanterior view"),
    ("anteroposterior", "AP", "AP view", "anteroposterior view"),
)
PNEUMONIA: Final = (
    ("no finding", "normal", "no pneumonia", "without pneumonia"),
    ("pneumonia", "with pneumonia", "pneumonia present"),
)
AGE: Final = (
    ("child", "pediatric", "pediatric patient"),
    ("young adult", "young patient"),
    ("middle aged", "middle aged patient"),
    ("elderly", "old patient", "elderly patient"),
)
TURN: Final = (
    ("upright", "upright image"),
    ("turned to the left", "image turned to the left"),
    ("upside down", "image upside down"),
    ("turned to the right", "image turned to the right"),
)
SIDES: Final = (
    ("patient left on image right", "heart on image right"),
    ("mirrored", "mirrored image", "heart on image left"),
)
GREY: Final = (
    ("bright bones", "ordinary grey scale"),
    ("dark bones", "inverted grey scale", "inverted"),
)

TOPICS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "sex": SEX,
    "view": VIEW,
    "pneumonia": PNEUMONIA,
    "age": AGE,
    "turn": TURN,
    "sides": SIDES,
    "grey": GREY,
}
"""Wordings by topic and value."""

AGES_FROM: Final = (18.0, 40.0, 60.0)
"""Years from which the second, third and fourth value of `AGE` hold."""


def text(rng: np.random.Generator, topic: str, value: int) -> str:
    """Return a text that says this of an image."""
    said = _pick(rng, TOPICS[topic][value])
    return f"{_pick(rng, OPENINGS)} {said}{_pick(rng, ENDINGS)}"


def vocabulary_words() -> frozenset[str]:
    """Return every word that training can meet, for the tokenizer's subset."""
    said = [
        wording for topic in TOPICS.values() for value in topic for wording in value
    ]
    return frozenset(re.findall(r"[a-z]+", " ".join([*OPENINGS, *said]).lower()))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
