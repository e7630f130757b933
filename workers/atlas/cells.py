"""Nobody is alone in an atlas: a floor of patients for whatever a case is found by.

Pure. A cell is a finding that is present, a modality and a body part; cases without any
such finding share a cell of their own. A case of which one cell holds fewer patients
than the floor is left out, and so on until no cell is under it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.atlas.manifest import Cell

CellKey = tuple[str, str, str]
"""Finding, modality, body part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What places a case into cells: its patient, and what is present in it."""

    patient: int
    modality: str
    body_part: str
    present: tuple[str, ...]

    @property
    def cells(self) -> tuple[CellKey, ...]:
        """Return the cells of the case, at least one."""
        found = self.present or ("",)
        return tuple((finding, self.modality, self.body_part) for finding in found)


def over_the_floor(cases: Sequence[Placed], floor: int) -> list[int]:
    """Return which of `cases` stay, ascending."""
    stay = list(range(len(cases)))
    while True:
        people = _patients([cases[place] for place in stay])
        kept = [
            place
            for place in stay
            if all(len(people[cell]) >= floor for cell in cases[place].cells)
        ]
        if len(kept) == len(stay):
            return kept
        stay = kept


def counted(cases: Sequence[Placed]) -> tuple[Cell, ...]:
    """Return the cells, in order, and how many cases and patients each has."""
    people, numbers = _patients(cases), defaultdict[CellKey, int](int)
    for case in cases:
        for cell in case.cells:
            numbers[cell] += 1
    return tuple(
        Cell(
            finding=cell[0],
            modality=cell[1],
            body_part=cell[2],
            cases=numbers[cell],
            patients=len(people[cell]),
        )
        for cell in sorted(numbers)
    )


def _patients(cases: Sequence[Placed]) -> Mapping[CellKey, set[int]]:
    people = defaultdict[CellKey, set[int]](set)
    for case in cases:
        for cell in case.cells:
            people[cell].add(case.patient)
    return people
