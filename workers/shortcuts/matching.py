"""Positives and negatives that a probe cannot tell apart, pair by pair.

Greedy matching on a probe's log odds within a caliper of 0.2 standard deviations
(Austin, Pharm. Stat. 2011; 10: 150-161): each case gets the nearest control that is
left, of another patient, in an order drawn from a seed. Nobody is used twice.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CALIPER_SD: Final = 0.2

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """Rows that were matched.

    Parameters
    ----------
    cases
        (M,) rows of the class that has fewer.
    controls
        (M, k) rows of the other class.
    caliper
        How far a case and its controls may lie apart, in log odds.
    """

    cases: Rows
    controls: Rows
    caliper: float

    @property
    def rows(self) -> Rows:
        """Return all rows, ascending."""
        return np.sort(np.concatenate([self.cases, self.controls.ravel()]))


def match(
    logit: NDArray[np.float64],
    truth: NDArray[np.bool_],
    patient: NDArray[np.integer],
    *,
    seed: int,
    controls: int = 1,
) -> Matched:
    """Return rows of both classes alike in `logit` (N,), `controls` to a case.

    The class that has fewer rows are the cases. A case that does not find all its
    controls is left out. The same input and seed give the same rows.
    """
    rare = bool(truth.sum() * 2 <= len(truth))
    drawn = np.random.default_rng(seed)
    order = drawn.permutation(np.flatnonzero(truth == rare))
    others = drawn.permutation(np.flatnonzero(truth != rare))
    shelf = _Shelf(others[np.argsort(logit[others], kind="stable")], logit)
    spread = np.sqrt((logit[truth].var() + logit[~truth].var()) / 2)
    caliper = float(CALIPER_SD * spread)
    pairs: list[tuple[int, list[int]]] = []
    for case in order.tolist():
        found = shelf.nearest(case, patient, caliper, controls)
        if len(found) == controls:
            shelf.take(found)
            pairs.append((case, [int(shelf.rows[place]) for place in found]))
    pairs.sort()
    return Matched(
        cases=np.array([case for case, _ in pairs], np.intp),
        controls=np.array([rows for _, rows in pairs], np.intp).reshape(-1, controls),
        caliper=caliper,
    )


class _Shelf:
    """Controls in the order of their log odds, with the next one left on either side."""

    def __init__(self, rows: Rows, logit: NDArray[np.float64]) -> None:
        self.rows = rows
        self._logit = logit
        self._values = logit[rows].tolist()
        self._up = list(range(len(rows) + 1))
        self._down = list(range(len(rows) + 1))  # place + 1, 0 is the end

    def nearest(
        self, case: int, patient: NDArray[np.integer], caliper: float, count: int
    ) -> list[int]:
        """Return at most `count` places within the caliper, the nearest first."""
        value = float(self._logit[case])
        start = bisect_left(self._values, value)
        above, below = self._left(self._up, start), self._left(self._down, start)
        found: list[int] = []
        while len(found) < count:
            rise = self._values[above] - value if above < len(self.rows) else np.inf
            fall = value - self._values[below - 1] if below else np.inf
            if min(rise, fall) > caliper:
                break
            place = above if rise <= fall else below - 1
            if rise <= fall:
                above = self._left(self._up, above + 1)
            else:
                below = self._left(self._down, below - 1)
            if patient[self.rows[place]] != patient[case]:
                found.append(place)
        return found

    def take(self, places: list[int]) -> None:
        """Remove controls."""
        for place in places:
            self._up[place] = place + 1
            self._down[place + 1] = place

    @staticmethod
    def _left(links: list[int], place: int) -> int:
        """Return the first place from here on that is left, and shorten the way."""
        end = place
        while links[end] != end:
            end = links[end]
        while links[place] != end:
            links[place], place = end, links[place]
        return end
