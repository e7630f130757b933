"""Embeddings that survive a kill: chunks in a folder beside the file to be written.

Each chunk is a safetensors file of its own, written aside, fsynced and renamed, so that
it is whole or not there. It says by which encoder it was made and from which bytes;
what another encoder made, or what cannot be read, counts as not there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from dicom_node.files import make_folder, write_durably
from workers.geometry import Geometry, geometry_from_json
from workers.listing import ImageSource, Stamp

_ENDING = ".safetensors"
_sources = TypeAdapter(tuple[ImageSource, ...])
_rows = TypeAdapter(tuple[tuple[int, int, str], ...])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """A frame, counted from 0, where it lies, and its embedding (D,) float32."""

    source: ImageSource
    frame: int
    geometry: Geometry
    vector: NDArray[np.float32]


Key = tuple[str, Sha256, int]
"""Instance, digest of its data set, frame."""


@dataclass(slots=True, kw_only=True)
class Harvest:
    """The chunks of one run, and of those before it that were stopped.

    Attributes
    ----------
    done
        What is embedded, by instance, bytes and frame.
    """

    folder: Path
    encoder: Sha256
    done: dict[Key, Embedded] = field(default_factory=dict)
    _fresh: list[Embedded] = field(default_factory=list)
    _lock: int = -1

    def __enter__(self) -> Self:
        """Take the folder, and what is in it.

        Raises
        ------
        Permanent
            If another run is at it.
        """
        make_folder(self.folder)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise Permanent(f"another run is at work in {self.folder}") from None
        for path in sorted(self.folder.glob(f"*{_ENDING}")):
            self.done |= {key_of(one): one for one in _read(path, self.encoder)}
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what is not kept yet; leave no empty folder."""
        try:
            self.keep()
            if self.folder.is_dir() and not any(self.folder.glob(f"*{_ENDING}")):
                self.remove()
        finally:
            os.close(self._lock)

    @property
    def unkept(self) -> int:
        """Return how many frames a kill would cost."""
        return len(self._fresh)

    def known(self) -> dict[Stamp, ImageSource]:
        """Return the files that were looked at before."""
        return {one.source.stamp: one.source for one in self.done.values()}

    def add(self, frames: Sequence[Embedded]) -> None:
        """Take in frames; `keep` makes them durable."""
        self._fresh += frames
        self.done |= {key_of(one): one for one in frames}

    def keep(self) -> None:
        """Write what was added since, durably."""
        if self._fresh and self.folder.is_dir():
            number = len(list(self.folder.glob(f"*{_ENDING}"))) + 1
            content = _chunk(self._fresh, self.encoder)
            write_durably(self.folder / f"{number:06}{_ENDING}", content)
        self._fresh.clear()

    def remove(self) -> None:
        """Remove the folder: its content lies elsewhere now."""
        self._fresh.clear()
        shutil.rmtree(self.folder)


def key_of(one: Embedded) -> Key:
    """Return what identifies an embedding, given its encoder."""
    return one.source.sop_instance_uid, one.source.sha256, one.frame


def _chunk(frames: Sequence[Embedded], encoder: Sha256) -> bytes:
    sources = list(dict.fromkeys(one.source for one in frames))
    places = {source: place for place, source in enumerate(sources)}
    rows = [(places[o.source], o.frame, o.geometry.to_json()) for o in frames]
    return save(
        {"embeddings": np.stack([one.vector for one in frames])},
        metadata={
            "encoder": encoder,
            "sources": json.dumps([asdict(source) for source in sources]),
            "rows": json.dumps(rows),
        },
    )


def _read(path: Path, encoder: Sha256) -> Iterator[Embedded]:
    try:
        with safe_open(path, framework="numpy") as file:
            said = file.metadata() or {}
            if said.get("encoder") != encoder:
                return
            sources = _sources.validate_json(said["sources"])
            rows = _rows.validate_json(said["rows"])
            vectors = file.get_tensor("embeddings")
        for (source, frame, geometry), vector in zip(rows, vectors, strict=True):
            yield Embedded(
                source=sources[source],
                frame=frame,
                geometry=geometry_from_json(geometry),
                vector=vector,
            )
    except (SafetensorError, ValidationError, KeyError, ValueError, IndexError):
        return
