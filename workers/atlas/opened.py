"""An atlas in a folder, open: its files are what it says.

The vectors stay on disk, memory-mapped; processes that open the same atlas share them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.atlas.approximate import ApproximateSearch
from workers.atlas.checking import check
from workers.atlas.codes import Codes, Rows
from workers.atlas.columns import Columns, read_columns
from workers.atlas.link import Link, beside, read_link
from workers.atlas.manifest import (
    APPROXIMATE,
    COLUMNS,
    THUMBNAILS,
    TOMBSTONES,
    AtlasManifest,
    read_atlas,
)
from workers.atlas.scan import ExactScan
from workers.atlas.searchable import Searchable
from workers.atlas.shelf import map_codes, map_vectors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenAtlas(Searchable):
    """An atlas in a folder.

    Parameters
    ----------
    vectors
        (N, D) float32 of length one, memory-mapped.
    """

    folder: Path
    vectors: Rows

    @property
    def place(self) -> str:
        """Return where it lies, for messages."""
        return str(self.folder)

    def thumbnail(self, row: int) -> bytes:
        """Return the PNG of a case; empty where there is none."""
        start, stop = self.columns.thumbnail[row].tolist()
        with (self.folder / THUMBNAILS).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def open_atlas(
    folder: Path,
    *,
    digest: str = "",
    link: Path | None = None,
    threads: int | None = None,
) -> OpenAtlas:
    """Return the atlas in `folder`; what is checked says `workers.atlas.checking`.

    Parameters
    ----------
    digest
        Which one it has to be; empty for any.
    link
        Its link file; None: the one beside the folder, if there is one.
    threads
        Of a search; None: as many as this process may use cores.

    Raises
    ------
    Permanent
        If it is another one, or a file is missing or another one.
    """
    manifest = read_atlas(folder)
    if digest and manifest.digest != digest:
        raise Permanent(
            f"the atlas in {folder} has the digest {manifest.digest}, "
            f"and {digest} is wanted"
        )
    check(folder, manifest)
    columns = read_columns(folder / COLUMNS)
    alive = _alive(folder, manifest, columns)
    vectors = map_vectors(folder, manifest.dimension)
    codes = Codes(
        codes=map_codes(folder, manifest.dimension),
        scale=columns.scale,
        residual=columns.residual,
        length=columns.length,
    )
    return OpenAtlas(
        folder=folder,
        manifest=manifest,
        digest=manifest.digest,
        columns=columns,
        vectors=vectors,
        alive=alive,
        exact=ExactScan(vectors, codes, columns.mean, threads=threads),
        approximate=(
            ApproximateSearch.open(folder / APPROXIMATE, vectors, manifest.approximate)
            if manifest.approximate
            else None
        ),
        link=_link(folder, link, columns.identifier[alive]),
    )


def alive_of(columns: Columns, tombstones: bytes | None) -> NDArray[np.bool_]:
    """Return which cases have no tombstone, (N,); None: no file of tombstones."""
    alive = np.ones(len(columns.identifier), dtype=np.bool_)
    if tombstones is not None:
        gone = json.loads(tombstones)
        names = np.array([one["case"].encode() for one in gone], dtype=np.bytes_)
        alive &= ~np.isin(columns.identifier, names)
    return alive


def _alive(
    folder: Path, manifest: AtlasManifest, columns: Columns
) -> NDArray[np.bool_]:
    there = TOMBSTONES in manifest.files
    return alive_of(columns, (folder / TOMBSTONES).read_bytes() if there else None)


def _link(
    folder: Path, link: Path | None, identifiers: NDArray[np.bytes_]
) -> Link | None:
    path = link or beside(folder)
    if link is None and not path.exists():
        return None
    return read_link(path, (bytes(i).decode() for i in identifiers))
