"""What a pack makes of embeddings that are there: the score of every study, and its label.

The same heads, aggregation and calibration as where studies are concluded. Which images
a pack accepts is a matter of headers, which embeddings have not: all that are labelled
are scored. Numpy only.
"""

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256
from workers.asked import OF_VOLUMES, FindingSpec
from workers.calibration import calibrated
from workers.cohort import Examples, ScoreTable, by_study
from workers.findings import aggregate
from workers.heads import Heads, score_frames
from workers.pack import Pack
from workers.volumes import volume_embedding


def score_studies(
    pack: Pack, heads: Heads, examples: Examples, *, data: Sha256
) -> ScoreTable:
    """Return the scores of the studies of `examples`, of findings that the pack has.

    Parameters
    ----------
    data
        Digest of the labels.
    """
    studies = by_study(examples)
    specs = [spec for spec in pack.findings if spec.key in examples.findings]
    columns = [examples.findings.index(spec.key) for spec in specs]
    rows = _rows(studies.of_row, len(studies.study))
    scores = np.empty((len(rows), len(specs)), np.float64)
    for column, spec in enumerate(specs):
        scores[:, column] = _of_studies(spec, heads, examples, rows)
    return ScoreTable(
        findings=tuple(spec.key for spec in specs),
        scores=scores,
        truth=studies.truth[:, columns],
        values=studies.values[:, columns],
        patient=studies.patient,
        units=tuple(examples.studies[number] for number in studies.study),
        level="study",
        fold=np.full(len(scores), -1, dtype=np.int8),
        calibrated=tuple(spec.calibration is not None for spec in specs),
        pack=pack.digest,
        data=data,
        kind="test",
    )


def _of_studies(
    spec: FindingSpec, heads: Heads, examples: Examples, rows: list[NDArray[np.intp]]
) -> NDArray[np.float64]:
    head, rule = heads[spec.key], spec.aggregation
    if rule.startswith(OF_VOLUMES):
        method = rule.removeprefix(OF_VOLUMES)
        raw = [
            float(score_frames(head, _volumes(examples, those, method)).max())
            for those in rows
        ]
    else:
        frames = score_frames(head, examples.vectors)
        raw = [aggregate(rule, frames[those]) for those in rows]
    found = np.array(raw, dtype=np.float64)
    return found if spec.calibration is None else calibrated(spec.calibration, found)


def _volumes(
    examples: Examples, rows: NDArray[np.intp], method: str
) -> NDArray[np.float32]:
    """Return the embedding of each volume among these rows, (V, D)."""
    volume = examples.volume[rows]
    runs = (rows[volume == number] for number in np.unique(volume))
    return np.stack([volume_embedding(examples.vectors[run], method) for run in runs])


def _rows(of_row: NDArray[np.int32], studies: int) -> list[NDArray[np.intp]]:
    """Return which rows each study has, in their order."""
    order = np.argsort(of_row, kind="stable")
    ends = np.cumsum(np.bincount(of_row, minlength=studies))[:-1]
    return np.split(order, ends)
