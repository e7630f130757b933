"""Embeddings as researchers get them: one safetensors or Parquet file, rows in order.

Rows are ordered by study, series, volume and position in the patient, see
`workers.volumes`. The file says with what it was made: pack, encoder, preprocessing,
numeric profile.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from dicom_node.errors import Permanent
from workers.harvest import Embedded
from workers.pack import Pack
from workers.volumes import Slice, Volume, volume_embedding, volumes

SAFETENSORS, PARQUET = ".safetensors", ".parquet"
_HEADER_LIMIT = 100_000_000
"""Bytes that the safetensors format allows for names and metadata."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """Embeddings in order, and the volumes that they belong to.

    Parameters
    ----------
    frames
        By study, series, volume, position.
    volumes
        Their slices, one after the other, are `frames`.
    method
        Of the volumes' embeddings; empty for none.
    """

    frames: tuple[Embedded, ...]
    volumes: tuple[Volume, ...]
    method: str = ""

    @property
    def of_frames(self) -> NDArray[np.float32]:
        """Return the embeddings (N, D)."""
        return np.stack([one.vector for one in self.frames])

    @property
    def of_volumes(self) -> NDArray[np.float32]:
        """Return the embeddings of the volumes (V, D)."""
        ends = np.cumsum([len(volume.slices) for volume in self.volumes])
        parts = np.split(self.of_frames, ends[:-1])
        return np.stack([volume_embedding(part, self.method) for part in parts])


def in_order(frames: Sequence[Embedded], *, method: str = "") -> Vectors:
    """Return the frames in the order in which they lie, whatever order they came in."""
    by_place = {(one.source.sop_instance_uid, one.frame): one for one in frames}
    studies = {one.source.series_uid: one.source.study_uid for one in frames}
    found = sorted(volumes(map(_slice, frames)), key=lambda v: studies[v.series_uid])
    return Vectors(
        frames=tuple(by_place[one.place] for volume in found for one in volume.slices),
        volumes=tuple(found),
        method=method,
    )


def check_ending(out: Path) -> None:
    """Accept the name of a file that can be written.

    Raises
    ------
    Permanent
        If it ends otherwise, or the library for it is not installed.
    """
    if out.suffix not in (SAFETENSORS, PARQUET):
        raise Permanent(f"{out} has to end in {SAFETENSORS} or {PARQUET}")
    if out.suffix == PARQUET and find_spec("pyarrow") is None:
        raise Permanent(
            f"{PARQUET} needs pyarrow: install it, or write {SAFETENSORS} instead"
        )


def encode(
    vectors: Vectors, out: Path, *, pack: Pack, remarks: Mapping[str, str]
) -> bytes:
    """Return the file's content; `out` says of which kind.

    Parameters
    ----------
    remarks
        What the file says besides: release, what could not be read.

    Raises
    ------
    Permanent
        If there are more rows than the format can name.
    """
    about = {**_about(pack), **remarks, "volume_embedding": vectors.method}
    about["volumes"] = json.dumps(_volume_columns(vectors))
    if out.suffix == PARQUET:
        return _parquet(vectors, about)
    about["rows"] = json.dumps(_frame_columns(vectors))
    if sum(map(len, about.values())) > _HEADER_LIMIT // 2:
        raise Permanent(
            f"{len(vectors.frames)} rows are too many for {SAFETENSORS}: "
            f"name a {PARQUET} file; what is embedded already is kept"
        )
    tensors = {"embeddings": vectors.of_frames}
    if vectors.method:
        tensors["volumes"] = vectors.of_volumes
    return save(tensors, metadata=about)


def _about(pack: Pack) -> dict[str, str]:
    key = pack.encoder_key
    return {
        "format": "pacsight-embeddings-1",
        "pack": pack.name,
        "pack_version": pack.version,
        "device_uid": pack.device_uid,
        "encoder": key.encoder,
        "preprocessing": key.preprocessing,
        "profile": key.profile,
    }


def _slice(one: Embedded) -> Slice:
    source = one.source
    return Slice(
        series_uid=source.series_uid,
        sop_instance_uid=source.sop_instance_uid,
        frame=one.frame,
        number=source.number,
        modality=source.modality,
        geometry=one.geometry,
    )


def _frame_columns(vectors: Vectors) -> dict[str, list[Any]]:
    """Return the columns of the frames; `volume` is a row of `_volume_columns`."""
    pairs = [
        (number, along)
        for number, volume in enumerate(vectors.volumes)
        for along in volume.along
    ]
    sources = [one.source for one in vectors.frames]
    return {
        "study": [source.study_uid for source in sources],
        "series": [source.series_uid for source in sources],
        "sop_instance": [source.sop_instance_uid for source in sources],
        "frame": [one.frame for one in vectors.frames],
        "volume": [number for number, _ in pairs],
        "along": [along for _, along in pairs],
    }


def _volume_columns(vectors: Vectors) -> dict[str, list[Any]]:
    found = vectors.volumes
    studies = {one.source.series_uid: one.source.study_uid for one in vectors.frames}
    return {
        "study": [studies[v.series_uid] for v in found],
        "series": [v.series_uid for v in found],
        "kind": [v.kind.value for v in found],
        "apart": [v.apart for v in found],
        "slices": [len(v.slices) for v in found],
        "spacing_mm": [v.spacing_mm for v in found],
        "even": [v.even for v in found],
        "missing": [v.missing for v in found],
        "tilt_deg": [v.tilt_deg for v in found],
        "remark": [v.remark for v in found],
    }


def _parquet(vectors: Vectors, about: Mapping[str, str]) -> bytes:
    """Return a table with a row for each frame, then one for each volume if wanted.

    Of a volume's row, ``sop_instance``, ``frame`` and ``along`` are null.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional
    from pyarrow import parquet  # noqa: PLC0415 - optional

    columns, rows = _frame_columns(vectors), vectors.of_frames
    if vectors.method:
        of_volumes = _volume_columns(vectors)
        count = len(vectors.volumes)
        columns["study"] += of_volumes["study"]
        columns["series"] += of_volumes["series"]
        columns["volume"] += range(count)
        for name in ("sop_instance", "frame", "along"):
            columns[name] += [None] * count
        rows = np.concatenate([rows, vectors.of_volumes])
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), len(rows[0]))
    table = pa.table({**columns, "embedding": embeddings}).replace_schema_metadata(
        about
    )
    content = BytesIO()
    parquet.write_table(table, content)
    return content.getvalue()
