"""Attributes of studies from a CSV: what they are grouped by.

The first column names images (``sop_instance_uid``) or studies (``study``); every other
column is an attribute. Numbers under ``age`` or ``age_years`` become bands. A study whose
images differ belongs to a group of its own, as "AP+PA".
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import Permanent
from workers.evaluating.asked import Groups
from workers.evaluating.sources import Source

MOST_GROUPS: Final = 50
"""An attribute with more is no grouping."""

_NAMES: Final = ("sop_instance_uid", "study")
_AGES: Final = ("age", "age_years")
_MEASURES: Final = ("rows", "columns", "spacing_row_mm", "spacing_column_mm")
"""Columns that a table of `workers.shortcuts` has besides: probed, no groups."""
_BANDS: Final = ((18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79"))
_OLDEST: Final = "80 and over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Attributes by the name of an image, or of a study."""

    of_images: bool
    columns: Mapping[str, Mapping[str, str]]


def read_attributes(path: Path) -> Table:
    """Return the attributes in a CSV file.

    Raises
    ------
    Permanent
        If it is no such file, names a row twice, or an age is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror or error}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
    if not names or names[0] not in _NAMES:
        raise Permanent(f"{path}: the first column must be {' or '.join(_NAMES)}")
    keys = [(row[names[0]] or "").strip() for row in rows]
    if len(set(keys)) < len(keys):
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise Permanent(f"{path}: {twice} is there twice")
    return Table(
        of_images=names[0] == _NAMES[0],
        columns={
            name: dict(zip(keys, _column(path, name, rows), strict=True))
            for name in names[1:]
            if name not in _MEASURES
        },
    )


def groups_of(table: Table, source: Source) -> Groups:
    """Return the group of each row of `source`, by attribute; "" where none is known.

    Raises
    ------
    Permanent
        If the table names none of the rows, an attribute has too many groups, or images
        are named and only a file of scores is there.
    """
    found = {
        name: _of_rows(values, table, source) for name, values in table.columns.items()
    }
    if found and not any(any(groups) for groups in found.values()):
        raise Permanent("the table of attributes names none of these studies")
    for name, groups in found.items():
        if len(set(groups)) > MOST_GROUPS:
            raise Permanent(
                f"attribute {name} has {len(set(groups))} groups: more than "
                f"{MOST_GROUPS} say nothing"
            )
    return found


def merged(groups: Sequence[str], of_row: Sequence[int], rows: int) -> tuple[str, ...]:
    """Return the group of each row from those of its images."""
    found: list[set[str]] = [set() for _ in range(rows)]
    for group, row in zip(groups, of_row, strict=True):
        found[row].add(group)
    return tuple("+".join(sorted(some - {""})) for some in found)


def age_band(text: str) -> str:
    """Return the band of an age in years; "" where there is none.

    Raises
    ------
    ValueError
        If it is no number.
    """
    if not text:
        return ""
    years = float(text)
    if not math.isfinite(years) or years < 0:
        raise ValueError(text)
    return next((band for end, band in _BANDS if years < end), _OLDEST)


def _column(path: Path, name: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    texts = [(row[name] or "").strip() for row in rows]
    if name not in _AGES:
        return texts
    try:
        return [age_band(text) for text in texts]
    except ValueError as error:
        raise Permanent(f"{path}: column {name} holds {error}, no age") from error


def _of_rows(
    values: Mapping[str, str], table: Table, source: Source
) -> tuple[str, ...]:
    if not table.of_images or source.cases.level == "image":
        return tuple(values.get(unit, "") for unit in source.units)
    if source.of_row is None:
        raise Permanent(
            "a file of scores does not say which images a study has: name studies in "
            "the table of attributes"
        )
    of_images = [values.get(image, "") for image in source.images]
    return merged(of_images, source.of_row.tolist(), len(source.units))
