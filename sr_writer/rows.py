"""The findings on the page: a row each, with flag, score, threshold and interval.

What a flag says stands in words; shape and colour only repeat it.
"""

from collections.abc import Sequence

from dicom_node.domain import Finding, Flag, Urgency
from sr_writer import ink
from sr_writer.ink import Box, Colour, Pen

_ROOMY_ROW = 90
_COMPACT_ROW = 40
_PLAIN_ROW = 44
_NAME_SIZES = (26, 24, 22, 20)
"""A name that does not fit beside its flag is written smaller, then in two lines."""

_COLOURS: dict[Flag, Colour] = {
    Flag.ABOVE: ink.ORANGE,
    Flag.BELOW: ink.SKY_BLUE,
    Flag.INDETERMINATE: ink.YELLOW,
    Flag.NOT_EVALUATED: ink.GREY,
}
_READING_ORDER = (Flag.ABOVE, Flag.INDETERMINATE, Flag.BELOW, Flag.NOT_EVALUATED)


def reading_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return flagged findings first, most urgent first, then the others."""
    urgency = list(Urgency)
    return sorted(
        findings,
        key=lambda f: (
            _READING_ORDER.index(f.flag),
            urgency.index(f.urgency) if f.flag is Flag.ABOVE else 0,
        ),
    )


def draw_findings(
    pen: Pen, findings: Sequence[Finding], area: Box, *, said: str = ""
) -> None:
    """Draw one row per finding, as roomy as their number allows.

    Parameters
    ----------
    said
        A reason that stands above already, and is not repeated in every row.
    """
    if not findings:
        return
    scale = _scale(findings)
    findings = reading_order(findings)
    most = int(area.height // _COMPACT_ROW)
    left_over = 0
    if len(findings) > most:
        left_over = len(findings) - (most - 1)
        findings = findings[: most - 1]
    height = min(area.height / (len(findings) + bool(left_over)), _ROOMY_ROW + 10)
    plain = all(f.score is None and f.reason in {"", said} for f in findings)
    if plain:
        height = min(height, _PLAIN_ROW)
    roomy = height >= _ROOMY_ROW
    for index, finding in enumerate(findings):
        top = area.top + index * height
        row = Box(area.left, top, area.right, top + height)
        if plain:
            _draw_plain_row(pen, finding, row)
        elif roomy:
            _draw_roomy_row(pen, finding, row, scale)
        else:
            _draw_band(pen, row, index)
            _draw_compact_row(pen, finding, row, scale)
    if left_over:
        pen.write(
            (area.left, area.top + len(findings) * height + 4),
            f"and {left_over} more findings: see the report",
            size=20,
            width=area.width,
            colour=ink.MUTED,
        )


def _scale(findings: Sequence[Finding]) -> tuple[float, float]:
    """Return the ends of the bars: 0 and 1, unless scores lie elsewhere."""
    values = [0.0, 1.0]
    for finding in findings:
        if finding.score is not None:
            values += [finding.score.value, *(finding.score.interval or ())]
        if finding.operating_point is not None:
            values.append(finding.operating_point.threshold)
    return min(values), max(values)


def _draw_roomy_row(
    pen: Pen, finding: Finding, row: Box, scale: tuple[float, float]
) -> None:
    """Draw name and flag, then the bar, then the figures."""
    colour = _COLOURS[finding.flag]
    words = _flag_words(finding)
    used = pen.write(
        (row.right, row.top + 6),
        words,
        size=20,
        width=row.width * 0.55,
        bold=True,
        colour=colour,
        anchor="ra",
    )
    _draw_mark(pen, finding.flag, (row.left + 10, row.top + 18), 10)
    _draw_name(pen, finding, (row.left + 28, row.top), row.width - used - 28 - 16)
    bar = Box(row.left, row.top + 44, row.right, row.top + 59)
    if finding.score is not None:
        _draw_bar(pen, finding, bar, scale)
    pen.paragraph(
        (row.left, bar.bottom + 4 if finding.score else bar.top - 5),
        _figures(finding, long=True),
        size=19,
        width=row.width,
        lines=1 if finding.score else 2,
        colour=ink.MUTED,
    )


def _draw_name(
    pen: Pen, finding: Finding, at: tuple[float, float], width: float
) -> None:
    """Write the name as large as it fits beside the flag, at worst in two lines."""
    name, bold = _name(finding), finding.flag is Flag.ABOVE
    fitting = (
        s for s in _NAME_SIZES if ink.font(s, bold=bold).getlength(name) <= width
    )
    size = next(fitting, 0)
    if size:
        top = at[1] + 2 + (_NAME_SIZES[0] - size) / 2
        pen.write((at[0], top), name, size=size, width=width, bold=bold)
        return
    lines = ink.wrap(name, ink.font(18, bold=bold), width, 2)
    for number, line in enumerate(lines):
        top = at[1] - 1 + 20 * number
        pen.write((at[0], top), line, size=18, width=width, bold=bold)


def _draw_plain_row(pen: Pen, finding: Finding, row: Box) -> None:
    """Draw the name and the flag: there is nothing else to say."""
    used = pen.write(
        (row.right, row.top + 6),
        _flag_words(finding),
        size=20,
        width=row.width * 0.55,
        bold=True,
        colour=_COLOURS[finding.flag],
        anchor="ra",
    )
    _draw_mark(pen, finding.flag, (row.left + 10, row.top + 18), 10)
    _draw_name(pen, finding, (row.left + 28, row.top), row.width - used - 28 - 16)


def _draw_band(pen: Pen, row: Box, index: int) -> None:
    """Lay a band under every second row: name and bar are seen to belong together."""
    if index % 2 == 0:
        box = (row.left, row.top - 1, row.right - 1, row.bottom - 2)
        pen.draw.rectangle(box, fill=ink.BAND)


def _draw_compact_row(
    pen: Pen, finding: Finding, row: Box, scale: tuple[float, float]
) -> None:
    """Draw the name, and below it bar, figures and flag beside each other."""
    top = row.top + (row.height - _COMPACT_ROW) / 2
    middle = top + 29
    _draw_mark(pen, finding.flag, (row.left + 10, top + 9), 8)
    pen.write(
        (row.left + 24, top - 2),
        _name(finding),
        size=18,
        width=row.width - 24,
        bold=finding.flag is Flag.ABOVE,
    )
    bar = Box(row.left + 24, middle - 5, row.left + 234, middle + 5)
    figures_left = bar.left
    if finding.score is not None:
        _draw_bar(pen, finding, bar, scale)
        figures_left = bar.right + 14
    used = pen.write(
        (row.right, middle),
        _flag_words(finding),
        size=18,
        width=row.width * 0.45,
        bold=True,
        colour=_COLOURS[finding.flag],
        anchor="rm",
    )
    pen.write(
        (figures_left, middle),
        _figures(finding, long=False),
        size=18,
        width=row.right - used - 12 - figures_left,
        colour=ink.MUTED,
        anchor="lm",
    )


def _name(finding: Finding) -> str:
    side = f" ({finding.laterality.meaning.lower()})" if finding.laterality else ""
    return f"{finding.concept.meaning}{side}"


def _flag_words(finding: Finding) -> str:
    if finding.flag is Flag.ABOVE:
        return f"{finding.urgency.value.upper()}: AT OR ABOVE"
    return finding.flag.value.upper()


def _figures(finding: Finding, *, long: bool) -> str:
    """Return score and threshold, with as many digits as tell them apart."""
    if finding.score is None:
        return finding.reason
    value, point = finding.score.value, finding.operating_point
    threshold = point.threshold if point is not None else value
    digits = next(
        (
            d
            for d in range(3, 7)
            if value == threshold or f"{value:.{d}f}" != f"{threshold:.{d}f}"
        ),
        3,
    )
    if not long:
        return f"{value:.{digits}f} / {threshold:.{digits}f}"
    kind = "Probability" if finding.score.calibration_set else "Score"
    text = f"{kind} {value:.{digits}f}"
    if finding.score.interval is not None:
        low, high = finding.score.interval
        text += f" (95 % {low:.{digits}f} to {high:.{digits}f})"
    if point is not None:
        text += f" · threshold {threshold:.{digits}f} ({point.name})"
        if point.rule_out is not None:
            text += f" · ruled out below {point.rule_out:.{digits}f}"
    return text


def _draw_bar(pen: Pen, finding: Finding, bar: Box, scale: tuple[float, float]) -> None:
    """Draw the score as a bar, the interval as a whisker, the threshold as a mark."""
    draw, low = pen.draw, scale[0]

    def x_of(value: float) -> float:
        return bar.left + (value - low) / (scale[1] - low) * (bar.width - 1)

    if finding.score is None:
        return
    draw.rectangle((bar.left, bar.top, bar.right - 1, bar.bottom - 1), fill=ink.TROUGH)
    ends = sorted((x_of(min(max(0.0, low), scale[1])), x_of(finding.score.value)))
    draw.rectangle(
        (ends[0], bar.top, ends[1], bar.bottom - 1), fill=_COLOURS[finding.flag]
    )
    if finding.score.interval is not None:
        ends = [x_of(v) for v in finding.score.interval]
        middle = (bar.top + bar.bottom - 1) / 2
        draw.line((ends[0], middle, ends[1], middle), fill=ink.TEXT, width=2)
        for x in ends:
            draw.line((x, middle - 4, x, middle + 4), fill=ink.TEXT, width=2)
    if finding.operating_point is not None:
        if finding.operating_point.rule_out is not None:
            x = x_of(finding.operating_point.rule_out)
            draw.rectangle((x - 1, bar.top - 3, x, bar.bottom + 2), fill=ink.TEXT)
        x = x_of(finding.operating_point.threshold)
        draw.rectangle(
            (x - 2, bar.top - 5, x + 2, bar.bottom + 4),
            fill=ink.TEXT,
            outline=ink.BACKGROUND,
        )


def _draw_mark(pen: Pen, flag: Flag, centre: tuple[float, float], r: float) -> None:
    """Draw a shape that says the flag without colour."""
    x, y = centre
    colour = _COLOURS[flag]
    if flag is Flag.ABOVE:
        points = [(x - r, y + r * 0.8), (x + r, y + r * 0.8), (x, y - r)]
        pen.draw.polygon(points, fill=colour)
    elif flag is Flag.BELOW:
        box = (x - r * 0.8, y - r * 0.8, x + r * 0.8, y + r * 0.8)
        pen.draw.ellipse(box, outline=colour, width=2)
    elif flag is Flag.INDETERMINATE:
        points = [(x - r, y), (x, y - r), (x + r, y), (x, y + r)]
        pen.draw.polygon(points, outline=colour, width=2)
    else:
        pen.draw.line((x - r * 0.8, y, x + r * 0.8, y), fill=colour, width=3)
