"""What a pack says of itself: ``pack.json`` as values, checked when made.

`read_manifest` is the one way in from bytes. The files that a manifest names are
verified by `workers.pack`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from dicom_node.domain import Code, Sha256, Urgency
from dicom_node.errors import Permanent
from workers.policy import Preprocessing, stated

MANIFEST = "pack.json"

VolumeMethod = Literal["median", "mean", "unit-mean"]
"""How the embeddings of slices become that of their volume."""

OF_VOLUMES = "embedding-"
"""Begins the aggregations that score volumes, not slices."""

_AGGREGATION = re.compile(
    r"max|mean|median|top[1-9][0-9]?-mean|embedding-(median|mean|unit-mean)"
)
_LATER = ("categories", "estimates", "volume")
"""Fields that manifests did not always have: absent, they change no digest."""
_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepts:
    """The images that a pack, or one of its findings, was validated for.

    Parameters
    ----------
    modality
        Values of Modality (0008,0060); at least one.
    body_part
        Values of BodyPartExamined (0018,0015), where ``""`` stands for an image
        that does not state it. Empty means any.
    """

    __pydantic_config__: ClassVar = _FORBID

    modality: tuple[str, ...]
    body_part: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.modality:
            raise ValueError("at least one modality must be accepted")

    def covers(self, modality: str, body_part: str) -> bool:
        """Return whether an image with these attributes is accepted."""
        if modality not in self.modality:
            return False
        return not self.body_part or body_part in self.body_part

    def __str__(self) -> str:
        modality = " or ".join(self.modality)
        parts = " or ".join(part or "unstated body part" for part in self.body_part)
        return f"{modality} of {parts}" if parts else modality


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """sigmoid(w.x + b): tensors ``<key>.weight`` (D,) and ``<key>.bias`` (1,)."""

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["linear"] = "linear"
    weights: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotHead:
    """The finding's prompts against each other, at the encoder's temperature."""

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["zero-shot"] = "zero-shot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Texts that say that a finding is there, and texts that say it is not."""

    __pydantic_config__: ClassVar = _FORBID

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise ValueError("prompts need at least one positive and one negative text")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpec:
    """A threshold, and the figures that were measured at it.

    Parameters
    ----------
    evidence
        Free: sensitivity, specificity, auc, n, ... for reports and model cards.
    tolerance
        How far half precision may move a score at the threshold: one that is nearer
        to it is indeterminate.
    """

    __pydantic_config__: ClassVar = _FORBID

    name: str
    threshold: float
    evidence: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ValueError("the tolerance of a threshold must be finite, and not < 0")
        if not self.name or not math.isfinite(self.threshold):
            raise ValueError("an operating point needs a name and a finite threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingSpec:
    """One finding: what it is called, how it is scored, when it is flagged.

    Parameters
    ----------
    code, site
        Coded concepts: value, scheme, meaning.
    accepts
        Narrows what the pack accepts; None takes all of it.
    aggregation
        From the scores of images to that of the study: ``max``, ``mean``, ``median``
        or ``top<n>-mean``. Or ``embedding-median``, ``embedding-mean``,
        ``embedding-unit-mean``: the head scores the embedding of each volume, and the
        study has the highest.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    site: tuple[str, str, str] | None = None
    urgency: Urgency
    accepts: Accepts | None = None
    aggregation: str
    head: LinearHead | ZeroShotHead
    prompts: Prompts | None = None
    operating_point: PointSpec

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a finding needs a key")
        if not _AGGREGATION.fullmatch(self.aggregation):
            raise ValueError(
                f"aggregation must be max, mean, median, top<n>-mean or "
                f"embedding-<median, mean or unit-mean>, not {self.aggregation!r}"
            )
        if isinstance(self.head, ZeroShotHead) and self.prompts is None:
            raise ValueError("a zero-shot head needs prompts")

    @property
    def concept(self) -> Code:
        """Return the finding as a coded concept."""
        return _code(self.code)

    @property
    def anatomy(self) -> Code | None:
        """Return the finding's site as a coded concept."""
        return None if self.site is None else _code(self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """One of the labels of a category, and the texts that describe it.

    Parameters
    ----------
    prompts
        As they are embedded: whether one ends in a period is part of it.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.key or not self.prompts:
            raise ValueError("a label needs a key and at least one prompt")

    @property
    def concept(self) -> Code:
        """Return the label as a coded concept."""
        return _code(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategorySpec:
    """A question with labels that exclude one another, such as the view.

    A frame's logits are temperature times cosine, those of the study the mean over its
    frames: the same as if the mean of the embeddings had been asked.

    Parameters
    ----------
    code
        What is asked, as a coded concept.
    accepts
        Narrows what the pack accepts; None takes all of it.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    accepts: Accepts | None = None
    labels: tuple[LabelSpec, ...]

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a category needs a key")
        keys = {label.key for label in self.labels}
        if len(keys) != len(self.labels) or len(keys) < 2:  # noqa: PLR2004 - a choice
            raise ValueError("a category needs two labels or more, each once")

    @property
    def concept(self) -> Code:
        """Return what is asked as a coded concept."""
        return _code(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighboursHead:
    """The value that labelled images nearby have: weighted nearest neighbours.

    Source: the protocol of MedImageInsight's bone age benchmark. Softmax of temperature
    times cosine over all references, then the `k` largest; equal values are added up,
    and the `values` highest of them averaged by their weights.

    Parameters
    ----------
    references
        A safetensors file of the pack: ``embeddings`` (N, D) float32 of length one,
        ``values`` (N,) float32. None: nobody has supplied them, nothing is estimated.
    """

    __pydantic_config__: ClassVar = _FORBID

    kind: Literal["neighbours"] = "neighbours"
    references: str | None = None
    k: int = 10
    values: int = 3
    temperature: float = 100.0

    def __post_init__(self) -> None:
        if min(self.k, self.values) < 1 or not 0 < self.temperature < math.inf:
            raise ValueError("neighbours need k, values and temperature above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateSpec:
    """A quantity that is read off the images, such as the bone age.

    Parameters
    ----------
    unit
        A unit of measurement as a coded concept (UCUM).
    accepts
        Narrows what the pack accepts; None takes all of it.
    validated
        Evidence for its error, free, on data that the references do not hold; None
        where nobody has measured it, which every report says.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    unit: tuple[str, str, str]
    head: NeighboursHead
    accepts: Accepts | None = None
    validated: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("an estimate needs a key")

    @property
    def concept(self) -> Code:
        """Return what is estimated as a coded concept."""
        return _code(self.code)

    @property
    def measured_in(self) -> Code:
        """Return the unit as a coded concept."""
        return _code(self.unit)


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
    numeric: NumericSpec | None = None

    @property
    def digest(self) -> Sha256:
        """Return what identifies the function: the weights, and the sizes they fill."""
        return digest_of({"weights": self.sha256, "config": self.config})


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
        for finding in values["findings"]:
            if not finding["operating_point"]["tolerance"]:
                del finding["operating_point"]["tolerance"]
        absent = [name for name in _LATER if not values[name]]
        return digest_of({k: v for k, v in values.items() if k not in absent})

    @property
    def parts(self) -> frozenset[str]:
        """Return the files that heads are read from, relative to the pack."""
        linear = {f.head.weights for f in self.findings if f.head.kind == "linear"}
        nearby = {e.head.references for e in self.estimates if e.head.references}
        return frozenset(linear | nearby)


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


def _code(triple: tuple[str, str, str]) -> Code:
    value, scheme, meaning = triple
    return Code(value=value, scheme=scheme, meaning=meaning)
