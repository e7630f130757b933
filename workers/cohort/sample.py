"""A folder of labelled images to try things with: drawn chests, as plain PNG files.

The table beside them is of the kind that public data sets come with: a line for each
image, its findings in one column. Nobody exists: the chests are `workers.phantoms`,
from seeds that the demonstration pack was not trained on.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dicom_node.errors import Permanent
from workers.phantoms import CHEST_KINDS, ChestPhantom, phantom, radiograph_grey
from workers.placing import Progress

TABLE = "table.csv"
NOTHING = "No Finding"

_FIRST_SEED = 7_000_000
_SIZE_PX = 192
_OF, _TWICE = 8, 2
"""Of so many patients in a row, that many have two images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn: how many images, of how many patients."""

    images: int
    patients: int


def draw(
    folder: Path, *, patients: int, seed: int, finding: str, progress: Progress
) -> Drawn:
    """Return what was drawn into an empty `folder`: images, and ``table.csv``.

    Parameters
    ----------
    patients
        Half of them have the finding.
    finding
        One of `CHEST_KINDS`, the first of which is a chest without any.

    Raises
    ------
    Permanent
        If it is none of them.
    """
    if finding not in CHEST_KINDS[1:]:
        raise Permanent(
            f"there is no drawn {finding}: it is one of {', '.join(CHEST_KINDS[1:])}"
        )
    rows: list[list[str | int]] = []
    for number in range(patients):
        kind = finding if number % 2 else CHEST_KINDS[0]
        who = _chest(kind, seed, 2 * number).patient
        for again in range(2 if number % _OF < _TWICE else 1):
            drawn = _chest(kind, seed, 2 * number + again)
            name = f"{len(rows):05}.png"
            grey = radiograph_grey(
                drawn.pixels(_SIZE_PX), _SIZE_PX, inverted=drawn.inverted
            )
            Image.fromarray(grey).save(folder / name)
            about = (who.sex, who.age_years, drawn.view)
            rows.append([name, f"P{number:04}", _said(drawn), *about])
        progress("drawing", number + 1, patients)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", "labels", "sex", "age", "view"])
        writer.writerows(rows)
    return Drawn(images=len(rows), patients=patients)


def _chest(kind: str, seed: int, number: int) -> ChestPhantom:
    drawn = phantom(kind, _FIRST_SEED + 1_000_000 * seed + number)
    if not isinstance(drawn, ChestPhantom):
        raise TypeError(f"{kind} is no chest")
    return drawn


def _said(drawn: ChestPhantom) -> str:
    return "|".join(sorted(drawn.findings)) or NOTHING
