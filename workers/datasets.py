"""Whether a model has seen the images that it is tested on: data sets by their names.

A figure measured on training data says nothing. Data sets go by many names, and some
were made of others, so names are compared without case, punctuation and version, and
families of one origin count as one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FAMILIES = (
    (
        *("chestxray14", "chestxray8", "cxr8", "cxr14", "nihcxr", "nihcxr14"),
        *("nihchestxray", "nihchestxray14", "nihchestxrays", "nihcxrlt", "cxrlt"),
    ),
    ("mimiccxr", "mimiccxrjpg", "mimiccxrlt", "cxrlt"),
    ("chexpert", "chexpertplus", "chexlocalize"),
    ("lidc", "lidcidri", "luna16", "luna"),
    ("rsnaboneage", "rsnapediatricboneage", "rsnapediatricboneagechallenge"),
    ("rsnamammo", "rsnamammography", "rsnabreastcancer", "rsnabreastcancerdetection"),
    ("odir", "odir5k"),
    ("pcam", "patchcamelyon", "camelyon16"),
    ("padufes", "padufes20"),
    ("sd198", "sd260"),
    ("isic2019", "ham10000", "bcn20000"),
    ("irma", "irma2005", "irma2009", "imageclef2009"),
    ("upenngbm", "upenngbmtcia"),
)
"""Names of one origin: derived from one another, or sharing images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A test set, and the training set whose images it may hold."""

    tested_on: str
    trained_on: str

    def __str__(self) -> str:
        return (
            f"the encoder was trained on {self.trained_on}, "
            f"so figures measured on {self.tested_on} may flatter it"
        )


def overlap(
    training_data: Iterable[str], test_sets: Iterable[str]
) -> tuple[Overlap, ...]:
    """Return the test sets that may hold images of the training data, in their order.

    What no list names (other names, private copies) cannot be found: no overlap found
    is no proof that there is none.
    """
    trained = list(training_data)
    return tuple(
        Overlap(tested_on=tested, trained_on=name)
        for tested in test_sets
        for name in trained
        if _related(bare_name(tested), bare_name(name))
    )


def bare_name(name: str) -> str:
    """Return a data set's name without case, punctuation and version: ``v2``, ``v1.0``.

    A remark in parentheses is left out; a number that is part of the name stays.
    """
    plain = re.sub(r"\(.*?\)", "", name.casefold())
    plain = re.sub(r"(?<=[a-z0-9])[\s_.-]*v\d+(\.\d+)*\s*$", "", plain.strip())
    return re.sub(r"[^a-z0-9]+", "", plain)


def _related(one: str, other: str) -> bool:
    if not one or not other:
        return False
    return one == other or any(one in names and other in names for names in _FAMILIES)
