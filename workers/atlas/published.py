"""An atlas in Milvus: written there whole, opened from there, named by its digest.

Two collections each: ``pacsight_NAME_DIGEST_cases`` with vectors and pictures, removed
cases left out, and ``pacsight_NAME_DIGEST_files`` with the small files of the atlas in
pieces, ``atlas.json`` last: without it, an atlas is not complete. What is opened has the
digests that its ``atlas.json`` states. The link file is never published.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dicom_node.errors import Permanent, Transient
from workers.atlas.columns import columns_of
from workers.atlas.link import read_link
from workers.atlas.manifest import (
    ATLAS,
    COLUMNS,
    TOMBSTONES,
    AtlasManifest,
    parse_atlas,
)
from workers.atlas.milvus import (
    KEY,
    MOST_TEXT,
    TEXT,
    VECTOR,
    MilvusSearch,
    answering,
    connect,
    make_collection,
    rows_in,
    texts_of,
)
from workers.atlas.opened import OpenAtlas, alive_of
from workers.atlas.searchable import Searchable
from workers.placing import Progress

PREFIX = "milvus+"
_FILES = (ATLAS, COLUMNS, TOMBSTONES)
_PIECES = 1_000_000
"""Rows of the pieces of a file at most; the n-th file begins at n times as many."""

_PIECE = 48_000  # bytes: 64,000 letters
_AT_ONCE = 250
_COLLECTION = re.compile(r"(pacsight_\w+_[0-9a-f]{16})_files")


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusPlace:
    """Where atlases are published, and which of them is meant; empty for the only one."""

    uri: str
    name: str = ""
    version: str = ""

    @classmethod
    def of(cls, reference: str, base: Path | None = None) -> "MilvusPlace":
        """Return what ``milvus+URI#NAME:VERSION`` says.

        Parameters
        ----------
        base
            What the path of a file, for Milvus Lite, is relative to.

        Raises
        ------
        Permanent
            If it is no address, or holds a password.
        """
        uri, _, which = reference.removeprefix(PREFIX).partition("#")
        name, _, version = which.partition(":")
        parts = urlsplit(uri)
        if parts.username is not None or parts.password is not None:
            raise Permanent(
                "a password belongs into PACSIGHT_WORKER__MILVUS_TOKEN, "
                "not into the address of Milvus"
            )
        if parts.scheme not in ("http", "https"):
            if not uri.endswith(".db"):
                raise Permanent(f"{reference} is neither http(s)://... nor a file .db")
            uri = str(((base or Path()) / uri).resolve())
        return cls(uri=uri, name=name, version=version)

    def __str__(self) -> str:
        which = ":".join(filter(None, (self.name, self.version)))
        return f"{PREFIX}{self.uri}{f'#{which}' if which else ''}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedAtlas(Searchable):
    """An atlas in Milvus, open."""

    client: Any
    collection: str
    origin: MilvusPlace

    @property
    def place(self) -> str:
        """Return where it lies, for messages."""
        return str(self.origin)

    def thumbnail(self, row: int) -> bytes:
        """Return the PNG of a case; empty where there is none."""
        with answering(f" at {self.origin.uri}"):
            found = texts_of(self.client, self.collection, range(row, row + 1))
        return b64decode("".join(found))

    def close(self) -> None:
        """End the connection."""
        self.client.close()


def publish(
    atlas: OpenAtlas,
    place: MilvusPlace,
    token: str,
    *,
    replace: bool,
    progress: Progress,
) -> MilvusPlace:
    """Write `atlas` to Milvus; return how it is named there.

    Parameters
    ----------
    replace
        Whether other versions of the atlas are removed, once this one is complete.

    Raises
    ------
    Permanent
        If it is there already. Nothing is left half-written.
    Transient
        If Milvus does not do it.
    """
    manifest = atlas.manifest
    stem = _stem(manifest)
    with _connected(place, token) as client:
        there = dict(_published(client))
        if stem in there:
            raise Permanent(
                f"{place.uri} holds {manifest.name} {manifest.version} already"
            )
        try:
            _write_cases(client, stem, atlas, progress)
            _write_files(client, stem, atlas)
        except BaseException:
            _drop(client, stem)
            raise
        for other, found in there.items():
            if replace and found.name == manifest.name:
                _drop(client, other)
        client.close()
    return MilvusPlace(uri=place.uri, name=manifest.name, version=manifest.version)


def open_published(
    place: MilvusPlace, token: str, *, digest: str = "", link: Path | None = None
) -> PublishedAtlas:
    """Return an atlas that was published.

    Parameters
    ----------
    digest
        Which one it has to be; empty for the one that `place` names.
    link
        Its link file; None where it is not here.

    Raises
    ------
    Permanent
        If it is not there, not complete, or not what its digests say.
    Transient
        If Milvus does not answer.
    """
    if place.uri.endswith(".db") and not Path(place.uri).exists():
        raise Permanent(f"{place.uri}: No such file")  # Milvus Lite would make it
    with _connected(place, token) as client:
        stem, manifest = _chosen(place, digest, list(_published(client)))
        columns = columns_of(_file(client, stem, COLUMNS, manifest), str(place))
        stones = TOMBSTONES in manifest.files
        alive = alive_of(
            columns, _file(client, stem, TOMBSTONES, manifest) if stones else None
        )
        collection = f"{stem}_cases"
        client.load_collection(collection)
        if rows_in(client, collection) != alive.sum():
            raise Permanent(f"{place} does not hold all cases: publish it again")
    names = [bytes(name).decode() for name in columns.identifier[alive]] if link else []
    return PublishedAtlas(
        manifest=manifest,
        digest=manifest.digest,
        columns=columns,
        alive=alive,
        exact=MilvusSearch(client, collection, manifest.cases, columns),
        approximate=None,
        link=read_link(link, names) if link else None,
        client=client,
        collection=collection,
        origin=place,
    )


@contextmanager
def _connected(place: MilvusPlace, token: str) -> Iterator[Any]:
    """Yield a client; where something goes wrong, it is closed."""
    client = connect(place.uri, token)
    try:
        with answering(f" at {place.uri}"):
            yield client
    except BaseException:
        client.close()
        raise


def _stem(manifest: AtlasManifest) -> str:
    name = re.sub(r"\W", "_", manifest.name, flags=re.ASCII)
    return f"pacsight_{name}_{manifest.digest[:16]}"


def _published(client: Any) -> Iterator[tuple[str, AtlasManifest]]:
    """Yield the atlases that are complete, by the stem of their collections."""
    for collection in sorted(client.list_collections()):
        found = _COLLECTION.fullmatch(collection)
        if found is None:
            continue
        client.load_collection(collection)
        content = _read(client, found[1], ATLAS)
        if content:
            yield found[1], parse_atlas(content, collection)


def _chosen(
    place: MilvusPlace, digest: str, there: Sequence[tuple[str, AtlasManifest]]
) -> tuple[str, AtlasManifest]:
    meant = [
        (stem, manifest)
        for stem, manifest in there
        if (manifest.digest == digest if digest else True)
        and place.name in ("", manifest.name)
        and place.version in ("", manifest.version)
    ]
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(f"{m.name}:{m.version} (sha256:{m.digest})" for _, m in there)
    holds = f"{place.uri} holds {names or 'no atlas'}"
    wanted = f"and {digest} is wanted" if digest else f"and {place} is not one of them"
    raise Permanent(f"{holds}, {wanted}")


def _write_cases(client: Any, stem: str, atlas: OpenAtlas, progress: Progress) -> None:
    name, rows = f"{stem}_cases", np.flatnonzero(atlas.alive).tolist()
    make_collection(client, name, atlas.manifest.dimension)
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        data = [
            {KEY: row, VECTOR: atlas.vectors[row], TEXT: _letters(atlas.thumbnail(row))}
            for row in part
        ]
        client.insert(collection_name=name, data=data)
        progress("publishing cases", start + len(part), len(rows))


def _letters(picture: bytes) -> str:
    """Return a picture as text; empty where it is too large for one."""
    text = b64encode(picture).decode()
    return text if len(text) <= MOST_TEXT else ""


def _write_files(client: Any, stem: str, atlas: OpenAtlas) -> None:
    """Write the small files, ``atlas.json`` last: it makes the atlas complete."""
    name = f"{stem}_files"
    make_collection(client, name, 2)
    present = [f for f in _FILES if f == ATLAS or f in atlas.manifest.files]
    for file in reversed(present):
        content, first = (atlas.folder / file).read_bytes(), _first(file)
        for number, start in enumerate(range(0, len(content), _PIECE)):
            text = b64encode(content[start : start + _PIECE]).decode()
            row = {KEY: first + number, VECTOR: [0.0, 0.0], TEXT: text}
            client.insert(collection_name=name, data=[row])


def _first(file: str) -> int:
    return _PIECES * _FILES.index(file)


def _read(client: Any, stem: str, file: str) -> bytes:
    """Return a file, put together; empty where it is not there."""
    content, at, step = b"", _first(file), 100
    while True:
        pieces = texts_of(client, f"{stem}_files", range(at, at + step))
        content += b"".join(map(b64decode, pieces))
        at += step
        if len(pieces) < step:
            return content


def _file(client: Any, stem: str, name: str, manifest: AtlasManifest) -> bytes:
    content = _read(client, stem, name)
    if sha256(content).hexdigest() != manifest.files[name].sha256:
        raise Permanent(
            f"the digest of {name} in {stem} is not the one that its atlas states"
        )
    return content


def _drop(client: Any, stem: str) -> None:
    for part in ("files", "cases"):  # first what makes it complete
        with suppress(Transient), answering():
            client.drop_collection(f"{stem}_{part}")
