"""Tables of labels, in and out: one line for each image (or series) and finding.

CSV with a header, in any order of columns: ``patient``, ``study``, one of
``sop_instance_uid`` and ``series_uid``, ``finding``, ``label``, and where wanted
``value``, ``source``, ``role``. A label is 1, 0, ``uncertain`` or ``missing``. A table is
read whole and checked as columns; what is wrong is said once, with its line.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from dicom_node.files import write_durably
from workers.cohort.columns import Coded, columns
from workers.cohort.table import Cohort, Role, Truth, UnitKind

Column = Literal["patient", "study", "unit", "finding", "source", "role"]

_Number = TypeVar("_Number", bound=np.generic)

_NAMED: tuple[Column, ...] = ("patient", "study", "unit", "finding", "source", "role")
_UNITS: tuple[UnitKind, ...] = ("sop_instance_uid", "series_uid")
_NEEDED = ("patient", "study", "finding", "label")
_OPTIONAL = ("value", "source", "role")
_NO_LABEL, _NO_VALUE = -3, math.inf
"""What stands for a label or a value that cannot be read."""
_LABELS = {
    **dict.fromkeys(("1", "1.0"), Truth.PRESENT),
    **dict.fromkeys(("0", "0.0"), Truth.ABSENT),
    **dict.fromkeys(("uncertain", "-1", "-1.0"), Truth.UNCERTAIN),
    **dict.fromkeys(("missing", ""), Truth.MISSING),
}
_WORDS = {
    Truth.PRESENT: "1",
    Truth.ABSENT: "0",
    Truth.UNCERTAIN: "uncertain",
    Truth.MISSING: "missing",
}
_ROLES = {"": None, **{role.value: role for role in Role}}


def read_cohort(path: Path) -> Cohort:
    """Return the labels of a table.

    Raises
    ------
    Permanent
        If it is no such table, or contradicts itself; the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = _Rows(path=path)
            rows.read(csv.reader(file, strict=True))
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
    return _cohort(rows)


def write_cohort(cohort: Cohort, path: Path) -> None:
    """Write a table that `read_cohort` reads as the same cohort.

    Labels of which nothing is said are left out, except that a unit without any keeps
    one line.
    """
    out = StringIO(newline="")
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow([*_NEEDED[:2], cohort.unit_kind, *_NEEDED[2:], *_OPTIONAL])
    told = cohort.said | (cohort.source >= 0)
    told[:, 0] |= ~told.any(axis=1)
    # every finding is named somewhere, so that reading finds it again
    told[0] |= ~told.any(axis=0)
    for unit, column in zip(*(index.tolist() for index in told.nonzero()), strict=True):
        lines.writerow(_line(cohort, unit, column))
    write_durably(path, out.getvalue().encode())


def _line(cohort: Cohort, unit: int, column: int) -> list[str]:
    patient = int(cohort.patient[unit])
    value = float(cohort.values[unit, column])
    source = int(cohort.source[unit, column])
    return [
        cohort.patients[patient],
        cohort.studies[int(cohort.study[unit])],
        cohort.units[unit],
        cohort.findings[column],
        _WORDS[Truth(int(cohort.truth[unit, column]))],
        repr(value) if math.isfinite(value) else "",
        cohort.sources[source] if source >= 0 else "",
        cohort.roles[patient] or "",
    ]


@dataclass(slots=True, kw_only=True)
class _Rows:
    """A table as columns of numbers, row by row as in the file."""

    path: Path
    unit_kind: UnitKind = "sop_instance_uid"
    names: dict[Column, dict[str, int]] = field(default_factory=dict)
    codes: dict[Column, NDArray[np.int32]] = field(default_factory=dict)
    labels: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def read(self, lines: Iterator[list[str]]) -> None:
        """Take the rows in, and check what each text says by itself."""
        where = self._header(next(lines, []))
        found = columns(self.path, lines, where, self.refuse)
        label = found["label"]
        if not label.codes.size:
            raise Permanent(f"{self.path}: holds no label")
        nothing = Coded(texts=[""], codes=np.zeros_like(label.codes))
        for name in _NAMED:
            self._take(name, found.get(name, nothing))
        words = [_LABELS.get(t.strip().casefold(), _NO_LABEL) for t in label.texts]
        self.labels = np.array(words, np.int8)[label.codes]
        value = found.get("value", nothing)
        self.values = np.array([_value(text) for text in value.texts])[value.codes]

    def refuse(self, row: int, reason: str) -> NoReturn:
        """Raise what is wrong with a row, with its line in the file."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            next(lines)
            next(islice(filter(None, lines), row, None))
            raise Permanent(f"{self.path}, line {lines.line_num}: {reason}")

    def _header(self, header: Sequence[str]) -> list[str]:
        names = [name.strip().casefold() for name in header]
        units = [kind for kind in _UNITS if kind in names]
        if not set(_NEEDED) <= set(names) or len(units) != 1:
            raise Permanent(
                f"{self.path}: needs the columns {', '.join(_NEEDED)}, "
                f"and either {' or '.join(_UNITS)}"
            )
        if len(set(names)) != len(names):
            raise Permanent(f"{self.path}: a column is named twice in its header")
        self.unit_kind = units[0]
        return ["unit" if name == units[0] else name for name in names]

    def _take(self, name: Column, column: Coded) -> None:
        """Keep names and their numbers, without the blanks around them."""
        trimmed: dict[str, int] = {}
        numbers = [trimmed.setdefault(t.strip(), len(trimmed)) for t in column.texts]
        self.names[name] = trimmed
        self.codes[name] = np.array(numbers, dtype=np.int32)[column.codes]


def _value(text: str) -> float:
    """Return a number; NaN where there is none, infinity where it is not one."""
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return _NO_VALUE
    return value if math.isfinite(value) else _NO_VALUE


def _cohort(rows: _Rows) -> Cohort:
    """Return the rows as labels by unit and finding, if they agree."""
    _check_cells(rows)
    names, code = _sorted(rows)
    unit, count = code["unit"], len(names["unit"])
    patient = _owner(rows, code["patient"], of=unit, reason=_TWO_PATIENTS)
    study = _owner(rows, code["study"], of=unit, reason=_TWO_STUDIES)
    _owner(rows, code["patient"], of=code["study"], reason=_STUDY_OF_TWO)
    width = len(names["finding"])
    cell = unit.astype(np.int64) * width + code["finding"]
    fill = _Filling(rows=rows, cell=cell, cells=count * width)
    truth = fill(rows.labels, rows.labels != Truth.MISSING, empty=Truth.MISSING)
    values = fill(rows.values, ~np.isnan(rows.values), empty=np.nan)
    named = code["source"] >= 0
    source = fill(code["source"].astype(np.int16), named, empty=-1, agree=False)
    shape = (count, width)
    return Cohort(
        patients=names["patient"],
        studies=names["study"],
        units=names["unit"],
        patient=patient,
        study=study,
        findings=names["finding"],
        truth=truth.reshape(shape),
        values=values.reshape(shape),
        sources=names["source"],
        source=source.reshape(shape),
        roles=_roles(rows, code["patient"], len(names["patient"])),
        unit_kind=rows.unit_kind,
        origin=str(rows.path),
    )


_TWO_PATIENTS = "this image or series belongs to another patient above"
_TWO_STUDIES = "this image or series belongs to another study above"
_STUDY_OF_TWO = "this study belongs to another patient above"


def _check_cells(rows: _Rows) -> None:
    """Refuse the first row with a name that is empty, or a word that means nothing."""
    for name in _NAMED[:4]:
        empty = rows.names[name].get("")
        if empty is not None:
            column = rows.unit_kind if name == "unit" else name
            _refuse_first(rows, rows.codes[name] == empty, f"{column} is empty")
    words = ", ".join(_WORDS.values())
    _refuse_first(rows, rows.labels == _NO_LABEL, f"a label is one of {words}")
    _refuse_first(rows, rows.values == _NO_VALUE, "the value is no number")
    unknown = [n for text, n in rows.names["role"].items() if text not in _ROLES]
    roles = ", ".join(Role)
    _refuse_first(
        rows, np.isin(rows.codes["role"], unknown), f"a role is one of {roles}"
    )


def _refuse_first(rows: _Rows, wrong: NDArray[np.bool_], reason: str) -> None:
    if wrong.any():
        rows.refuse(int(wrong.argmax()), reason)


def _sorted(
    rows: _Rows,
) -> tuple[dict[Column, tuple[str, ...]], dict[Column, NDArray[np.int32]]]:
    """Return the names in order, and which of them each row has; -1: an empty source."""
    names: dict[Column, tuple[str, ...]] = {}
    code: dict[Column, NDArray[np.int32]] = {}
    for name, numbers in rows.names.items():
        names[name] = tuple(sorted(text for text in numbers if text))
        rank = np.full(len(numbers), -1, dtype=np.int32)
        places = np.fromiter(map(numbers.__getitem__, names[name]), np.int64)
        rank[places] = np.arange(len(places))
        code[name] = rank[rows.codes[name]]
    return names, code


def _owner(
    rows: _Rows, owner: NDArray[np.int32], *, of: NDArray[np.int32], reason: str
) -> NDArray[np.int32]:
    """Return the one owner of each thing, or refuse the first row with another."""
    found = np.empty(int(of.max()) + 1, dtype=np.int32)
    found[of[::-1]] = owner[::-1]  # the first row stays
    _refuse_first(rows, found[of] != owner, reason)
    return found


def _roles(
    rows: _Rows, patient: NDArray[np.int32], count: int
) -> tuple[Role | None, ...]:
    """Return the role of each patient; nobody may have two."""
    by_code = list(rows.names["role"])
    role = rows.codes["role"]
    given = np.flatnonzero(role != rows.names["role"].get("", -1))
    found = np.full(count, -1, dtype=np.int32)
    found[patient[given][::-1]] = role[given][::-1]
    other = given[found[patient[given]] != role[given]]
    if other.size:
        rows.refuse(int(other[0]), "this patient has another role above")
    return tuple(None if r < 0 else _ROLES[by_code[r]] for r in found.tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filling:
    """From rows to cells: what is said twice has to agree."""

    rows: _Rows
    cell: NDArray[np.int64]
    cells: int

    def __call__(
        self,
        said: NDArray[_Number],
        where: NDArray[np.bool_],
        *,
        empty: float,
        agree: bool = True,
    ) -> NDArray[_Number]:
        """Return what the rows `where` something is said say of each cell."""
        found = np.full(self.cells, empty, dtype=said.dtype)
        at = np.flatnonzero(where)
        found[self.cell[at][::-1]] = said[at][::-1]
        other = at[found[self.cell[at]] != said[at]]
        if agree and other.size:
            self.rows.refuse(int(other[0]), "another label or value stands above")
        return found
