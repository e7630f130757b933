"""The report of an evaluation: one HTML file that needs nothing else, for screen and print."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from workers.evaluating import plots
from workers.evaluating.figures import AttributeFigures, Evaluation
from workers.evaluating.measuring import Progress
from workers.evaluating.rules import RULES
from workers.evaluating.words import at_length, summary

_KIND: Final = {
    "out-of-fold": "out-of-fold scores: each patient was scored by heads that had not "
    "seen them",
    "test": "scores of the finished pack, which must not have been fitted on them",
}


def as_html(
    evaluation: Evaluation, *, version: str, progress: Progress = lambda *_: None
) -> str:
    """Return the page.

    Parameters
    ----------
    version
        Of pacsight, for the foot.
    """
    environment = Environment(
        loader=PackageLoader("workers.evaluating", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"three": three, "p": p_value, "percent": percent}
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        kind=_KIND[evaluation.kind],
        summary=summary(evaluation),
        verdicts={f.key: at_length(f) for f in evaluation.findings},
        shortcuts={found.finding: found for found in evaluation.shortcuts},
        plots=_plots(evaluation, progress),
        rules=RULES,
        version=version,
    )


def three(value: float) -> str:
    """Return a figure with three decimals, or a dash where it is none."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def p_value(value: float) -> str:
    """Return a probability with three decimals."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004 - three decimals


def percent(value: float) -> str:
    """Return a share in per cent, with as many digits as it needs."""
    return f"{100 * value:.3g} %"


def _plots(evaluation: Evaluation, progress: Progress) -> Mapping[str, Any]:
    """Return the SVG elements, by finding: its curves, its groups, its shortcuts."""
    made: dict[str, Any] = {"curves": {}, "groups": {}, "alone": {}}
    total = len(evaluation.findings) + len(evaluation.quantities)
    for number, finding in enumerate(evaluation.findings):
        if finding.area is not None:
            key = finding.key
            made["curves"][key] = _safe(plots.curves(finding, salt=f"c{number}"))
            if _any_group(finding.attributes):
                drawn = plots.forest(finding, finding.attributes, salt=f"g{number}")
                made["groups"][key] = _safe(drawn)
        progress("drawing", number + 1, total)
    for number, quantity in enumerate(evaluation.quantities):
        if quantity.mae is not None and _any_group(quantity.attributes):
            drawn = plots.forest_of_errors(
                quantity.mae, quantity.attributes, salt=f"q{number}"
            )
            made["groups"][quantity.key] = _safe(drawn)
    for number, found in enumerate(evaluation.shortcuts):
        if found.alone:
            drawn = plots.shortcuts(found.alone, salt=f"s{number}")
            made["alone"][found.finding] = _safe(drawn)
    progress("drawing", total, total)
    return made


def _any_group(attributes: Sequence[AttributeFigures]) -> bool:
    return any(attribute.groups for attribute in attributes)


def _safe(svg: str) -> Markup:
    """Return an SVG element as it is: matplotlib has escaped the texts in it."""
    return Markup(svg)  # noqa: S704 - of our own making
