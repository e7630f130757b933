"""Studies with scores for thresholds, tables of them, and a store to keep sets in."""

from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.domain import Sha256
from workers.cohort import ScoreTable
from workers.pack import Pack
from workers.thresholds.samples import Sample


def studies(
    patients: int, seed: int, *, folds: int | None = 5, shift: float = 2.5
) -> Sample:
    """Return studies of so many patients, one to three each, alike within a patient."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    truth = (np.arange(patients) % 3 == 0)[patient]
    own = rng.normal(scale=0.6, size=patients)[patient]
    logits = shift * truth + own + rng.normal(size=len(patient))
    return Sample(
        scores=1 / (1 + np.exp(-logits)),
        truth=truth,
        patient=patient,
        fold=None if folds is None else (patient % folds).astype(np.int8),
    )


def separate(positives: int, negatives: int = 100, **changes: Any) -> Sample:
    """Return one study of each patient, every positive above every negative."""
    n = positives + negatives
    values: dict[str, Any] = {
        "scores": np.linspace(0.99, 0.01, n),
        "truth": np.arange(n) < positives,
        "patient": np.arange(n),
        "fold": (np.arange(n) % 5).astype(np.int8),
    }
    return Sample(**values | changes)


def table_of(
    pack: Pack, sample: Sample, finding: str, /, *, root: int = 3, **changes: Any
) -> ScoreTable:
    """Return the studies as a table that ``pack fit`` could have written."""
    n = len(sample.scores)
    held_out = sample.fold is None
    fold = np.full(n, -1, dtype=np.int8) if held_out else sample.fold
    values: dict[str, Any] = {
        "findings": (finding,),
        "scores": sample.scores[:, None],
        "truth": sample.truth.astype(np.int8)[:, None],
        "values": np.full((n, 1), np.nan),
        "patient": sample.patient.astype(np.int32),
        "units": tuple(f"1.2.{root}.{row}" for row in range(n)),
        "level": "study",
        "fold": fold,
        "calibrated": (False,),
        "pack": pack.digest,
        "data": Sha256("d" * 64),
        "kind": "test" if held_out else "out-of-fold",
    }
    return ScoreTable(**values | changes)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, and what it holds."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
