"""Which attributes are given to which probe, as columns of numbers.

Attributes of acquisition count for the verdict. Sex and age are looked at beside them:
they may well tell who is ill, and are no matter of how an image was made.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.shortcuts.attributes import Attributes
from workers.shortcuts.nested import Features

FEWEST_OF_A_KIND: Final = 5
"""Rows that a value needs to have a column of its own; rarer ones share one."""

HEADER: Final = ("view", "scanner", "site", "body part", "matrix", "spacing")
_OF_KINDS: Final = ("view", "scanner", "site", "body part")
HEADER_TOGETHER: Final = "header together"
PERSON: Final = "sex and age"
PIXELS: Final = ("histogram", "compressibility", "border and corners")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """What one probe sees.

    Parameters
    ----------
    features
        (N, D) float32, nan where nothing is known; D may be 0.
    counts
        Whether the verdict looks at it.
    kinds
        Whether it is one attribute of kinds, a column each.
    """

    name: str
    features: Features
    counts: bool = True
    kinds: bool = False

    @property
    def silent(self) -> str:
        """Return why nothing can be learnt from it; "" where something may be."""
        known = np.isfinite(self.features)
        if not known.any():
            return "not known of any image"
        low = np.where(known, self.features, np.inf).min(0)
        high = np.where(known, self.features, -np.inf).max(0)
        varies = (high > low) | (known.any(0) & ~known.all(0))
        return "" if varies.any() else "the same in every image"


def families(
    attributes: Attributes, *, leave_out: Iterable[str] = ()
) -> tuple[Family, ...]:
    """Return what each probe sees of the rows of `attributes`.

    Parameters
    ----------
    leave_out
        Attributes that are the label itself: "view", "sex", "age" and the like.
    """
    out = frozenset(leave_out)
    header = {
        "view": _kinds(attributes.view),
        "scanner": _kinds(attributes.scanner),
        "site": _kinds(attributes.site),
        "body part": _kinds(attributes.body_part),
        "matrix": _measures(attributes.size_px),
        "spacing": _measures(attributes.spacing_mm),
    }
    person = {"sex": _kinds(attributes.sex), "age": _single(attributes.age_years)}
    together = [header[name] for name in HEADER if name not in out]
    found = [
        Family(name=name, features=header[name], kinds=name in _OF_KINDS)
        for name in HEADER
        if name not in out
    ]
    found.append(Family(name=HEADER_TOGETHER, features=_beside(together)))
    if attributes.traces is not None:
        seen = attributes.traces
        views = (seen.histogram, seen.compressibility, seen.border)
        found += [
            Family(name=n, features=v) for n, v in zip(PIXELS, views, strict=True)
        ]
    of_person = [features for name, features in person.items() if name not in out]
    found.append(Family(name=PERSON, features=_beside(of_person), counts=False))
    return tuple(found)


def _beside(parts: list[Features]) -> Features:
    return np.column_stack(parts).astype(np.float32)


def _kinds(values: tuple[str, ...]) -> Features:
    """Return a column for each frequent value, and one for the others; "" is nan.

    A single value known everywhere gives one column of ones.
    """
    count = Counter(value for value in values if value)
    frequent = sorted(value for value, n in count.items() if n >= FEWEST_OF_A_KIND)
    column = {value: place for place, value in enumerate(frequent)}
    width = len(frequent) + (len(frequent) < len(count))
    features = np.zeros((len(values), width), np.float32)
    for row, value in enumerate(values):
        if value:
            features[row, column.get(value, width - 1)] = 1
        else:
            features[row] = np.nan
    return features


def _measures(pairs: NDArray[np.float64]) -> Features:
    """Return the pair, the ratio, the product's logarithm, and its frequent kinds."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, size = pairs[:, 0] / pairs[:, 1], np.log(pairs[:, 0] * pairs[:, 1])
    named = tuple(
        "" if np.isnan(p).any() else f"{p[0]:.4g} x {p[1]:.4g}" for p in pairs
    )
    return _beside(
        [pairs.astype(np.float32), _single(ratio), _single(size), _kinds(named)]
    )


def _single(values: NDArray[np.float64]) -> Features:
    return values[:, None].astype(np.float32)
