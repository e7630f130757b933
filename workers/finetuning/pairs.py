"""What an encoder is fine-tuned on: images, what is said of each, who belongs together.

A CSV file with a header. ``file`` is a DICOM file, relative to the folder of
images; ``text`` is what is said of it. ``class`` is a name that all pairs of one
label share (UniCL takes them for positives of one another); empty, a pair stands for
itself. ``patient`` and ``role`` (``train`` or ``tune``) are optional: pairs to tune on
are never learned from, and no patient is on both sides.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent

TRAIN, TUNE = "train", "tune"
_NEEDED = ("file", "text")
_COLUMNS = (*_NEEDED, "class", "patient", "role")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An image and what is said of it.

    Parameters
    ----------
    label
        Pairs of one name belong together; empty for one that stands for itself.
    """

    file: str
    text: str
    label: str = ""
    patient: str = ""
    role: str = TRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """All pairs of a file, in its order.

    Parameters
    ----------
    digest
        Of what they say, whatever the file looks like.
    """

    pairs: tuple[Pair, ...]
    digest: Sha256

    @property
    def files(self) -> tuple[str, ...]:
        """Return each image once, in the order of its first pair."""
        return tuple(dict.fromkeys(pair.file for pair in self.pairs))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return (N,) what `unicl_loss` takes: 0 stands for itself, others by name."""
        names = sorted({pair.label for pair in self.pairs} - {""})
        number = {name: at for at, name in enumerate(names, start=1)} | {"": 0}
        return np.array([number[pair.label] for pair in self.pairs], np.int64)

    def rows(self, role: str) -> NDArray[np.int64]:
        """Return which pairs have a role."""
        return np.flatnonzero([pair.role == role for pair in self.pairs])


def read_pairs(path: Path) -> Pairs:
    """Return the pairs of a CSV file.

    Raises
    ------
    Permanent
        If it is not such a file, or a patient is on both sides.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in _NEEDED if c not in (reader.fieldnames or ())]
            if missing:
                raise Permanent(f"{path}: needs a column {missing[0]!r}")
            pairs = tuple(_pairs(reader, path))
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
    return paired(pairs, str(path))


def paired(pairs: Sequence[Pair], where: str) -> Pairs:
    """Return pairs as they are learned from; `where` names them in errors.

    Raises
    ------
    Permanent
        If there is none to learn from, or a patient is on both sides.
    """
    learned = {p.patient for p in pairs if p.role == TRAIN and p.patient}
    tuned = {p.patient for p in pairs if p.role == TUNE and p.patient}
    if both := sorted(learned & tuned):
        raise Permanent(
            f"{where}: {len(both)} patients are to be learned from and tuned on; "
            f"a patient has one role"
        )
    if not any(p.role == TRAIN for p in pairs):
        raise Permanent(f"{where}: there is no pair to learn from")
    said = "\n".join(repr((p.file, p.text, p.label, p.role)) for p in pairs)
    return Pairs(pairs=tuple(pairs), digest=Sha256(sha256(said.encode()).hexdigest()))


def _pairs(reader: "csv.DictReader[str]", path: Path) -> Iterator[Pair]:
    for row in reader:
        yield _pair(row, f"{path}, line {reader.line_num}")


def _pair(row: Mapping[str, str | None], where: str) -> Pair:
    file, text, label, patient, role = ((row.get(c) or "").strip() for c in _COLUMNS)
    if not file or not text:
        raise Permanent(f"{where}: needs a file and a text")
    if role not in ("", TRAIN, TUNE):
        raise Permanent(f"{where}: a role is {TRAIN} or {TUNE}, not {role!r}")
    return Pair(file=file, text=text, label=label, patient=patient, role=role or TRAIN)
