"""The ROC curves of a set as a picture: SVG, written by hand, no library, no script."""

from collections.abc import Iterator
from html import escape

from workers.thresholds.sets import Evidence, Point, ThresholdSet

_SIDE, _MARGIN, _TITLE = 260, 44, 34
_CELL = _SIDE + _MARGIN + 24
_FONT = 'font-family="sans-serif" font-size="11" fill="#222"'


def roc_svg(drawn: ThresholdSet) -> str:
    """Return one panel for each finding that has a curve, as an SVG document."""
    panels = [(k, p) for k, p in drawn.points.items() if p.evidence is not None]
    width, height = max(len(panels), 1) * _CELL, _SIDE + _MARGIN + _TITLE + 8
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(f'ROC curves of {drawn.label}, {drawn.pack}')}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (key, point) in enumerate(panels):
        if point.evidence is not None:
            left = number * _CELL + _MARGIN
            lines.append(f'<g transform="translate({left} {_TITLE})">')
            lines += _panel(key, point, point.evidence)
            lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _panel(key: str, point: Point, evidence: Evidence) -> Iterator[str]:
    yield f'<text x="0" y="-12" {_FONT}>{escape(f"{key}, {point.name}")}</text>'
    yield from _axes()
    steps = " ".join(_at(fpr, tpr) for fpr, tpr, _ in evidence.roc)
    yield f'<polyline points="{steps}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>'
    for threshold, colour in ((point.threshold, "#b3261e"), (point.rule_out, "#777")):
        if threshold is None:
            continue
        x, y = _at(*_nearest(evidence, threshold)).split(",")
        what = f"threshold {threshold:.6g}"
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"><title>{what}</title></circle>'


def _axes() -> Iterator[str]:
    yield f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>'
    yield f'<path d="M0 {_SIDE} L{_SIDE} 0" stroke="#ccc" stroke-dasharray="4 4"/>'
    for tick in (0.0, 0.5, 1.0):
        x, y = _at(tick, tick).split(",")
        yield f'<text x="{x}" y="{_SIDE + 14}" text-anchor="middle" {_FONT}>{tick:g}</text>'
        yield f'<text x="-6" y="{y}" text-anchor="end" {_FONT}>{tick:g}</text>'
    middle = _SIDE / 2
    yield (
        f'<text x="{middle}" y="{_SIDE + 30}" text-anchor="middle" {_FONT}>'
        "1 - specificity</text>"
    )
    yield (
        f'<text transform="translate(-28 {middle}) rotate(-90)" text-anchor="middle" '
        f"{_FONT}>sensitivity</text>"
    )


def _at(fpr: float, tpr: float) -> str:
    return f"{fpr * _SIDE:.1f},{(1 - tpr) * _SIDE:.1f}"


def _nearest(evidence: Evidence, threshold: float) -> tuple[float, float]:
    """Return the point of the curve at a threshold: the last that is not below it."""
    above = [(f, t) for f, t, at in evidence.roc if at >= threshold]
    return above[-1] if above else (0.0, 0.0)
