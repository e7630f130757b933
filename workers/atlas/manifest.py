"""``atlas.json`` as values: what an atlas is, what its files are, how it was made.

It names every file with its sha256, so that its own digest stands for the whole atlas.
It holds no identifier of anybody.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from dicom_node.domain import Code, EncoderKey, Sha256
from dicom_node.errors import Permanent
from workers.manifest import VolumeMethod, digest_of

ATLAS = "atlas.json"
VECTORS, CODES = "vectors.f32", "codes.i8"
COLUMNS, THUMBNAILS = "columns.safetensors", "thumbnails.bin"
APPROXIMATE, TOMBSTONES = "approximate.faiss", "tombstones.json"

LARGE = frozenset({VECTORS, CODES, THUMBNAILS, APPROXIMATE})
"""Files of which the digest takes seconds: checked by `workers.atlas.checking`."""

_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file of an atlas: bytes, and their digest."""

    __pydantic_config__: ClassVar = _FORBID

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """A finding that cases are labelled with, and its coded concept."""

    __pydantic_config__: ClassVar = _FORBID

    key: str
    concept: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """How many cases, of how many patients, share what a case can be found by.

    Parameters
    ----------
    finding
        Key of a label that is present; empty for cases without any.
    """

    __pydantic_config__: ClassVar = _FORBID

    finding: str
    modality: str
    body_part: str
    cases: int
    patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentificationSpec:
    """How cases lost their identity.

    Parameters
    ----------
    profile
        Clause of PS3.15.
    software
        Library and version that applied it.
    kept
        All that is left of a header.
    """

    __pydantic_config__: ClassVar = _FORBID

    profile: str
    software: str
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateSpec:
    """The approximate index, and what was measured of it when it was made.

    Parameters
    ----------
    kind
        As FAISS' index factory has it.
    probes
        Lists that are searched.
    refined
        Candidates that are scored again in full, for each case that is wanted.
    recall
        Share of the ten nearest found, of `queries` cases of the atlas itself.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: str
    probes: int
    refined: int
    recall: float
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasManifest:
    """``atlas.json``.

    Parameters
    ----------
    created
        ISO 8601, the day only.
    floor
        Patients that every cell has at least.
    volume_embedding
        How whole volumes were embedded.
    sources
        Who established labels; `Columns.source` counts in it.
    left_out
        Units that did not become cases, by reason.
    removed
        Cases with a tombstone.
    previous
        Digest of the version before; empty for the first.
    """

    __pydantic_config__: ClassVar = _FORBID

    format: Literal[1] = 1
    name: str
    version: str
    created: str
    encoder: EncoderKey
    metric: Literal["cosine"] = "cosine"
    dimension: int
    cases: int
    floor: int
    volume_embedding: VolumeMethod
    labels: tuple[LabelSpec, ...]
    sources: tuple[str, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    cells: tuple[Cell, ...]
    left_out: dict[str, int]
    deidentification: DeidentificationSpec
    files: dict[str, FileSpec]
    approximate: ApproximateSpec | None = None
    removed: int = 0
    previous: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise ValueError("an atlas needs a name and a version")
        if self.cases < 1 or self.dimension < 1:
            raise ValueError("an atlas needs a case")
        sizes = {VECTORS: 4, CODES: 1}
        for name, width in sizes.items():
            found = self.files.get(name)
            if found is None or found.size != width * self.cases * self.dimension:
                raise ValueError(f"{name} is not of {self.cases} cases")

    @property
    def digest(self) -> Sha256:
        """Return what stands for the atlas, and for every file that it names."""
        return digest_of(_manifests.dump_python(self, mode="json"))


_manifests = TypeAdapter(AtlasManifest)


def read_atlas(folder: Path) -> AtlasManifest:
    """Return what the atlas in `folder` says of itself.

    Raises
    ------
    Permanent
        If there is none, or it is not understood.
    """
    path = folder / ATLAS
    try:
        return parse_atlas(path.read_bytes(), str(path))
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error


def parse_atlas(content: bytes, origin: str) -> AtlasManifest:
    """Return what the content of an ``atlas.json`` says.

    Raises
    ------
    Permanent
        If it is not understood.
    """
    try:
        return _manifests.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "atlas"
        raise Permanent(f"{origin}: {where}: {first['msg']}") from error


def write_atlas(folder: Path, manifest: AtlasManifest) -> None:
    """Write ``atlas.json``: the last file of an atlas."""
    text = json.dumps(_manifests.dump_python(manifest, mode="json"), indent=2)
    (folder / ATLAS).write_text(text + "\n", encoding="utf-8")
