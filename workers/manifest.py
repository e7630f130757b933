"""What a pack says of itself: ``pack.json`` as values, checked when made.

`read_manifest` is the one way in from bytes. The files that a manifest names are
verified by `workers.pack`; what it asks of a study stands in `workers.asked`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from workers.absent import without_absent
from workers.accepting import Accepts
from workers.asked import CategorySpec, EstimateSpec, FindingSpec
from workers.headspecs import file_of, file_of_fitted
from workers.policy import Preprocessing, stated

MANIFEST = "pack.json"

VolumeMethod = Literal["median", "mean", "unit-mean"]
"""How the embeddings of slices become that of their volume."""

_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericSpec:
    """What was measured of half precision when a pack was made.

    Parameters
    ----------
    profile
        What was tried; the pack is computed in it, or else in float32.
    device
        What it was tried on.
    images
        How many were embedded in both.
    cosine_mean, cosine_worst
        To the same images' embeddings in float32.
    speedup
        Seconds of an image in float32, over those in this profile.
    """

    __pydantic_config__: ClassVar = _FORBID

    profile: str
    device: str
    images: int
    cosine_mean: float
    cosine_worst: float
    speedup: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """The model that a pack rests on.

    Parameters
    ----------
    config
        Sizes of the model; `workers.encoder` reads them.
    weights
        A safetensors file: relative to the pack, or an absolute path.
    dtype
        Of the numbers in the file, e.g. ``float16``.
    numeric_profile
        What is computed in, e.g. ``float32``; a worker that cannot refuses.
    tokenizer
        Folder inside the pack.
    training_data
        Names of the data sets that the encoder has seen.
    members
        Models of these sizes in the file, whose embeddings are joined: an ensemble.
    numeric
        What the choice of the profile rests on: evidence, no part of the identity.
    """

    __pydantic_config__: ClassVar = _FORBID

    config: dict[str, Any]
    weights: str
    sha256: str
    dtype: str
    numeric_profile: str
    embedding_dim: int
    tokenizer: str
    training_data: tuple[str, ...] = ()
    members: Annotated[int, Field(ge=1, le=8)] = 1
    numeric: NumericSpec | None = None

    @property
    def digest(self) -> Sha256:
        """Return what identifies the function: the weights, and the sizes they fill."""
        several = {} if self.members == 1 else {"members": self.members}
        return digest_of({"weights": self.sha256, "config": self.config, **several})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """How a pack looks at volumes.

    Parameters
    ----------
    limit
        Slices of a volume that are scored at most, evenly selected at conclusion;
        None for all. Every slice is embedded in any case.
    embedding
        Of a volume, where nothing else names a method.
    """

    __pydantic_config__: ClassVar = _FORBID

    limit: int | None = None
    embedding: VolumeMethod = "unit-mean"

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError("a volume's limit is at least one slice")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """How far an image may lie from the validated ones, in embedding space.

    Parameters
    ----------
    file
        A safetensors file of the pack; `workers.gate` says what is in it.
    kind
        How the distance is measured: one of those that `workers.gate` knows.
    threshold
        An image is outside above it.
    rate
        Share of validated images that lie outside nevertheless, as it was set.
    evidence
        Free: what it was measured on.
    """

    __pydantic_config__: ClassVar = _FORBID

    file: str
    kind: str
    threshold: float
    rate: float
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.file or not self.kind or not math.isfinite(self.threshold):
            raise ValueError("a gate needs a file, a kind and a finite threshold")
        if not 0 <= self.rate < 1:
            raise ValueError("the rate of a gate's false alarms lies in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSpec:
    """The reference atlas whose nearest cases a pack shows.

    Parameters
    ----------
    name, version, digest
        Which one it is: another digest is another atlas, and the pack does not load.
    path
        Where it lies: relative to the pack, or absolute; or ``milvus+URI``.
    k
        Cases that are shown.
    link
        Its link file where it does not lie beside it: relative to the pack, or absolute.
    """

    __pydantic_config__: ClassVar = _FORBID

    name: str
    version: str
    digest: str
    path: str
    k: int = 5
    link: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.version or not self.path:
            raise ValueError("an atlas needs a name, a version and a path")
        if self.k < 1:
            raise ValueError("at least one case of an atlas is shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSet:
    """Names the thresholds of a pack; other thresholds are another set."""

    __pydantic_config__: ClassVar = _FORBID

    name: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``pack.json``.

    Parameters
    ----------
    synthetic, statement
        Whether the pack is a demonstration on made-up images, and what every report
        says of it.
    findings, categories, estimates
        What is asked of a study: at least one of them. A key stands for one only.
    files
        sha256 of every file of the pack but the weights, by relative path.
    volume
        None: every slice is scored.
    gate
        None: images are accepted by their attributes alone.
    atlas
        None: no cases are shown.
    """

    __pydantic_config__: ClassVar = _FORBID

    format: Literal[1]
    name: str
    version: str
    title: str
    synthetic: bool
    statement: str
    encoder: EncoderSpec
    preprocessing: Preprocessing
    accepts: tuple[Accepts, ...]
    findings: tuple[FindingSpec, ...]
    threshold_set: ThresholdSet
    files: dict[str, str]
    categories: tuple[CategorySpec, ...] = ()
    estimates: tuple[EstimateSpec, ...] = ()
    volume: VolumeSpec | None = None
    gate: GateSpec | None = None
    atlas: AtlasSpec | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise ValueError("a pack needs a name and a version")
        keys = [
            *(finding.key for finding in self.findings),
            *(category.key for category in self.categories),
            *(estimate.key for estimate in self.estimates),
        ]
        if not self.accepts or not keys:
            raise ValueError(
                "a pack needs something that it accepts, "
                "and a finding, a category or an estimate"
            )
        if len(set(keys)) != len(keys):
            raise ValueError("two findings have the same key (or what else is asked)")

    @property
    def digest(self) -> Sha256:
        """Return what stands for the manifest, and for every file that it names.

        What a manifest need not have is left out where it is not there, so that a
        pack from before keeps its digest.
        """
        values = _manifests.dump_python(self, mode="json")
        values["preprocessing"] = stated(values["preprocessing"])
        del values["encoder"]["numeric"]
        return digest_of(without_absent(values))

    @property
    def parts(self) -> frozenset[str]:
        """Return the files that heads and gate are read from, relative to the pack."""
        named = [
            *(file_of(finding.head) for finding in self.findings),
            *(file_of_fitted(c.head) for c in self.categories if c.head is not None),
            *(estimate.head.references for estimate in self.estimates),
            self.gate.file if self.gate else None,
        ]
        return frozenset(name for name in named if name)


_manifests = TypeAdapter(Manifest)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder`, without looking at the files that it names.

    Raises
    ------
    Permanent
        If it is missing or not understood.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    return parse_manifest(text, path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest that `text` is; `path` names it in errors.

    Raises
    ------
    Permanent
        If it is not understood.
    """
    try:
        return _manifests.validate_json(text, strict=True)
    except ValidationError as error:
        raise Permanent(f"{path}: {_sentence(error)}") from error


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of ``pack.json``."""
    return _manifests.json_schema()


def digest_of(value: Mapping[str, Any]) -> Sha256:
    """Return the sha256 of a JSON object, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Sha256(sha256(text.encode()).hexdigest())


def _sentence(error: ValidationError) -> str:
    """Return the first thing that is wrong, and where.

    Of alternatives told apart by ``kind``, the ones that were not meant say nothing.
    """
    found = error.errors(include_url=False)
    other = [e["loc"][:-1] for e in found if e["type"] == "literal_error"]
    meant = [e for e in found if e["loc"][:-1] not in other]
    first = (meant or found)[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{where}: {first['msg']}"
