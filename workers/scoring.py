"""What a pack makes of embeddings that are there: the score of every study, and its label.

The same heads, gate, aggregation and calibration as where studies are concluded. Which
images a pack accepts is a matter of headers, which embeddings have not: all that are
labelled, and that its gate lets through, are scored. Numpy and scipy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.domain import Sha256
from workers.accepting import Accepts
from workers.asked import OF_VOLUMES, FindingSpec
from workers.calibration import calibrated
from workers.cohort import Examples, ScoreTable, by_study
from workers.findings import aggregate
from workers.gate import Gate
from workers.heads import Heads, score_frames
from workers.pack import Pack
from workers.volumes import volume_embedding

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]

_AT_ONCE = 1024
"""Frames that are scored by all heads before the next ones are: 8 MiB of 1024 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inside:
    """Which of N embeddings a pack's gate lets through.

    Embeddings do not say of which modality they are: where a gate has several scopes,
    those of the modalities that are accepted count, and one that lets it through is
    enough.

    Parameters
    ----------
    gate
        None lets all through.
    scopes
        (N,) for each scope of the gate: what it lets through. A volume is in or out as
        a whole, by the median of its distances.
    """

    gate: Gate | None
    scopes: tuple[Mask, ...]
    rows: int

    def of(self, accepted: Sequence[Accepts]) -> Mask:
        """Return which of them (N,) are let through, among images accepted so."""
        if self.gate is None:
            return np.ones(self.rows, np.bool_)
        modalities = [one for rule in accepted for one in rule.modality]
        judges = {self.gate.scope(modality) for modality in modalities} - {None}
        through = np.zeros(self.rows, np.bool_)
        for scope, mask in zip(self.gate.scopes, self.scopes, strict=True):
            if scope in judges:
                through |= mask
        return through

    def of_finding(self, pack: Pack, spec: FindingSpec) -> Mask:
        """Return which of them (N,) are scored for a finding."""
        if spec.ungated:
            return np.ones(self.rows, np.bool_)
        return self.of([spec.accepts] if spec.accepts else pack.manifest.accepts)


def inside(pack: Pack, examples: Examples) -> Inside:
    """Return which of the examples the gate of `pack` lets through."""
    gate, rows = pack.gate, len(examples.vectors)
    if gate is None:
        return Inside(gate=None, scopes=(), rows=rows)
    number = np.unique(examples.volume, return_inverse=True)[1]
    scopes = []
    for scope in gate.scopes:
        distances = scope.distances(examples.vectors)
        middle = ndimage.median(distances, number, np.arange(number.max() + 1))
        scopes.append((np.asarray(middle) <= gate.limit)[number])
    return Inside(gate=gate, scopes=tuple(scopes), rows=rows)


def score_studies(
    pack: Pack,
    heads: Heads,
    examples: Examples,
    *,
    data: Sha256,
    through: Inside | None = None,
) -> ScoreTable:
    """Return the scores of the studies of `examples`, of findings that the pack has.

    A study of which the gate lets no image through has no score: NaN.

    Parameters
    ----------
    data
        Digest of the labels.
    through
        Of these examples, where it is known already.
    """
    studies = by_study(examples)
    specs = [spec for spec in pack.findings if spec.key in examples.findings]
    columns = [examples.findings.index(spec.key) for spec in specs]
    rows = rows_of_studies(studies.of_row)
    through = through or inside(pack, examples)
    frames = _of_frames(specs, heads, examples)
    scores = np.empty((len(rows), len(specs)), np.float64)
    for column, spec in enumerate(specs):
        kept = through.of_finding(pack, spec)
        if spec.aggregation.startswith(OF_VOLUMES):
            found = _of_volumes(spec, heads, examples, rows, kept)
        else:
            found = _of_studies(spec.aggregation, frames[:, column], rows, kept)
        scored = np.isfinite(found)
        if spec.calibration is not None:
            found[scored] = calibrated(spec.calibration, found[scored])
        scores[:, column] = found
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


def rows_of_studies(of_row: NDArray[np.int32]) -> list[Rows]:
    """Return which rows each study has, in their order, of the study of each row (N,)."""
    order = np.argsort(of_row, kind="stable")
    return np.split(order, np.cumsum(np.bincount(of_row))[:-1])


def _of_frames(
    specs: Sequence[FindingSpec], heads: Heads, examples: Examples
) -> NDArray[np.float64]:
    """Return the scores of frames (N, F); NaN for findings that score volumes.

    Some frames at a time, by all heads: the numbers are made float64 once, and are still
    near the processor when the next head needs them.
    """
    vectors = examples.vectors
    found = np.full((len(vectors), len(specs)), np.nan)
    columns = [
        column
        for column, spec in enumerate(specs)
        if not spec.aggregation.startswith(OF_VOLUMES)
    ]
    for at in range(0, len(vectors) if columns else 0, _AT_ONCE):
        some = vectors[at : at + _AT_ONCE].astype(np.float64)
        for column in columns:
            head = heads[specs[column].key]
            found[at : at + len(some), column] = score_frames(head, some)
    return found


def _of_studies(
    rule: str, frames: NDArray[np.float64], rows: Sequence[Rows], kept: Mask
) -> NDArray[np.float64]:
    """Return the score of each study from those of its frames that are kept; else NaN."""
    first = np.array([every[0] for every in rows])
    found = np.where(kept[first], frames[first], np.nan)  # of one frame: its own
    whole = bool(kept.all())
    for study, every in enumerate(rows):
        if len(every) > 1:
            those = every if whole else every[kept[every]]
            found[study] = aggregate(rule, frames[those]) if those.size else np.nan
    return found


def _of_volumes(
    spec: FindingSpec,
    heads: Heads,
    examples: Examples,
    rows: Sequence[Rows],
    kept: Mask,
) -> NDArray[np.float64]:
    """Return the highest score of each study's volumes that are kept; NaN of none."""
    found = np.full(len(rows), np.nan)
    head, method = heads[spec.key], spec.aggregation.removeprefix(OF_VOLUMES)
    for study, every in enumerate(rows):
        those = every[kept[every]]
        if those.size:
            found[study] = score_frames(head, _volumes(examples, those, method)).max()
    return found


def _volumes(examples: Examples, rows: Rows, method: str) -> NDArray[np.float32]:
    """Return the embedding of each volume among these rows, (V, D)."""
    volume = examples.volume[rows]
    runs = (rows[volume == number] for number in np.unique(volume))
    return np.stack([volume_embedding(examples.vectors[run], method) for run in runs])
