"""A fit as a table of 80 columns: what each head can do, and how sure that is."""

from rich.console import Group, RenderableType
from rich.table import Table

from workers.fitting.report import Fit
from workers.fitting.story import FitReport
from workers.measures import Area, Estimate, Proportion


def fit_table(report: FitReport) -> RenderableType:
    """Return the figures of each finding, and what they rest on."""
    shown = Table("finding", "studies", "head", "AUC", "Brier", "slope", expand=False)
    for fit in report.fits:
        slope = fit.recalibration
        shown.add_row(
            fit.finding,
            f"{fit.positives} of {fit.studies}",
            _head(fit),
            _interval(fit.area),
            f"{fit.brier.value:.3f}",
            _interval(slope.slope) if slope else "-",
        )
    return Group(shown, *(_sentence(fit) for fit in report.fits))


def _head(fit: Fit) -> str:
    choice = fit.choice
    parameters = [f"{n} {_short(v)}" for n, v in choice.parameters.items()]
    calibration = choice.calibration.method or "not calibrated"
    return "\n".join((choice.kind, *parameters, calibration))


def _sentence(fit: Fit) -> str:
    how = (
        "scores of test patients"
        if fit.kind == "test"
        else f"out-of-fold scores, {len(fit.choices)} outer folds by patient"
    )
    return (
        f"{fit.finding}: {how}, {fit.patients} patients; {fit.left_out} studies "
        f"uncertain or missing. Provisional threshold {fit.threshold:.3f}: "
        f"sensitivity {_interval(fit.sensitivity)}, "
        f"specificity {_interval(fit.specificity)}, flattered by the choice."
    )


def _interval(found: Area | Estimate | Proportion) -> str:
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
