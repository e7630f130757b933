"""Plots of an evaluation as SVG: text stays text, colours are told apart by everybody.

Colours: Okabe and Ito, "Color Universal Design", 2008. Nothing is drawn that the JSON
does not hold.
"""

from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workers.evaluating.figures import (
    Alone,
    AttributeFigures,
    FindingFigures,
    GroupFigures,
    PointFigures,
)
from workers.measures import Area, Estimate, Gap, Proportion

BLUE: Final = "#0072B2"
RED: Final = "#D55E00"
GREY: Final = "#767676"
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}
_ROW_INCHES: Final = 0.24
_LETTER_INCHES: Final = 0.075
"""Of a label: more than a letter takes on average at 9 points."""

Interval = Area | Proportion | Estimate


def curves(finding: FindingFigures, *, salt: str) -> str:
    """Return ROC, precision-recall, and scores by class or calibration, side by side."""
    panels = 4 if finding.calibration else 3
    with rc_context(_STYLE | {"svg.hashsalt": salt}):
        figure = Figure(figsize=(3.0 * panels, 3.0))
        axes = figure.subplots(1, panels)
        figure.subplots_adjust(  # as tight as the layout that tries: twice as fast
            left=0.15 / panels,
            right=1 - 0.02 / panels,
            bottom=0.16,
            top=0.91,
            wspace=0.33,
        )
        _roc(axes[0], finding)
        _precision(axes[1], finding)
        _scores(axes[2], finding)
        if finding.calibration:
            _calibration(axes[3], finding)
        return _svg(figure)


def forest(
    finding: FindingFigures, attributes: Sequence[AttributeFigures], *, salt: str
) -> str:
    """Return area, sensitivity and specificity of each group, with their intervals."""
    point = finding.points[0] if finding.points else None
    columns: list[tuple[str, Interval | None, str]] = [
        ("Area under the ROC curve", finding.area, "area")
    ]
    if point is not None:
        columns += [
            ("Sensitivity", point.sensitivity, "sensitivity"),
            ("Specificity", point.specificity, "specificity"),
        ]
    return _forest(columns, attributes, salt=salt)


def forest_of_errors(
    overall: Estimate, attributes: Sequence[AttributeFigures], *, salt: str
) -> str:
    """Return the mean absolute error of each group, with its interval."""
    columns = [("Mean absolute error", overall, "error")]
    return _forest(columns, attributes, salt=salt)


def shortcuts(alone: Sequence[Alone], *, salt: str) -> str:
    """Return the areas of probes and of the model, with their intervals."""
    with rc_context(_STYLE | {"svg.hashsalt": salt}):
        height = 0.7 + _ROW_INCHES * len(alone)
        figure = Figure(figsize=(7.0, height), layout="constrained")
        axes = figure.subplots()
        for row, one in enumerate(alone):
            _interval(axes, row, (one.value, one.low, one.high), BLUE, "o")
        axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(alone)), [one.name for one in alone])
        axes.set_ylim(len(alone) - 0.5, -0.5)
        axes.set_xlim(0.3, 1.0)
        axes.set_xlabel("Area under the ROC curve, 95 % interval")
        return _svg(figure)


def _roc(axes: Axes, finding: FindingFigures) -> None:
    fpr, tpr = [p[0] for p in finding.roc], [p[1] for p in finding.roc]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(fpr, tpr, color=BLUE)
    for point in finding.points:
        _mark(axes, point)
    _square(axes, "ROC curve", "1 - specificity", "Sensitivity")


def _mark(axes: Axes, point: PointFigures) -> None:
    """Draw a threshold with both of its intervals."""
    x, y = 1 - point.specificity.value, point.sensitivity.value
    axes.plot(
        [1 - point.specificity.high, 1 - point.specificity.low],
        [y, y],
        color=RED,
        linewidth=1,
    )
    low, high = point.sensitivity.low, point.sensitivity.high
    axes.plot([x, x], [low, high], color=RED, linewidth=1)
    axes.plot([x], [y], "D", color=RED, markersize=5, label=point.name)
    axes.legend(loc="lower right")


def _precision(axes: Axes, finding: FindingFigures) -> None:
    recall, precision = [p[0] for p in finding.pr], [p[1] for p in finding.pr]
    axes.axhline(finding.prevalence, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(recall, precision, color=BLUE, drawstyle="steps-post")
    for point in finding.points:
        confusion = point.confusion
        flagged = confusion.flagged_positive + confusion.flagged_negative
        if flagged:
            ppv = confusion.flagged_positive / flagged
            axes.plot([point.sensitivity.value], [ppv], "D", color=RED, markersize=5)
    _square(axes, "Precision and recall", "Recall (sensitivity)", "Precision (PPV)")


def _scores(axes: Axes, finding: FindingFigures) -> None:
    spread = finding.histogram
    if spread is None:
        return
    for counts, colour, label, hatch in (
        (spread.negatives, GREY, "without", ""),
        (spread.positives, BLUE, "with", "///"),
    ):
        total = max(1, sum(counts))
        shares = [count / total for count in counts]
        axes.stairs(shares, spread.edges, color=colour, label=label, linewidth=1.4)
        axes.stairs(
            shares,
            spread.edges,
            color=colour,
            fill=True,
            alpha=0.18,
            hatch=hatch,
        )
    for point in finding.points:
        axes.axvline(point.threshold, color=RED, linewidth=1, linestyle="--")
        if point.rule_out is not None:
            axes.axvline(point.rule_out, color=RED, linewidth=1, linestyle=":")
    axes.set_title("Scores of studies")
    axes.set_xlabel("Probability" if finding.calibrated else "Score (no probability)")
    axes.set_ylabel("Share of the class")
    axes.legend(loc="upper center", ncols=2)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)


def _calibration(axes: Axes, finding: FindingFigures) -> None:
    found = finding.calibration
    if found is None:
        return
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for one in found.bins:
        axes.plot(
            [one.predicted] * 2,
            [one.observed.low, one.observed.high],
            color=BLUE,
            linewidth=1,
        )
    axes.plot(
        [one.predicted for one in found.bins],
        [one.observed.value for one in found.bins],
        "o-",
        color=BLUE,
        markersize=4,
        linewidth=1,
    )
    _square(axes, "Calibration", "Said (mean of the bin)", "Came true")


def _forest(
    columns: Sequence[tuple[str, Interval | None, str]],
    attributes: Sequence[AttributeFigures],
    *,
    salt: str,
) -> str:
    rows = [(a.name, group) for a in attributes for group in a.groups]
    labels = [f"{name}: {group.name}" for name, group in rows]
    with rc_context(_STYLE | {"svg.hashsalt": salt}):
        aside = 0.3 + _LETTER_INCHES * max(map(len, labels), default=0)
        width = 3.3 * len(columns) + aside
        height = 0.85 + _ROW_INCHES * len(rows)
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(  # as tight as the layout that tries, and sooner
            left=aside / width,
            right=1 - 0.15 / width,
            bottom=0.35 / height,
            top=1 - 0.35 / height,
            wspace=0.1,
        )
        every = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, (title, overall, figure_name) in zip(every, columns, strict=True):
            _forest_column(axes, [group for _, group in rows], overall, figure_name)
            axes.set_title(title)
        every[0].set_yticks(range(len(rows)), labels)
        every[0].set_ylim(len(rows) - 0.5, -0.5)
        return _svg(figure)


def _forest_column(
    axes: Axes, groups: Sequence[GroupFigures], overall: Interval | None, name: str
) -> None:
    if overall is not None:
        axes.axvspan(overall.low, overall.high, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(overall.value, color=GREY, linewidth=0.9)
    for row, group in enumerate(groups):
        found: Interval | None = getattr(group, name)
        if found is None:
            place = overall.value if overall is not None else 0.5
            axes.text(
                place, row, "too few to say", color=GREY, va="center", ha="center"
            )
            continue
        shows = _shows(group.gaps.get(name))
        limits = found.value, found.low, found.high
        _interval(axes, row, limits, RED if shows else BLUE, "D" if shows else "o")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _shows(gap: Gap | None) -> bool:
    return gap is not None and gap.shows


def _interval(
    axes: Axes,
    row: int,
    limits: tuple[float, float, float],
    colour: str,
    marker: str,
) -> None:
    value, low, high = limits
    axes.plot([low, high], [row, row], color=colour, linewidth=1.4)
    axes.plot([value], [row], marker, color=colour, markersize=5)


def _square(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_box_aspect(1)


def _svg(figure: Figure) -> str:
    """Return the figure as an SVG element that scales with the page."""
    written = StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    whole = written.getvalue()
    return whole[whole.index("<svg") :]
