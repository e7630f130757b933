"""What a pack asks of a study: findings, categories and estimates, checked when made.

Each says what it is called (coded concepts), which images it was validated for, and
how its answer is computed. Parts of ``pack.json``, the `workers.manifest`; nothing is
computed here.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dicom_node.domain import Code, Urgency

OF_VOLUMES = "embedding-"
"""Begins the aggregations that score volumes, not slices."""

_AGGREGATION = re.compile(
    r"max|mean|median|top[1-9][0-9]?-mean|embedding-(median|mean|unit-mean)"
)
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


def _code(triple: tuple[str, str, str]) -> Code:
    value, scheme, meaning = triple
    return Code(value=value, scheme=scheme, meaning=meaning)
