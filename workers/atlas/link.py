"""Who is who: cases of an atlas and the patients behind them. It never leaves the site.

A CSV file beside the atlas, never in it, readable by its owner alone. It serves one
purpose: that a study is not shown its own patient as a case that resembles it.
"""

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dicom_node.errors import Permanent

NOT_CHECKED = "same patient not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A case, and whose it is.

    Parameters
    ----------
    patient
        As the labels name the patient.
    patient_digest
        As reports do: of PatientID and issuer; empty where the image states none.
    unit
        SOP Instance UID, or Series UID.
    """

    case: str
    group: int
    patient: str
    patient_digest: str
    study: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Whose images are searched with, as far as it is known.

    Parameters
    ----------
    patients
        Names as in labels, or digests of PatientID and issuer.
    """

    units: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()


class Link:
    """The link file of an atlas, in memory."""

    def __init__(self, cases: Iterable[Linked]) -> None:
        self._groups: dict[str, set[int]] = {}
        for case in cases:
            for name in (case.patient, case.patient_digest, case.study, case.unit):
                if name:
                    self._groups.setdefault(name, set()).add(case.group)

    def groups_of(self, asker: Asker) -> tuple[frozenset[int], bool]:
        """Return the patient's groups, and whether the patient could be told.

        That is so where the patient is named, or the study is one of the atlas.
        """
        names = asker.units | asker.studies | asker.patients
        groups = frozenset(g for name in names for g in self._groups.get(name, ()))
        return groups, bool(asker.patients or groups)


def beside(folder: Path) -> Path:
    """Return where the link file of an atlas is looked for."""
    resolved = folder.resolve()
    return resolved.with_name(f"{resolved.name}.link.csv")


def write_link(cases: Sequence[Linked], path: Path) -> None:
    """Write a link file for its owner alone.

    Raises
    ------
    Permanent
        If it is there already, or the disk does not do it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, [field.name for field in fields(Linked)])
        lines.writeheader()
        lines.writerows(asdict(case) for case in cases)


def read_link(path: Path, identifiers: Iterable[str]) -> Link:
    """Return the link file of the atlas with these identifiers.

    Raises
    ------
    Permanent
        If it is none, or that of another atlas.
    """
    cases = _read(path)
    missing = set(identifiers) - {case.case for case in cases}
    if missing:
        raise Permanent(f"{path} is the link file of another atlas")
    return Link(cases)


def forget(path: Path, out: Path, cases: Iterable[str]) -> None:
    """Write the link file at `path` anew, to `out`, without some cases.

    Raises
    ------
    Permanent
        If it is none, or `out` is there already.
    """
    gone = set(cases)
    write_link([case for case in _read(path) if case.case not in gone], out)


def _read(path: Path) -> list[Linked]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Linked(**{**row, "group": int(row["group"])})  # type: ignore[arg-type]
                for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (UnicodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise Permanent(f"{path} is not the link file of an atlas") from error
