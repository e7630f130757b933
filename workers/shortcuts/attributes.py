"""What is known of images beside their anatomy, in columns; and its CSV.

The columns group images for the evaluation by subgroup, and are what probes look at.
Institutions are numbers here, in the order in which they were met.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.shortcuts.headers import Header
from workers.shortcuts.traces import Trace

NAMES: Final = ("sop_instance_uid", "study", "file")
"""Columns that may name the row of a table, the first that is there."""

_TEXTS: Final = ("sex", "view", "body_part", "scanner", "site")
_NUMBERS: Final = (
    "age_years",
    "rows",
    "columns",
    "spacing_row_mm",
    "spacing_column_mm",
)
_BANDS: Final = ((18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79"))
_OLDEST: Final = "80 and over"

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traces:
    """Features of N images, float32, as `workers.shortcuts.traces.Trace` has them.

    Rows are nan where an image could not be decoded.
    """

    histogram: NDArray[np.float32]
    compressibility: NDArray[np.float32]
    border: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributes:
    """N images, or studies, by column; "" and nan where nothing is stated.

    Parameters
    ----------
    names
        SOP Instance UIDs; of plain images, the names of their files.
    site
        "site 1" and on.
    size_px
        (N, 2) float64: rows, columns.
    spacing_mm
        (N, 2) float64: between rows, between columns.
    traces
        None where the pixels were not looked at.
    unreadable
        Names of images without pixels, and why.
    """

    names: tuple[str, ...]
    sex: tuple[str, ...]
    age_years: Numbers
    view: tuple[str, ...]
    body_part: tuple[str, ...]
    scanner: tuple[str, ...]
    site: tuple[str, ...]
    size_px: Numbers
    spacing_mm: Numbers
    traces: Traces | None = None
    unreadable: tuple[tuple[str, str], ...] = ()

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Return by attribute the group of each row, "" where it is not known."""
        return {
            "sex": self.sex,
            "age": tuple(age_band(float(age)) for age in self.age_years),
            "view": self.view,
            "body part": self.body_part,
            "scanner": self.scanner,
            "site": self.site,
        }

    def merged(self, into: NDArray[np.integer], names: Sequence[str]) -> "Attributes":
        """Return the table of larger units, as studies: row `into[i]` takes row i.

        Numbers and features are averaged over what is known; texts that differ are
        joined by "+". A unit that no row belongs to is empty.
        """
        rows = _members(into, len(names))
        texts = {name: _joined(getattr(self, name), rows) for name in _TEXTS}
        traces = self.traces and Traces(
            histogram=_averaged(self.traces.histogram, rows).astype(np.float32),
            compressibility=_averaged(self.traces.compressibility, rows).astype(
                np.float32
            ),
            border=_averaged(self.traces.border, rows).astype(np.float32),
        )
        return Attributes(
            names=tuple(names),
            age_years=_averaged(self.age_years[:, None], rows)[:, 0],
            size_px=_averaged(self.size_px, rows),
            spacing_mm=_averaged(self.spacing_mm, rows),
            traces=traces,
            unreadable=self.unreadable,
            **texts,
        )

    def overlaid(self, stated: "Attributes") -> "Attributes":
        """Return them with what a table states of the same rows in the header's place."""
        texts: dict[str, Any] = {
            name: tuple(
                said or own
                for said, own in zip(
                    getattr(stated, name), getattr(self, name), strict=True
                )
            )
            for name in _TEXTS
        }
        numbers = {
            name: np.where(
                np.isfinite(getattr(stated, name)),
                getattr(stated, name),
                getattr(self, name),
            )
            for name in ("age_years", "size_px", "spacing_mm")
        }
        return replace(self, **texts, **numbers)

    def reordered(self, names: Sequence[str]) -> "Attributes":
        """Return the rows of these names, in their order; empty ones where unknown."""
        place = {name: row for row, name in enumerate(names)}
        into = np.array([place.get(name, -1) for name in self.names])
        return self.merged(into, names)


def age_band(years: float) -> str:
    """Return the band of an age: "0-17" to "80 and over", "" where it is not known."""
    if math.isnan(years):
        return ""
    return next((band for end, band in _BANDS if years < end), _OLDEST)


def attributes_of(
    names: Sequence[str],
    headers: Sequence[Header],
    traces: Sequence[Trace] | None,
    *,
    unreadable: tuple[tuple[str, str], ...] = (),
) -> Attributes:
    """Return the table of images: institutions become numbers."""
    places = {h.place: "" for h in headers}
    known = [place for place in places if place]
    places |= {place: f"site {number}" for number, place in enumerate(known, 1)}
    return Attributes(
        names=tuple(names),
        sex=tuple(h.sex for h in headers),
        age_years=np.array([h.age_years for h in headers], np.float64),
        view=tuple(h.view for h in headers),
        body_part=tuple(h.body_part for h in headers),
        scanner=tuple(h.scanner for h in headers),
        site=tuple(places[h.place] for h in headers),
        size_px=_known([(h.rows, h.columns) for h in headers]),
        spacing_mm=_known([h.spacing_mm for h in headers]),
        traces=None if traces is None else _stacked(traces),
        unreadable=unreadable,
    )


def write_attributes(attributes: Attributes, path: Path) -> None:
    """Write a CSV: what headers say, and the age band. No features of pixels."""
    numbers = np.column_stack(
        [attributes.age_years, attributes.size_px, attributes.spacing_mm]
    )
    texts = [getattr(attributes, name) for name in _TEXTS]
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([NAMES[0], *_TEXTS, "age_band", *_NUMBERS])
            for row, name in enumerate(attributes.names):
                values = [f"{v:g}" if np.isfinite(v) else "" for v in numbers[row]]
                band = age_band(float(numbers[row, 0]))
                table.writerow([name, *(text[row] for text in texts), band, *values])
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror or error}") from error


def read_attributes(path: Path) -> Attributes:
    """Return the table that a CSV holds; columns that are not there are empty.

    Raises
    ------
    Permanent
        If no column names the rows, one is named twice, or a number is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Permanent(f"{path} cannot be read as a table: {error}") from error
    column = next((name for name in NAMES if rows and name in rows[0]), None)
    if column is None:
        raise Permanent(f"{path} has no rows named by one of {', '.join(NAMES)}")
    names = tuple(row[column] for row in rows)
    if len(set(names)) != len(names):
        raise Permanent(f"{path} names a row twice")
    numbers = {name: _numbers(rows, name, path) for name in _NUMBERS}
    age = numbers["age_years"]
    age = np.where(np.isfinite(age), age, _numbers(rows, "age", path))
    return Attributes(
        names=names,
        sex=_texts(rows, "sex"),
        age_years=age,
        view=_texts(rows, "view"),
        body_part=_texts(rows, "body_part"),
        scanner=_texts(rows, "scanner"),
        site=_texts(rows, "site"),
        size_px=np.column_stack([numbers["rows"], numbers["columns"]]),
        spacing_mm=np.column_stack(
            [numbers["spacing_row_mm"], numbers["spacing_column_mm"]]
        ),
    )


def _texts(rows: list[dict[str, str]], name: str) -> tuple[str, ...]:
    return tuple((row.get(name) or "").strip() for row in rows)


def _numbers(rows: list[dict[str, str]], name: str, path: Path) -> Numbers:
    texts = [(row.get(name) or "").strip() for row in rows]
    try:
        found = [float(text) if text else math.nan for text in texts]
    except ValueError:
        raise Permanent(f"{path} has a {name} that is no number") from None
    return np.array(found, np.float64)


def _known(pairs: Iterable[tuple[float, float]]) -> Numbers:
    """Return pairs (N, 2), nan for what is not above 0."""
    found = np.array(list(pairs), np.float64).reshape(-1, 2)
    return np.where(found > 0, found, np.nan)


def _stacked(traces: Sequence[Trace]) -> Traces:
    return Traces(
        histogram=np.stack([trace.histogram for trace in traces]),
        compressibility=np.stack([trace.compressibility for trace in traces]),
        border=np.stack([trace.border for trace in traces]),
    )


def averaged(
    values: NDArray[np.floating], into: NDArray[np.integer], count: int
) -> Numbers:
    """Return means (count, D) of what is known in rows (N, D): row i goes to `into[i]`."""
    return _averaged(values, _members(into, count))


def _members(into: NDArray[np.integer], count: int) -> list[NDArray[np.intp]]:
    """Return the rows of each of `count` units; negative numbers are of none."""
    order = np.argsort(into, kind="stable")
    starts = np.searchsorted(into[order], np.arange(count + 1))
    return [order[first:last] for first, last in pairwise(starts)]


def _joined(
    texts: tuple[str, ...], rows: Sequence[NDArray[np.intp]]
) -> tuple[str, ...]:
    return tuple("+".join(sorted({texts[r] for r in unit} - {""})) for unit in rows)


def _averaged(
    values: NDArray[np.floating], rows: Sequence[NDArray[np.intp]]
) -> Numbers:
    """Return the mean of each unit's rows (U, D), nan where there is none."""
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0)
    total = np.array([filled[unit].sum(0) for unit in rows])
    count = np.array([seen[unit].sum(0) for unit in rows])
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
