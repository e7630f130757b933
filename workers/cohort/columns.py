"""A CSV file as columns: of each its distinct texts, and a number for each row.

Two readers that agree. Python's ``csv`` reads anything, and says what is wrong. A large
file without quotes, in which every comma parts two columns, is read by pyarrow in a
fraction of the time, where it is installed; what it does not understand is left to the
other.
"""

import mmap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 22
"""Bytes of a file from which on pyarrow is worth its import."""

_CHUNK = 1 << 12

Refuse = Callable[[int, str], object]
"""Raises what is wrong with a row, by its number from 0 on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coded:
    """A column: distinct texts, and which of them each row has, (N,) int32."""

    texts: Sequence[str]
    codes: NDArray[np.int32]


Columns = dict[str, Coded]
"""By name. None of them has rows where there are none."""


def columns(
    path: Path, lines: Iterator[list[str]], names: Sequence[str], refuse: Refuse
) -> Columns:
    """Return the columns of a file, whose header has been read.

    Parameters
    ----------
    lines
        What is left of the file.
    names
        Of its columns, each once.
    refuse
        What is told of a row that has more or fewer.

    Raises
    ------
    csv.Error
        If it is no CSV file.
    """
    found = quick_columns(path, names) if path.stat().st_size >= LARGE else None
    return columns_of(lines, names, refuse) if found is None else found


def columns_of(
    lines: Iterator[list[str]], names: Sequence[str], refuse: Refuse
) -> Columns:
    """Return columns, chunk by chunk, without the lines that are empty."""
    numbers = [_Numbers() for _ in names]
    codes: list[list[NDArray[np.int32]]] = [[] for _ in names]
    filled, done = filter(None, lines), 0
    while chunk := list(islice(filled, _CHUNK)):
        if set(map(len, chunk)) != {len(names)}:
            _refuse_width(chunk, done, len(names), refuse)
        parts = zip(numbers, codes, zip(*chunk, strict=True), strict=True)
        for number, found, texts in parts:
            numbered = map(number.__getitem__, texts)
            found.append(np.fromiter(numbered, np.int32, len(chunk)))
        done += len(chunk)
    empty = np.empty(0, np.int32)
    return {
        name: Coded(texts=[*number], codes=np.concatenate([empty, *found]))
        for name, number, found in zip(names, numbers, codes, strict=True)
    }


def quick_columns(path: Path, names: Sequence[str]) -> Columns | None:
    """Return columns as pyarrow reads them; None where that might not be the same."""
    if find_spec("pyarrow") is None or _has_quotes(path):
        return None
    import pyarrow as pa  # noqa: PLC0415 - optional
    from pyarrow import csv as quick  # noqa: PLC0415 - optional

    kind = pa.dictionary(pa.int32(), pa.string())
    try:
        table = quick.read_csv(
            path,
            read_options=quick.ReadOptions(skip_rows=1, column_names=list(names)),
            parse_options=quick.ParseOptions(quote_char=False),
            convert_options=quick.ConvertOptions(
                column_types=dict.fromkeys(names, kind), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeError):
        return None
    found = {}
    for name in names:
        column = table[name].unify_dictionaries().combine_chunks()
        found[name] = Coded(
            texts=column.dictionary.to_pylist(), codes=column.indices.to_numpy()
        )
    return found


def _has_quotes(path: Path) -> bool:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(b'"') >= 0


class _Numbers(defaultdict[str, int]):
    """A number for each distinct text, in order of appearance."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


def _refuse_width(
    chunk: Sequence[Sequence[str]], done: int, width: int, refuse: Refuse
) -> None:
    row = next(i for i, line in enumerate(chunk) if len(line) != width)
    refuse(done + row, f"has {len(chunk[row])} columns, and the header has {width}")
