"""What a pack asks of a study: findings, categories and estimates, checked when made.

Each says what it is called (coded concepts), which images it was validated for, and
how its answer is computed. Parts of ``pack.json``, the `workers.manifest`; nothing is
computed here.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dicom_node.domain import Code, Exam, Urgency
from workers.accepting import Accepts
from workers.calibration import CalibrationSpec, TemperatureSpec
from workers.headspecs import Head, LabelsHead, asks_prompts

OF_VOLUMES = "embedding-"
"""Begins the aggregations that score volumes, not slices."""

_AGGREGATION = re.compile(
    r"max|mean|median|top[1-9][0-9]?-mean|embedding-(median|mean|unit-mean)"
)
Attribute = Literal[
    "PatientSex", "ViewPosition", "BodyPartExamined", "PatientOrientation"
]
"""What of a header a finding may be compared with."""

_IN_EXAM: dict[Attribute, str] = {
    "PatientSex": "sex",
    "ViewPosition": "view",
    "BodyPartExamined": "body_part",
    "PatientOrientation": "orientation",
}
_FORBID: dict[str, str] = {"extra": "forbid"}


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
    rule_out
        Below it the finding is ruled out, and from there to the threshold a score is
        indeterminate; None where the threshold does both.
    """

    __pydantic_config__: ClassVar = _FORBID

    name: str
    threshold: float
    evidence: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    rule_out: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ValueError("the tolerance of a threshold must be finite, and not < 0")
        if not self.name or not math.isfinite(self.threshold):
            raise ValueError("an operating point needs a name and a finite threshold")
        if self.rule_out is not None and not -math.inf < self.rule_out < self.threshold:
            raise ValueError("a finding is ruled out below its threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstSpec:
    """What the header says that an image should show: a finding that compares the two.

    The head's positive class is what a header with an expected 1 says. The score is how
    much the image contradicts its header: one minus the head's where 1 is expected, the
    head's where -1 is.

    Parameters
    ----------
    attribute
        Of the image's header.
    expects
        1 or -1 by value, in upper case; several values of an attribute are joined by a
        backslash, and ``""`` stands for one that is absent. An image with a value that
        is not among them is not evaluated.
    """

    __pydantic_config__: ClassVar = _FORBID

    attribute: Attribute
    expects: dict[str, Literal[1, -1]]

    def __post_init__(self) -> None:
        if not self.expects:
            raise ValueError(
                "a comparison with the header needs values that it expects"
            )
        if any(value != value.upper() for value in self.expects):
            raise ValueError(
                "the values that a header is expected to have are upper case"
            )

    def expected(self, exam: Exam) -> int | None:
        """Return 1 or -1, as the header says; None where it says nothing expected."""
        return self.expects.get(getattr(exam, _IN_EXAM[self.attribute]))


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
    calibration
        What makes a probability of the study's score; without it, none is claimed. The
        operating point is then one of probabilities.
    against
        Makes the finding a comparison of image and header.
    mode
        ``shadow``: computed and stored, and neither flagged nor reported.
    ungated
        Whether it is asked of images that lie outside the validated range, too: what
        tells that they do.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    site: tuple[str, str, str] | None = None
    urgency: Urgency
    accepts: Accepts | None = None
    aggregation: str
    head: Head
    prompts: Prompts | None = None
    operating_point: PointSpec
    calibration: CalibrationSpec | None = None
    against: AgainstSpec | None = None
    mode: Literal["live", "shadow"] = "live"
    ungated: bool = False

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a finding needs a key")
        if not _AGGREGATION.fullmatch(self.aggregation):
            raise ValueError(
                f"aggregation must be max, mean, median, top<n>-mean or "
                f"embedding-<median, mean or unit-mean>, not {self.aggregation!r}"
            )
        if asks_prompts(self.head) and self.prompts is None:
            raise ValueError(f"a {self.head.kind} head needs prompts")

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
        As they are embedded: whether one ends in a period is part of it. None are
        needed where the category has a head that was fitted.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a label needs a key")

    @property
    def concept(self) -> Code:
        """Return the label as a coded concept."""
        return _code(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategorySpec:
    """A question with labels that exclude one another, such as the view.

    A frame's logits are temperature times cosine, or those of a softmax head; those of
    the study are the mean over its frames: the same as if the mean of the embeddings had
    been asked. Of votes it is the shares that are averaged.

    Parameters
    ----------
    code
        What is asked, as a coded concept.
    accepts
        Narrows what the pack accepts; None takes all of it.
    head
        What was fitted; None: the prompts of the labels.
    calibration
        What makes probabilities of the study's shares; without it, none are claimed.
    validated
        Evidence for its accuracy, free, on patients that the head has not seen; None
        where nobody has measured it.
    """

    __pydantic_config__: ClassVar = _FORBID

    key: str
    meaning: str
    code: tuple[str, str, str]
    accepts: Accepts | None = None
    labels: tuple[LabelSpec, ...]
    head: LabelsHead | None = None
    calibration: TemperatureSpec | None = None
    validated: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a category needs a key")
        keys = {label.key for label in self.labels}
        if len(keys) != len(self.labels) or len(keys) < 2:  # noqa: PLR2004 - a choice
            raise ValueError("a category needs two labels or more, each once")
        if self.head is None and not all(label.prompts for label in self.labels):
            raise ValueError("a label needs a prompt where the category has no head")
        weights = getattr(self.head, "class_weights", self.labels)
        if len(weights) != len(self.labels):
            raise ValueError("votes need a weight for each label")

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
