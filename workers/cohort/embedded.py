"""Files of ``pacsight embed``, read back: embeddings, and which frame each row is of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from dicom_node.domain import EncoderKey, Sha256
from dicom_node.errors import Permanent

_PARQUET = ".parquet"
_KEY = ("encoder", "preprocessing", "profile")
_COLUMNS = ("study", "series", "sop_instance", "frame")
_NOT_AS_WRITTEN = (AttributeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingFile:
    """Embeddings of N frames, in the order of the file.

    Parameters
    ----------
    vectors
        (N, D) float32, as the encoder gives them: rows of length one.
    studies, series, sop_instances
        UIDs of each row.
    frames
        (N,) int32, counted from 0.
    volumes
        (N,) int32: which volume of the file each frame is a slice of.
    encoder_key
        What they were made with.
    path
        Where they come from, for messages.
    kinds
        What each volume is (`workers.volumes.Kind`); empty where the file does not say.
    """

    vectors: NDArray[np.float32]
    studies: tuple[str, ...]
    series: tuple[str, ...]
    sop_instances: tuple[str, ...]
    frames: NDArray[np.int32]
    volumes: NDArray[np.int32]
    encoder_key: EncoderKey
    path: Path
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.sop_instances)
        if self.vectors.ndim != 2 or len(self.vectors) != rows:  # noqa: PLR2004 - (N, D)
            shape = self.vectors.shape
            raise Permanent(f"{self.path}: has {shape} numbers for {rows} rows")
        columns = (self.studies, self.series, self.frames, self.volumes)
        if any(len(column) != rows for column in columns):
            raise Permanent(f"{self.path}: its columns are not of one length")
        # a sum of squares is finite where every number is
        lengths = np.einsum("nd,nd->n", self.vectors, self.vectors)
        if not np.isfinite(lengths).all():
            row = int((~np.isfinite(lengths)).argmax())
            raise Permanent(f"{self.path}: row {row} holds something that is no number")

    def kind_of(self, volume: int) -> str:
        """Return what a volume is; empty where the file does not say."""
        return self.kinds[volume] if volume < len(self.kinds) else ""


def read_embeddings(path: Path) -> EmbeddingFile:
    """Return the embeddings of frames in a file of ``pacsight embed``.

    Those of volumes, which such a file may hold besides, are left out.

    Raises
    ------
    Permanent
        If it is no such file.
    """
    try:
        if path.suffix == _PARQUET:
            return _read_parquet(path)
        with safe_open(path, framework="numpy") as file:
            about: Mapping[str, str] = file.metadata() or {}
            columns = json.loads(about["rows"])
            vectors: NDArray[Any] = file.get_tensor("embeddings")
        return _file(path, about, columns, vectors)
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, LookupError, *_NOT_AS_WRITTEN) as error:
        raise Permanent(f"{path}: not a file of `pacsight embed` ({error})") from error


def check_encoder(file: EmbeddingFile, key: EncoderKey, pack_name: str) -> None:
    """Accept embeddings that a pack can be used on.

    Raises
    ------
    Permanent
        If another encoder made them, another preprocessing, or another precision.
    """
    for name in _KEY:
        found, needed = getattr(file.encoder_key, name), getattr(key, name)
        if found != needed:
            raise Permanent(
                f"{file.path}: its {name} is {found or 'unknown'}, "
                f"and that of pack {pack_name} is {needed}"
            )


def _file(
    path: Path,
    about: Mapping[str, str],
    columns: Mapping[str, Sequence[Any]],
    vectors: NDArray[Any],
) -> EmbeddingFile:
    studies, series, instances, frames = (columns[name] for name in _COLUMNS)
    volumes = columns.get("volume") or range(len(instances))
    return EmbeddingFile(
        vectors=vectors.astype(np.float32, copy=False),
        studies=tuple(studies),
        series=tuple(series),
        sop_instances=tuple(map(str, instances)),
        frames=np.array(frames, dtype=np.int32),
        volumes=np.array(volumes, dtype=np.int32),
        encoder_key=EncoderKey(
            encoder=Sha256(about.get("encoder", "")),
            preprocessing=Sha256(about.get("preprocessing", "")),
            profile=about.get("profile", ""),
        ),
        path=path,
        kinds=tuple(json.loads(about.get("volumes", "{}")).get("kind", ())),
    )


def _read_parquet(path: Path) -> EmbeddingFile:
    try:
        import pyarrow.compute as pc  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415 - optional
    except ImportError as error:
        raise Permanent(f"{path}: Parquet needs pyarrow: install it") from error
    table = parquet.read_table(path)
    # rows of volumes name no image
    table = table.filter(pc.is_valid(table["sop_instance"])).combine_chunks()
    about = {
        name.decode(): text.decode()
        for name, text in (table.schema.metadata or {}).items()
    }
    rows = table["embedding"].combine_chunks()
    vectors = rows.flatten().to_numpy().reshape(len(rows), -1)
    columns = {name: table[name].to_pylist() for name in (*_COLUMNS, "volume")}
    return _file(path, about, columns, vectors)
