"""A fit of exclusive labels as tables of 80 columns: figures, and what is taken for what."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from workers.fitting.exclusive.report import CategoryFit
from workers.measures import Area, Estimate, Proportion

_MOST = 6
"""Values whose confusion a table of 80 columns can show."""


def category_table(fit: CategoryFit) -> RenderableType:
    """Return the figures of each value, the confusion of studies, and the rest in words."""
    figures = Table(fit.category, "studies", "recall", "AUC", expand=False)
    for one in fit.values:
        figures.add_row(
            one.name, str(one.studies), _interval(one.recall), _interval(one.area)
        )
    names = [one.name for one in fit.values]
    if len(names) > _MOST:
        return Group(figures, *_sentences(fit), "what is taken for what: --json")
    taken = Table("is", *(f"taken for {name}" for name in names), expand=False)
    for name, row in zip(names, fit.confusion, strict=True):
        taken.add_row(name, *map(str, row))
    return Group(figures, taken, *_sentences(fit))


def _sentences(fit: CategoryFit) -> Iterator[str]:
    choice = fit.choice
    parameters = ", ".join(f"{n} {_short(v)}" for n, v in choice.parameters.items())
    temperature = choice.calibration.temperature
    calibrated = f"temperature {temperature:.3g}" if temperature else "not calibrated"
    how = (
        "shares of test patients"
        if fit.kind == "test"
        else f"out-of-fold shares, {len(fit.choices)} outer folds by patient"
    )
    yield (
        f"accuracy {_interval(fit.accuracy)}, balanced {_interval(fit.balanced)}, "
        f"cross-entropy {fit.loss:.3f}"
    )
    yield f"head: {choice.kind}{', ' if parameters else ''}{parameters}; {calibrated}"
    yield (
        f"{how}: {fit.studies} studies of {fit.patients} patients; {fit.without} "
        f"studies without a value, {fit.several} with several, left out"
    )


def _interval(found: Area | Estimate | Proportion) -> str:
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
