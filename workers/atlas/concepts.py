"""Coded concepts of findings that no pack names: a CSV table."""

import csv
from pathlib import Path

from dicom_node.domain import Code
from dicom_node.errors import Permanent

_COLUMNS = ("finding", "value", "scheme", "meaning")


def read_concepts(path: Path) -> dict[str, Code]:
    """Return the concept of each finding: ``finding,value,scheme,meaning``.

    Raises
    ------
    Permanent
        If it is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
    found: dict[str, Code] = {}
    for number, row in enumerate(rows, start=2):
        values = [(row.get(column) or "").strip() for column in _COLUMNS]
        if not all(values):
            raise Permanent(f"{path}, line {number}: needs {', '.join(_COLUMNS)}")
        finding, value, scheme, meaning = values
        code = Code(value=value, scheme=scheme, meaning=meaning)
        if found.setdefault(finding, code) != code:
            raise Permanent(f"{path}, line {number}: {finding} has a concept above")
    if not found:
        raise Permanent(f"{path}: needs {', '.join(_COLUMNS)}")
    return found
