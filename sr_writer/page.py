"""The page: one picture that says at a glance what the pack found, and that it is AI.

Pure drawing. The worker decodes, windows and inverts; this file lays out. No
patient identity is drawn. The top left corner stays free, because viewers write
over it. Smallest text is 18 pixels on 1024, legible when the page is shown at
half its size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_node.domain import Finding, Flag, ImageRef, Result, Urgency
from sr_writer import ink
from sr_writer.ink import Colour, Pen, line_height

WIDTH, HEIGHT = 1536, 1024
FREE_CORNER = 100
"""Pixels at the top left that stay as they are."""
BANNER = "AI RESULT - RESEARCH - NOT FOR DIAGNOSIS"
PICTURES_SHOWN = 6

_MARGIN = 24
_TOP = 116
_LEFT_WIDTH = 768
_PICTURES_BOTTOM = 872
_RIGHT = _MARGIN + _LEFT_WIDTH + 28
_RIGHT_WIDTH = WIDTH - _MARGIN - _RIGHT
_BOTTOM = HEIGHT - 16
_CAPTION = 26
_GAP = 8
_ROOMY_ROW = 90
_COMPACT_ROW = 40

_COLOURS: dict[Flag, Colour] = {
    Flag.ABOVE: ink.ORANGE,
    Flag.BELOW: ink.SKY_BLUE,
    Flag.INDETERMINATE: ink.YELLOW,
    Flag.NOT_EVALUATED: ink.GREY,
}
_READING_ORDER = (Flag.ABOVE, Flag.INDETERMINATE, Flag.BELOW, Flag.NOT_EVALUATED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """An image of the study, ready to be shown.

    Parameters
    ----------
    pixels
        (H, W) grey levels, 0 black (MONOCHROME2), or (H, W, 3) RGB; uint8,
        windowed, upright.
    pixel_aspect_ratio
        Height of a pixel divided by its width: row spacing by column spacing.
    label
        What it is, e.g. ``slice 12 of 28``.
    image, frame
        The instance that it shows, and the frame, counted from 0.
    score
        Of this frame, for the finding that leads the page; or None.
    """

    pixels: NDArray[np.uint8]
    image: ImageRef
    frame: int = 0
    pixel_aspect_ratio: float = 1.0
    label: str = ""
    score: float | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        rgb = len(shape) == 3 and shape[2] == 3  # noqa: PLR2004 - (H, W, 3)
        if self.pixels.dtype != np.uint8 or not (len(shape) == 2 or rgb) or 0 in shape:  # noqa: PLR2004 - (H, W)
            raise ValueError("a picture is (H, W) or (H, W, 3) uint8")
        if not self.pixel_aspect_ratio > 0:
            raise ValueError("a pixel aspect ratio is positive")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the page, in pixels; right and bottom lie outside."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


def draw_page(
    result: Result, pictures: Sequence[Picture], *, concluded_at: datetime
) -> NDArray[np.uint8]:
    """Return the page of a result: (1024, 1536, 3) uint8, RGB.

    Parameters
    ----------
    pictures
        The most relevant first; `PICTURES_SHOWN` of them are drawn.
    concluded_at
        The result's time, in the time zone that is shown.
    """
    sheet = Image.new("RGB", (WIDTH, HEIGHT), ink.BACKGROUND)
    pen = Pen(ImageDraw.Draw(sheet))
    _draw_header(pen, result)
    _draw_pictures(sheet, pen, pictures[:PICTURES_SHOWN])
    _draw_provenance(pen, result, concluded_at)
    y = _draw_summary(pen, result)
    _draw_findings(pen, result, Box(_RIGHT, y, _RIGHT + _RIGHT_WIDTH, _BOTTOM))
    return np.asarray(sheet)


def headline(result: Result) -> str:
    """Return the result in a few words: what stands largest on the page."""
    if not result.evaluated:
        return "NOT EVALUATED"
    flagged = len(result.flagged)
    evaluated = sum(f.score is not None for f in result.findings)
    if flagged:
        return f"{flagged} of {evaluated} at or above threshold"
    unclear = sum(f.flag is Flag.INDETERMINATE for f in result.findings)
    if unclear:
        return f"{unclear} of {evaluated} indeterminate"
    return "No finding at or above threshold"


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


# ── header and provenance ───────────────────────────────────────────────────


def _draw_header(pen: Pen, result: Result) -> None:
    left = FREE_CORNER + 16
    right = WIDTH - _MARGIN
    pen.draw.rectangle((left, 14, right, 60), fill=ink.ORANGE)
    pen.write(
        ((left + right) / 2, 37),
        BANNER,
        size=32,
        width=right - left - 24,
        bold=True,
        colour=ink.BLACK,
        anchor="mm",
    )
    algorithm = result.algorithm
    title = algorithm.title or algorithm.name
    used = pen.write((left, 72), title, size=26, width=(right - left) * 0.62, bold=True)
    pen.write(
        (left + used + 18, 76),
        f"{algorithm.name} {algorithm.version}",
        size=22,
        width=right - left - used - 18,
        colour=ink.MUTED,
    )


def _draw_provenance(pen: Pen, result: Result, concluded_at: datetime) -> None:
    """Write what was looked at, when and by what, below the pictures."""
    y: float = _PICTURES_BOTTOM + 10
    for text, bold, colour in _provenance(result, concluded_at):
        pen.write(
            (_MARGIN, y), text, size=20, width=_LEFT_WIDTH, bold=bold, colour=colour
        )
        y += line_height(20)
    if result.algorithm.statement:
        pen.paragraph(
            (_MARGIN, y),
            result.algorithm.statement,
            size=20,
            width=_LEFT_WIDTH,
            lines=int((_BOTTOM - y) // line_height(20)),
            bold=True,
            colour=ink.ORANGE,
        )


def _provenance(
    result: Result, concluded_at: datetime
) -> Iterator[tuple[str, bool, Colour]]:
    images = f"{len(result.images)} image{'s' if len(result.images) > 1 else ''}"
    parts = [f"Revision {result.revision}", images]
    if result.predecessors:
        count = len(result.predecessors)
        earlier = (
            "an earlier AI report" if count == 1 else f"{count} earlier AI reports"
        )
        parts.append(f"replaces {earlier}")
    yield "  ·  ".join(parts), False, ink.TEXT
    zone = f"{concluded_at:%z}"
    time = f"{concluded_at:%Y-%m-%d %H:%M:%S} UTC{zone[:3]}:{zone[3:5]}"
    yield f"{time}  ·  pacsight {result.software}", False, ink.MUTED
    if result.unreadable:
        count = len({u.image.sop_instance_uid for u in result.unreadable})
        of = f"{count} of {images} could not be read"
        yield f"PARTIAL: {of}", True, ink.YELLOW


# ── pictures ────────────────────────────────────────────────────────────────


def _draw_pictures(sheet: Image.Image, pen: Pen, pictures: Sequence[Picture]) -> None:
    area = Box(_MARGIN, _TOP, _MARGIN + _LEFT_WIDTH, _PICTURES_BOTTOM)
    if not pictures:
        pen.draw.rectangle(
            (area.left, area.top, area.right - 1, area.bottom - 1), outline=ink.LINE
        )
        centre = ((area.left + area.right) / 2, (area.top + area.bottom) / 2)
        pen.write(
            centre,
            "No image to show",
            size=26,
            width=area.width - 24,
            colour=ink.MUTED,
            anchor="mm",
        )
    for picture, box in zip(pictures, _tiles(area, len(pictures)), strict=True):
        _draw_picture(sheet, pen, picture, box)


def _tiles(area: Box, count: int) -> list[Box]:
    """Return where each picture goes: the first one largest."""
    if count <= 1:
        return [area][:count]
    if count == 2:  # noqa: PLR2004 - beside each other: often two views of one thing
        return _grid(area, columns=2, rows=1)
    if count <= 4:  # noqa: PLR2004 - two by two
        return _grid(area, columns=2, rows=2)[:count]
    cells = _grid(area, columns=3, rows=3)
    large = Box(cells[0].left, cells[0].top, cells[4].right, cells[4].bottom)
    return [large, cells[2], cells[5], cells[6], cells[7], cells[8]][:count]


def _grid(area: Box, *, columns: int, rows: int) -> list[Box]:
    width = (area.width - _GAP * (columns - 1)) / columns
    height = (area.height - _GAP * (rows - 1)) / rows
    return [
        Box(
            left := area.left + column * (width + _GAP),
            top := area.top + row * (height + _GAP),
            left + width,
            top + height,
        )
        for row in range(rows)
        for column in range(columns)
    ]


def _draw_picture(sheet: Image.Image, pen: Pen, picture: Picture, box: Box) -> None:
    """Draw a picture as large as it goes, its proportions kept, its caption below."""
    rows, columns = picture.pixels.shape[:2]
    tall = rows * picture.pixel_aspect_ratio
    scale = min(box.width / columns, (box.height - _CAPTION) / tall)
    size = (max(1, int(columns * scale)), max(1, int(tall * scale)))
    image = Image.fromarray(picture.pixels).resize(
        size, Image.Resampling.LANCZOS, reducing_gap=2.0
    )
    left = int(box.left + (box.width - size[0]) / 2)
    top = int(box.top)
    sheet.paste(image, (left, top))
    caption = picture.label
    if picture.score is not None:
        caption = f"{caption}  ·  {picture.score:.3f}".strip(" ·")
    pen.write(
        ((box.left + box.right) / 2, top + size[1] + 3),
        caption,
        size=18,
        width=box.width - 4,
        colour=ink.TEXT,
        anchor="ma",
    )


# ── findings ────────────────────────────────────────────────────────────────


def _draw_summary(pen: Pen, result: Result) -> float:
    """Write the headline and what it rests on; return the y below it."""
    colour = ink.ORANGE if result.flagged else ink.TEXT
    pen.write(
        (_RIGHT, _TOP - 4),
        headline(result),
        size=34,
        width=_RIGHT_WIDTH,
        bold=True,
        colour=colour,
    )
    y: float = _TOP + 42
    if result.evaluated:
        y = pen.paragraph(
            (_RIGHT, y),
            "  ·  ".join(_counts(result)),
            size=20,
            width=_RIGHT_WIDTH,
            lines=1,
            colour=ink.MUTED,
        )
    else:
        why = result.reason or next((f.reason for f in result.findings if f.reason), "")
        if why:
            y = pen.paragraph((_RIGHT, y), why, size=24, width=_RIGHT_WIDTH, lines=4)
        y = pen.paragraph(
            (_RIGHT, y + 4),
            "This is not a negative result.",
            size=24,
            width=_RIGHT_WIDTH,
            lines=1,
            bold=True,
            colour=ink.YELLOW,
        )
    pen.draw.line((_RIGHT, y + 5, _RIGHT + _RIGHT_WIDTH, y + 5), fill=ink.LINE, width=2)
    return y + 14


def _counts(result: Result) -> Iterator[str]:
    findings = result.findings
    evaluated = sum(f.score is not None for f in findings)
    yield f"{evaluated} finding{'s' if evaluated != 1 else ''} evaluated"
    for flag, words in (
        (Flag.INDETERMINATE, "indeterminate"),
        (Flag.NOT_EVALUATED, "not evaluated"),
    ):
        if count := sum(f.flag is flag for f in findings):
            yield f"{count} {words}"


def _draw_findings(pen: Pen, result: Result, area: Box) -> None:
    """Draw one row per finding, as roomy as their number allows."""
    findings = reading_order(result.findings)
    if not findings:
        return
    most = int(area.height // _COMPACT_ROW)
    left_over = 0
    if len(findings) > most:
        left_over = len(findings) - (most - 1)
        findings = findings[: most - 1]
    height = min(area.height / (len(findings) + bool(left_over)), _ROOMY_ROW + 10)
    scale = _scale(result.findings)
    draw_row = _draw_roomy_row if height >= _ROOMY_ROW else _draw_compact_row
    for index, finding in enumerate(findings):
        top = area.top + index * height
        draw_row(pen, finding, Box(area.left, top, area.right, top + height), scale)
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
    pen.write(
        (row.left + 28, row.top + 2),
        _name(finding),
        size=26,
        width=row.width - used - 28 - 16,
        bold=finding.flag is Flag.ABOVE,
    )
    bar = Box(row.left, row.top + 40, row.right, row.top + 56)
    if finding.score is not None:
        _draw_bar(pen, finding, bar, scale)
    pen.write(
        (row.left, bar.bottom + 5 if finding.score else bar.top),
        _figures(finding, long=True),
        size=19,
        width=row.width,
        colour=ink.MUTED,
    )


def _draw_compact_row(
    pen: Pen, finding: Finding, row: Box, scale: tuple[float, float]
) -> None:
    """Draw the name, and below it bar, figures and flag beside each other."""
    middle = row.top + 30
    _draw_mark(pen, finding.flag, (row.left + 8, row.top + 10), 8)
    pen.write(
        (row.left + 24, row.top - 1),
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
        text += f"   threshold {threshold:.{digits}f} ({point.name})"
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
