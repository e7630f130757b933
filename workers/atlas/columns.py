"""What is kept of each case beside its vector: columns, read whole when it is opened."""

from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save_file

from dicom_node.errors import Permanent


class CaseKind(IntEnum):
    """What a case is."""

    IMAGE = 0
    VOLUME = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """N cases, in the order of their vectors.

    Parameters
    ----------
    identifier
        (N,) bytes, ``ATL-`` and six characters.
    group
        (N,) int32: the same for cases of one patient, and random.
    kind
        (N,) uint8, values of `CaseKind`.
    modality, body_part
        (N,) int16, into the manifest's names.
    truth
        (N, F) int8, values of `workers.cohort.Truth`.
    source
        (N, F) int16, into the manifest's sources; -1 where nobody is named.
    thumbnail
        (N, 2) int64: where its PNG begins and ends in the file; equal for none.
    mean
        (D,) float32: what the codes are around.
    scale, residual, length
        (N,) float32, see `workers.atlas.codes`.
    """

    identifier: NDArray[np.bytes_]
    group: NDArray[np.int32]
    kind: NDArray[np.uint8]
    modality: NDArray[np.int16]
    body_part: NDArray[np.int16]
    truth: NDArray[np.int8]
    source: NDArray[np.int16]
    thumbnail: NDArray[np.int64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    residual: NDArray[np.float32]
    length: NDArray[np.float32]


def write_columns(columns: Columns, path: Path) -> None:
    """Write the columns as safetensors."""
    found: dict[str, NDArray[Any]] = {
        f.name: np.ascontiguousarray(getattr(columns, f.name)) for f in fields(columns)
    }
    letters = found["identifier"]
    found["identifier"] = letters.view(np.uint8).reshape(len(letters), -1)
    save_file(found, path)


def read_columns(path: Path) -> Columns:
    """Return the columns of a file.

    Raises
    ------
    Permanent
        If it holds others.
    """
    try:
        return _columns(load_file(path))
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise Permanent(f"{path} does not hold the columns of an atlas") from error


def columns_of(content: bytes, where: str) -> Columns:
    """Return the columns of a file's content.

    Raises
    ------
    Permanent
        If it holds others.
    """
    try:
        return _columns(load(content))
    except (SafetensorError, TypeError, KeyError) as error:
        raise Permanent(f"{where} does not hold the columns of an atlas") from error


def _columns(found: dict[str, NDArray[Any]]) -> Columns:
    letters = found["identifier"]
    names = letters.view(f"S{letters.shape[1]}")[:, 0]
    return Columns(**found | {"identifier": names})
