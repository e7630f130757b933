"""A threshold set: a site's thresholds for one pack, frozen, digested and signed.

The digest is the sha256 of the set as canonical JSON (keys sorted, no spaces) without
its signature. The file holds the same JSON to be read by people; `parse` accepts these
very bytes and no others, so that a set which was edited in place is not one any more.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent

MOST_ROC_POINTS = 200
SHIPPED = "pack"
"""Origin of a point that the pack ships, and that no site has chosen."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_LIKE_A_VERSION = re.compile(r".*-v[0-9]+")
_FORBID: dict[str, str] = {"extra": "forbid"}

Mode = Literal["live", "shadow"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A share that was measured, with its interval.

    Parameters
    ----------
    low, high
        95 % interval, clustered by patient.
    hits, n, patients
        Studies that count, all studies, and the patients that they are of.
    lower_limit
        One-sided, at the confidence that was asked for; None where none was.
    """

    __pydantic_config__: ClassVar = _FORBID

    value: float
    low: float
    high: float
    hits: int
    n: int
    patients: int
    lower_limit: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, {self.hits} of "
            f"{self.n} studies, {self.patients} patients)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many studies and patients data hold, with and without the finding."""

    __pydantic_config__: ClassVar = _FORBID

    positive_studies: int
    positive_patients: int
    negative_studies: int
    negative_patients: int

    @property
    def share(self) -> float:
        """Return the share of studies with the finding."""
        studies = self.positive_studies + self.negative_studies
        return self.positive_studies / studies

    def __str__(self) -> str:
        return (
            f"{self.positive_studies} studies of {self.positive_patients} patients "
            f"with the finding, {self.negative_studies} of {self.negative_patients} "
            "without"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a threshold rests on: the target, the data, what was measured at it.

    Parameters
    ----------
    target
        The rule and its numbers, e.g. ``{"rule": "sensitivity", "at_least": 0.95}``.
    confidence
        That the lower limit had to reach the target with; None where it had not.
    split
        How the patients that chose and those that measured are told apart.
    chosen_on, measured_on
        The two; the same patients where the split is by folds.
    sensitivity, specificity
        At `threshold`; `rule_out_sensitivity` at the lower end of the band.
    prevalence
        The share of studies with the finding among those measured.
    roc
        At most `MOST_ROC_POINTS` of (false positive rate, sensitivity, threshold), of
        what was measured; where it is by folds, of all of them together.
    data
        Digest of the scores, labels and patients; nobody is named anywhere.
    parameters
        What the command was told.
    """

    __pydantic_config__: ClassVar = _FORBID

    target: dict[str, str | float]
    confidence: float | None
    split: str
    chosen_on: Counts
    measured_on: Counts
    sensitivity: Figure
    specificity: Figure
    rule_out_sensitivity: Figure | None
    indeterminate: float | None
    prevalence: float
    roc: tuple[tuple[float, float, float], ...]
    data: str
    parameters: dict[str, str | float | int | bool]

    def __post_init__(self) -> None:
        if len(self.roc) > MOST_ROC_POINTS:
            raise ValueError(f"a curve has at most {MOST_ROC_POINTS} points")

    def verdict(self, *, shown: bool) -> str:
        """Return whether the target was shown to be reached, and by which limits."""
        figures = {
            "sensitivity": self.sensitivity,
            "specificity": self.specificity,
            "sensitivity of the rule-out": self.rule_out_sensitivity,
        }
        limits = ", ".join(
            f"{name} {figure.lower_limit:.3f}"
            for name, figure in figures.items()
            if figure is not None and figure.lower_limit is not None
        )
        word = "yes" if shown else "NO"
        return f"{word}, lower limits at confidence {self.confidence}: {limits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The threshold of one finding, and where it comes from.

    Parameters
    ----------
    rule_out
        Below it a study is below; from it to the threshold, indeterminate.
    tolerance
        As of a pack's own points.
    mode
        ``shadow``: computed and stored, flags nothing.
    calibration_set
        Of the scores; empty for raw ones.
    demonstrated
        Whether the lower limit reached the target; None where nobody asked.
    origin
        The set that it was chosen in, or ``pack``.
    """

    __pydantic_config__: ClassVar = _FORBID

    name: str
    threshold: float
    rule_out: float | None
    tolerance: float
    mode: Mode
    calibration_set: str
    demonstrated: bool | None
    origin: str
    evidence: Evidence | None

    def __post_init__(self) -> None:
        numbers = [self.threshold, self.tolerance, self.rule_out or 0.0]
        if not self.name or not all(map(math.isfinite, numbers)):
            raise ValueError("a point needs a name and finite thresholds")
        if self.tolerance < 0:
            raise ValueError("the tolerance of a threshold is not below 0")
        if self.rule_out is not None and self.rule_out >= self.threshold:
            raise ValueError("a finding is ruled out below its threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSet:
    """Thresholds of every finding of a pack, as one value.

    Parameters
    ----------
    pack_digest, profile
        What the thresholds are for: scores of another pack, or in another precision,
        are other scores.
    created
        UTC, ISO 8601.
    previous
        Digest of the set that it follows.
    """

    __pydantic_config__: ClassVar = _FORBID

    format: Literal[1] = 1
    name: str
    version: int
    pack: str
    pack_version: str
    pack_digest: str
    profile: str
    created: str
    previous: str | None
    points: dict[str, Point]

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.version < 1 or not self.points:
            raise ValueError("a set has a version from 1, and a point")

    @property
    def label(self) -> str:
        """Return what it is called: name and version."""
        return f"{self.name}-v{self.version}"

    @property
    def digest(self) -> Sha256:
        """Return what stands for the set, whoever signed it."""
        return Sha256(sha256(self.canonical).hexdigest())

    @property
    def canonical(self) -> bytes:
        """Return the set as the JSON that is digested and signed."""
        return canonical(_sets.dump_python(self, mode="json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who vouches for something: an Ed25519 public key and signature, hexadecimal."""

    __pydantic_config__: ClassVar = _FORBID

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSet:
    """A set and its signature: what a file holds."""

    set: ThresholdSet
    signature: Signature

    def to_json(self) -> dict[str, Any]:
        """Return the file's content."""
        values: dict[str, Any] = _sets.dump_python(self.set, mode="json")
        return values | {"signature": _signatures.dump_python(self.signature)}

    @property
    def content(self) -> bytes:
        """Return the file's bytes."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"


_sets = TypeAdapter(ThresholdSet)
_signatures = TypeAdapter(Signature)


def parse(content: bytes, where: str) -> SignedSet:
    """Return the set that a file's bytes are; the signature is not looked at.

    Raises
    ------
    Permanent
        If they are not the bytes that pacsight wrote.
    """
    try:
        values = json.loads(content)
        signature = _parsed(_signatures, values.pop("signature"))
        found = SignedSet(set=_parsed(_sets, values), signature=signature)
        whole = found.content == content
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the set"
        raise Permanent(
            f"{where} is no threshold set: {place}: {first['msg']}"
        ) from None
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise Permanent(f"{where} is no threshold set") from error
    if not whole:
        raise Permanent(
            f"{where} was edited: a threshold set is never changed in place"
        )
    return found


def _parsed(kind: TypeAdapter[T], values: Mapping[str, Any]) -> T:
    return kind.validate_json(json.dumps(values, allow_nan=False), strict=True)


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be that of a set, and of its files."""
    if not _NAME.fullmatch(name) or _LIKE_A_VERSION.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for a threshold set: letters, digits, '.', '_' and "
            "'-', 48 at most, without a version at the end"
        )


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object as bytes that do not depend on the order of its keys."""
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()


def moved_tolerance(threshold: float, tolerance: float, to: float) -> float:
    """Return how far a score at another threshold may have been moved, rounded up.

    Half precision moves logits by much the same everywhere: the shift that `tolerance`
    means at `threshold`, on the sigmoid scale, is applied at `to`.
    """
    if not tolerance:
        return 0.0
    low, high = threshold - tolerance, threshold + tolerance
    if not (low > 0 and high < 1 and 0 < to < 1):
        return tolerance
    shift = max(
        _logit(high) - _logit(threshold),
        _logit(threshold) - _logit(low),
    )
    ends = [1 / (1 + math.exp(-(_logit(to) + sign * shift))) for sign in (-1, 1)]
    return max(to - ends[0], ends[1] - to)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
