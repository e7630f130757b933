"""The figures of an evaluation, as frozen values: what the report and the JSON hold."""

from dataclasses import dataclass, field

from workers.measures import (
    Area,
    Bin,
    Difference,
    Estimate,
    Gap,
    Proportion,
    Recalibration,
)
from workers.shortcuts.report import ShortcutReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Rows and patients that a figure rests on, and what was left out.

    Parameters
    ----------
    uncertain, missing
        Rows whose label says so: left out.
    not_evaluated
        Rows with a label and without a score.
    not_evaluated_positives
        Those of them that have the finding.
    """

    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    uncertain: int = 0
    missing: int = 0
    not_evaluated: int = 0
    not_evaluated_positives: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AtPrevalence:
    """What flags mean where the finding is so frequent.

    Parameters
    ----------
    ppv, npv
        Value, and the values at the lower and the upper limits of sensitivity and
        specificity together; nan where nothing would be flagged, or everything.
    """

    label: str
    prevalence: float
    ppv: tuple[float, float, float]
    npv: tuple[float, float, float]
    alarms_per_100: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Rows by what was said (flagged, undecided, clear) and what is true."""

    flagged_positive: int
    flagged_negative: int
    undecided_positive: int
    undecided_negative: int
    clear_positive: int
    clear_negative: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFigures:
    """What was measured at one threshold.

    Parameters
    ----------
    ruled_out
        Of positives, the share below `rule_out`: missed for good.
    """

    name: str
    threshold: float
    rule_out: float | None
    sensitivity: Proportion
    specificity: Proportion
    ruled_out: Proportion | None
    confusion: Confusion
    at: tuple[AtPrevalence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How scores are spread: edges of bins, and rows of each class in them."""

    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """Whether probabilities come true."""

    brier: Estimate
    reference: float
    """Brier score of saying the prevalence every time."""
    recalibration: Recalibration | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """One group at the threshold that holds for all.

    Parameters
    ----------
    too_few
        Why nothing is said of it; "" where something is.
    gaps
        By figure, its value less that of all other rows; simultaneous limits.
    """

    name: str
    counts: Counts
    too_few: str = ""
    area: Area | None = None
    sensitivity: Proportion | None = None
    specificity: Proportion | None = None
    error: Estimate | None = None
    gaps: dict[str, Gap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeFigures:
    """The groups of one attribute, and how many rows it is not known of."""

    name: str
    groups: tuple[GroupFigures, ...]
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFigures:
    """One finding.

    Parameters
    ----------
    why_not
        Why there is no area; "" where there is one.
    roc
        (1 - specificity, sensitivity, threshold), at most 200 points.
    pr
        (recall, precision, threshold), at most 200 points.
    calibration
        None where scores claim no probability, or nothing can be said.
    """

    key: str
    meaning: str
    mode: str
    calibrated: bool
    counts: Counts
    prevalence: float
    why_not: str = ""
    area: Area | None = None
    average_precision: float | None = None
    roc: tuple[tuple[float, float, float], ...] = ()
    pr: tuple[tuple[float, float, float], ...] = ()
    histogram: Histogram | None = None
    points: tuple[PointFigures, ...] = ()
    calibration: CalibrationFigures | None = None
    attributes: tuple[AttributeFigures, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityFigures:
    """One quantity: how far estimates are from what is true, in its unit."""

    key: str
    meaning: str
    unit: str
    rows: int
    patients: int
    not_evaluated: int
    mae: Estimate | None
    bias: Estimate | None
    attributes: tuple[AttributeFigures, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalFigures:
    """How many of the nearest cases of other patients share a query's finding.

    Parameters
    ----------
    chance
        The share of cases with the finding: what a random answer reaches.
    precision
        By k.
    mean_average_precision
        Over the whole ranking.
    """

    key: str
    meaning: str
    level: str
    queries: int
    cases: int
    chance: float
    precision: dict[int, Estimate]
    mean_average_precision: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigures:
    """Two packs on the same rows: the first less the second."""

    key: str
    meaning: str
    counts: Counts
    areas: tuple[Area, Area] | None
    area: Difference | None
    sensitivity: Difference | None
    specificity: Difference | None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two packs, their names, and the figures by finding."""

    first: str
    second: str
    findings: tuple[ComparedFigures, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """How well something that is no anatomy tells the label by itself."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFigures:
    """A plain baseline on the same folds, and the model less the baseline, paired.

    Parameters
    ----------
    matched, matched_gap
        On the samples that are matched for the strongest probe; None where these are
        too few.
    """

    area: Area
    gap: Difference
    matched: Area | None
    matched_gap: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutFigures:
    """What was found about shortcuts to one finding.

    Parameters
    ----------
    shadow
        Whether the rule, which was written beforehand, asks for shadow mode.
    sentences
        What a person should read, in order.
    detail
        Everything that was measured; None where nothing could be.
    """

    finding: str
    shadow: bool
    verdict: str
    sentences: tuple[str, ...]
    alone: tuple[Alone, ...]
    detail: ShortcutReport | None = None
    baseline: BaselineFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures of one evaluation.

    Parameters
    ----------
    thresholds
        The threshold set that operating points are of; "" where there is none.
    gate
        How many images the pack's gate left out; "" where it has none.
    any_flag
        Of studies without any finding, the share with a flag; None where no study is
        known to have none.
    """

    pack: str
    data: str
    level: str
    kind: str
    rows: int
    patients: int
    findings: tuple[FindingFigures, ...]
    quantities: tuple[QuantityFigures, ...] = ()
    any_flag: Proportion | None = None
    retrieval: tuple[RetrievalFigures, ...] = ()
    comparison: Comparison | None = None
    shortcuts: tuple[ShortcutFigures, ...] = ()
    thresholds: str = ""
    gate: str = ""
