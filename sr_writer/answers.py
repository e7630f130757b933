"""Categories and estimates on the page: what was chosen or read off, in words.

They have no threshold and raise no flag, so there is no bar and no mark.
"""

from collections.abc import Iterator

from dicom_node.domain import Category, Estimate, Result
from sr_writer import ink
from sr_writer.ink import Box, Pen

_ROW = 58
_GAP = 14
_BESIDE_FINDINGS = 0.5
"""Part of the area that is theirs where there are findings, too."""


def draw_answers(pen: Pen, result: Result, area: Box) -> float:
    """Draw two lines for each category and estimate; return the y below the last."""
    rows = list(_rows(result))
    room = area.height * (_BESIDE_FINDINGS if result.findings else 1.0)
    most = int(room // _ROW)
    if len(rows) > most:
        left_over = len(rows) - (most - 1)
        rows[most - 1 :] = [(f"and {left_over} more", "see the report")]
    y = area.top
    for name, figures in rows:
        pen.write((area.left, y + 2), name, size=26, width=area.width)
        pen.write(
            (area.left, y + 33), figures, size=19, width=area.width, colour=ink.MUTED
        )
        y += _ROW
    return y + _GAP if rows else y


def _rows(result: Result) -> Iterator[tuple[str, str]]:
    for category in result.categories:
        yield _category(category)
    for estimate in result.estimates:
        yield _estimate(estimate)


def _category(category: Category) -> tuple[str, str]:
    name = category.concept.meaning
    if category.chosen is None:
        return f"{name}: not evaluated", category.reason
    score = category.chosen.score
    figures = f"{'Probability' if score.calibration_set else 'Score'} {score.value:.3f}"
    if (second := category.runner_up) is not None:
        figures += f"   next: {second.label.meaning} {second.score.value:.3f}"
    return f"{name}: {category.chosen.label.meaning}", figures


def _estimate(estimate: Estimate) -> tuple[str, str]:
    name = estimate.concept.meaning
    if estimate.value is None or estimate.spread is None:
        return f"{name}: not evaluated", estimate.reason
    unit = estimate.unit.value
    figures = (
        f"spread of the nearest references {estimate.spread:.1f} {unit}"
        f"{'' if estimate.validated else '   not validated'}"
    )
    return f"{name}: {estimate.value:.1f} {unit}", figures
