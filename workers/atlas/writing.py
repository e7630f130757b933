"""The files of an atlas, from named cases: vectors, codes, columns, pictures, manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import EncoderKey
from workers.atlas.approximate import build_index
from workers.atlas.checking import describe_files
from workers.atlas.codes import Codes, Rows
from workers.atlas.columns import CaseKind, Columns, write_columns
from workers.atlas.manifest import (
    APPROXIMATE,
    COLUMNS,
    THUMBNAILS,
    ApproximateSpec,
    AtlasManifest,
    Cell,
    DeidentificationSpec,
    LabelSpec,
    write_atlas,
)
from workers.atlas.scan import ExactScan
from workers.atlas.shelf import map_vectors, write_codes, write_vectors
from workers.manifest import VolumeMethod
from workers.placing import Progress

_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A case as an atlas keeps it.

    Parameters
    ----------
    truth
        (F,) int8, of the atlas's labels.
    sources
        Who established each of them; empty where nobody is named.
    vector
        (D,) float32.
    picture
        PNG; empty for none.
    """

    identifier: str
    group: int
    kind: CaseKind
    modality: str
    body_part: str
    truth: NDArray[np.int8]
    sources: tuple[str, ...]
    vector: Rows
    picture: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an atlas says of itself, its files apart; see `AtlasManifest`."""

    name: str
    version: str
    created: date
    encoder: EncoderKey
    floor: int
    volume_embedding: VolumeMethod
    labels: tuple[LabelSpec, ...]
    cells: tuple[Cell, ...]
    left_out: dict[str, int]
    deidentification: DeidentificationSpec


def write_cases(
    folder: Path,
    cases: Sequence[Case],
    about: About,
    *,
    approximate: bool,
    progress: Progress,
) -> AtlasManifest:
    """Write the atlas of `cases`, in their order, into an empty folder."""
    dimension = len(cases[0].vector)
    parts = (
        np.stack([case.vector for case in cases[start : start + _AT_ONCE]])
        for start in range(0, len(cases), _AT_ONCE)
    )
    write_vectors(parts, folder)
    mean, codes = write_codes(folder, dimension, progress)
    spans = _write_pictures(folder / THUMBNAILS, cases)
    names = Names.of(cases)
    write_columns(_columns(cases, names, spans, mean, codes), folder / COLUMNS)
    index = None
    if approximate:
        vectors = map_vectors(folder, dimension)
        scan = ExactScan(vectors, codes, mean)
        index = build_index(vectors, scan, folder / APPROXIMATE, progress=progress)
    return seal_atlas(folder, about, names, (len(cases), dimension), index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What columns count in: who established labels, modalities, body parts."""

    sources: tuple[str, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> "Names":
        return cls(
            sources=tuple(sorted({s for case in cases for s in case.sources if s})),
            modalities=tuple(sorted({case.modality for case in cases})),
            body_parts=tuple(sorted({case.body_part for case in cases})),
        )


def seal_atlas(
    folder: Path,
    about: About,
    names: Names,
    shape: tuple[int, int],
    index: ApproximateSpec | None,
) -> AtlasManifest:
    """Write ``atlas.json`` for the files in `folder`, of N cases of D numbers."""
    manifest = AtlasManifest(
        name=about.name,
        version=about.version,
        created=about.created.isoformat(),
        encoder=about.encoder,
        dimension=shape[1],
        cases=shape[0],
        floor=about.floor,
        volume_embedding=about.volume_embedding,
        labels=about.labels,
        sources=names.sources,
        modalities=names.modalities,
        body_parts=names.body_parts,
        cells=about.cells,
        left_out=about.left_out,
        deidentification=about.deidentification,
        approximate=index,
        files=describe_files(folder),
    )
    write_atlas(folder, manifest)
    return manifest


def _columns(
    cases: Sequence[Case],
    names: Names,
    spans: NDArray[np.int64],
    mean: Rows,
    codes: Codes,
) -> Columns:
    place = {source: number for number, source in enumerate(names.sources)} | {"": -1}
    return Columns(
        identifier=np.array([c.identifier.encode() for c in cases], dtype=np.bytes_),
        group=np.array([c.group for c in cases], dtype=np.int32),
        kind=np.array([c.kind for c in cases], dtype=np.uint8),
        modality=_numbers([c.modality for c in cases], names.modalities),
        body_part=_numbers([c.body_part for c in cases], names.body_parts),
        truth=np.stack([c.truth for c in cases]),
        source=np.array([[place[s] for s in c.sources] for c in cases], dtype=np.int16),
        thumbnail=spans,
        mean=mean,
        scale=codes.scale,
        residual=codes.residual,
        length=codes.length,
    )


def _numbers(values: Sequence[str], names: tuple[str, ...]) -> NDArray[np.int16]:
    return np.searchsorted(names, values).astype(np.int16)


def _write_pictures(path: Path, cases: Sequence[Case]) -> NDArray[np.int64]:
    """Write the pictures one after the other; return where each begins and ends."""
    ends = np.cumsum([len(case.picture) for case in cases])
    path.write_bytes(b"".join(case.picture for case in cases))
    spans: NDArray[np.int64] = np.stack([np.append(0, ends[:-1]), ends], axis=1)
    return spans
