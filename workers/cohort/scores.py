"""Scores with what is true, in one file: what evaluations and thresholds are made from.

``pacsight pack fit`` writes out-of-fold scores. A file says of which pack and which
labels it is; a score that is NaN was not evaluated.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from dicom_node.files import write_durably

Level = Literal["study", "image"]
Kind = Literal["out-of-fold", "test"]

FORMAT = "pacsight-scores-1"
NOT_IN_A_FOLD = -1
_ARRAYS = ("scores", "truth", "values", "patient", "fold")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """Scores of S units on F findings.

    Parameters
    ----------
    findings
        Of the columns.
    scores
        (S, F) float64; NaN: not evaluated.
    truth
        (S, F) int8, values of `Truth`.
    values
        (S, F) float64, what is true of quantities; NaN where there is none.
    patient
        (S,) int32: rows with the same number are of one patient.
    units
        Study UIDs, or SOP Instance (or Series) UIDs.
    level
        Which of the two.
    fold
        (S,) int8: in which fold a row was left out; -1: a held-out set.
    calibrated
        Of each finding, whether the scores are probabilities.
    pack
        Digest of the pack that scored; of out-of-fold scores, of the pack that the
        heads were fitted for.
    data
        Digest of the labels.
    kind
        Scores of folds left out, or of a set that was never seen.
    """

    findings: tuple[str, ...]
    scores: NDArray[np.float64]
    truth: NDArray[np.int8]
    values: NDArray[np.float64]
    patient: NDArray[np.int32]
    units: tuple[str, ...]
    level: Level
    fold: NDArray[np.int8]
    calibrated: tuple[bool, ...]
    pack: Sha256
    data: Sha256
    kind: Kind

    def __post_init__(self) -> None:
        shape = (len(self.units), len(self.findings))
        if any(a.shape != shape for a in (self.scores, self.truth, self.values)):
            raise ValueError(f"scores, truth and values must be {shape}")
        if not self.patient.shape == self.fold.shape == shape[:1]:
            raise ValueError(f"patient and fold must be {shape[:1]}")
        if len(self.calibrated) != len(self.findings):
            raise ValueError("every finding is calibrated, or not")
        if self.level not in ("study", "image"):
            raise ValueError(f"scores are of studies or images, not of {self.level!r}")
        if self.kind not in ("out-of-fold", "test"):
            raise ValueError(f"scores are out-of-fold or test, not {self.kind!r}")


def write_scores(table: ScoreTable, path: Path) -> None:
    """Write a table that `read_scores` reads as the same."""
    about = {
        "format": FORMAT,
        "findings": list(table.findings),
        "units": list(table.units),
        "level": table.level,
        "calibrated": list(table.calibrated),
        "pack": table.pack,
        "data": table.data,
        "kind": table.kind,
    }
    arrays = {name: np.ascontiguousarray(getattr(table, name)) for name in _ARRAYS}
    write_durably(path, save(arrays, metadata={"scores": json.dumps(about)}))


def read_scores(path: Path) -> ScoreTable:
    """Return the scores in a file.

    Raises
    ------
    Permanent
        If it holds none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["scores"])
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        if about["format"] != FORMAT:
            raise Permanent(f"{path}: its format is {about['format']}, not {FORMAT}")
        return ScoreTable(
            **arrays,
            findings=tuple(about["findings"]),
            units=tuple(about["units"]),
            level=about["level"],
            calibrated=tuple(about["calibrated"]),
            pack=Sha256(about["pack"]),
            data=Sha256(about["data"]),
            kind=about["kind"],
        )
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise Permanent(f"{path}: not a file of scores ({error})") from error
