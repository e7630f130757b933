"""Vectors on disk as they are searched: memory-mapped, so that processes share them.

Two plain files, page-aligned, rows one after the other: ``vectors.f32`` (N, D) little
endian, and ``codes.i8`` (N, D), a quarter of it, which is what a search reads in full.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.atlas.codes import Codes, Rows, mean_of, quantise
from workers.atlas.manifest import CODES, VECTORS
from workers.placing import Progress

_AT_ONCE = 8192


def write_vectors(parts: Iterable[Rows], folder: Path) -> int:
    """Write rows, part after part, each made unit; return how many there are."""
    count = 0
    with (folder / VECTORS).open("wb") as file:
        for part in parts:
            wide = part.astype(np.float64)
            wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
            file.write(wide.astype("<f4").tobytes())
            count += len(part)
    return count


def write_codes(
    folder: Path, dimension: int, progress: Progress | None = None
) -> tuple[Rows, Codes]:
    """Write the codes of the vectors in `folder`; return the mean, and what is beside.

    The ``codes`` of what is returned are memory-mapped.
    """
    vectors = map_vectors(folder, dimension)
    mean = mean_of(vectors)
    parts = []
    with (folder / CODES).open("wb") as file:
        for start in range(0, len(vectors), _AT_ONCE):
            part = quantise(vectors[start : start + _AT_ONCE], mean)
            file.write(part.codes.tobytes())
            parts.append(part)
            if progress:
                progress("coding vectors", start + len(part.codes), len(vectors))
    return mean, Codes(
        codes=map_codes(folder, dimension),
        scale=np.concatenate([part.scale for part in parts]),
        residual=np.concatenate([part.residual for part in parts]),
        length=np.concatenate([part.length for part in parts]),
    )


def map_vectors(folder: Path, dimension: int) -> Rows:
    """Return the vectors (N, D) float32, read when they are used."""
    found = np.memmap(folder / VECTORS, dtype="<f4", mode="r")
    return np.asarray(found).reshape(-1, dimension)


def map_codes(folder: Path, dimension: int) -> NDArray[np.int8]:
    """Return the codes (N, D) int8, read when they are used.

    Copied on write, which nobody does: torch takes no arrays that are read-only.
    """
    found = np.memmap(folder / CODES, dtype=np.int8, mode="c")
    return np.asarray(found).reshape(-1, dimension)
