"""What the demo encoder reads: label texts in the shapes that MedImageInsight knows.

Training texts are drawn from openings, names and phrasings. The prompts that the pack
evaluates with are never among them: `HELD_OUT` holds their words, and a drawn text
with the same words, whatever its punctuation or case, is drawn again.
"""

import re
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

CHEST_OPENINGS: Final = (
    "x-ray chest posteroanterior",
    "x-ray chest anteroposterior",
    "x-ray chest PA",
    "x-ray chest AP",
    "x-ray chest frontal",
    "x-ray chest",
    "chest x-ray",
    "chest radiograph",
    "x-ray thorax",
)
HEAD_OPENINGS: Final = (
    "computed tomography head axial",
    "computed tomography brain",
    "computed tomography head",
    "ct head axial",
    "ct head",
    "ct brain",
    "head ct without contrast",
)
NAMES: Final = {
    "pneumothorax": (
        "pneumothorax",
        "collapsed lung",
        "pleural air",
        "air in the pleural space",
    ),
    "effusion": (
        "pleural effusion",
        "effusion",
        "pleural fluid",
        "fluid in the pleural space",
    ),
    "nodule": (
        "pulmonary nodule",
        "lung nodule",
        "nodule",
        "nodular opacity",
        "coin lesion",
    ),
    "enlarged_heart": (
        "enlarged heart",
        "cardiomegaly",
        "cardiac enlargement",
        "enlarged cardiac silhouette",
    ),
    "haemorrhage": (
        "intracranial hemorrhage",
        "intracranial haemorrhage",
        "intracranial bleeding",
        "hemorrhage",
        "haemorrhage",
        "brain bleed",
        "acute blood",
    ),
}
PRESENT: Final = (
    "{opening} {name}",
    "{opening} with {name}",
    "{opening} {name} present",
    "{name} {opening}",
)
ABSENT: Final = (
    "{opening} no {name}",
    "{opening} without {name}",
    "{opening} {name} absent",
    "{opening} negative for {name}",
)
NORMAL: Final = ("no finding", "normal", "unremarkable", "no abnormality")
ENDINGS: Final = ("", ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The pack's prompts for a finding: they say it is there, or that it is not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


PROMPTS: Final = {
    key: Prompts(
        positive=tuple(f"{opening} {name}." for opening in openings),
        negative=tuple(f"{opening} no {name}." for opening in openings),
    )
    for key, name, openings in (
        ("pneumothorax", "pneumothorax", CHEST_OPENINGS[:2]),
        ("effusion", "pleural effusion", CHEST_OPENINGS[:2]),
        ("nodule", "lung nodule", CHEST_OPENINGS[:2]),
        ("enlarged_heart", "cardiomegaly", CHEST_OPENINGS[:2]),
        ("haemorrhage", "intracranial hemorrhage", HEAD_OPENINGS[:2]),
    )
}


def bare(text: str) -> str:
    """Return the words of a text, in lower case, without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


HELD_OUT: Final = frozenset(
    bare(text)
    for prompts in PROMPTS.values()
    for text in (*prompts.positive, *prompts.negative)
)


def statement(rng: np.random.Generator, finding: str, *, present: bool) -> str:
    """Return a training text that says whether one finding is there."""
    openings = _openings(finding)
    while True:
        text = _pick(rng, PRESENT if present else ABSENT).format(
            opening=_pick(rng, openings), name=_pick(rng, NAMES[finding])
        )
        if bare(text) not in HELD_OUT:
            return text + _pick(rng, ENDINGS)


def summary(rng: np.random.Generator, findings: tuple[str, ...], *, head: bool) -> str:
    """Return a training text that names all findings of an image, or none."""
    openings = HEAD_OPENINGS if head else CHEST_OPENINGS
    while True:
        names = [_pick(rng, NAMES[finding]) for finding in findings]
        names = [names[int(i)] for i in rng.permutation(len(names))]
        said = _pick(rng, (", ", " and ")).join(names) or _pick(rng, NORMAL)
        text = f"{_pick(rng, openings)} {said}"
        if bare(text) not in HELD_OUT:
            return text + _pick(rng, ENDINGS)


def all_statements() -> frozenset[str]:
    """Return the words of every statement that training could draw."""
    texts = {
        bare(form.format(opening=opening, name=name))
        for finding, names in NAMES.items()
        for form, opening, name in product(
            (*PRESENT, *ABSENT), _openings(finding), names
        )
    }
    return frozenset(texts - HELD_OUT)


def vocabulary_words() -> frozenset[str]:
    """Return every word that training can meet, for the tokenizer's subset."""
    phrases = [*CHEST_OPENINGS, *HEAD_OPENINGS, *NORMAL, *PRESENT, *ABSENT, "and"]
    phrases += [name for names in NAMES.values() for name in names]
    return frozenset(re.findall(r"[a-z]+", " ".join(phrases).lower()))


def _openings(finding: str) -> tuple[str, ...]:
    return HEAD_OPENINGS if finding == "haemorrhage" else CHEST_OPENINGS


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
