"""The page: one picture that says at a glance what the pack found, and that it is AI.

Pure drawing. The worker decodes, windows and inverts; this package lays out. No
patient identity is drawn. The top left corner stays free, because viewers write over
it. The smallest text is 18 pixels of 1024, legible when the page is shown at half its
size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_node.domain import Category, Estimate, Finding, Flag, Result
from sr_writer import ink
from sr_writer.answers import draw_answers
from sr_writer.ink import Box, Colour, Line, Pen, line_height
from sr_writer.montage import PICTURES_SHOWN, Picture, draw_pictures
from sr_writer.rows import draw_findings, reading_order

__all__ = [
    "BANNER",
    "FREE_CORNER",
    "HEIGHT",
    "PICTURES_SHOWN",
    "WIDTH",
    "Page",
    "Picture",
    "draw_page",
    "headline",
    "reading_order",
]

WIDTH, HEIGHT = 1536, 1024
FREE_CORNER = 100
"""Pixels at the top left that stay as they are."""
BANNER = "AI RESULT - RESEARCH - NOT FOR DIAGNOSIS"

_MARGIN = 24
_TOP = 116
_BOTTOM = HEIGHT - 16
_LEFT_WIDTH = 768
_PICTURES = Box(_MARGIN, _TOP, _MARGIN + _LEFT_WIDTH, 872)
_RIGHT = _PICTURES.right + 28
_RIGHT_WIDTH = WIDTH - _MARGIN - _RIGHT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Page:
    """The page, drawn: its pixels, and the words that stand on it.

    Parameters
    ----------
    pixels
        (1024, 1536, 3) uint8, RGB.
    """

    pixels: NDArray[np.uint8]
    lines: tuple[Line, ...]


def draw_page(
    result: Result, pictures: Sequence[Picture], *, concluded_at: datetime
) -> Page:
    """Return the page of a result.

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
    draw_pictures(sheet, pen, pictures[:PICTURES_SHOWN], _PICTURES)
    _draw_provenance(pen, result, concluded_at)
    right = _RIGHT + _RIGHT_WIDTH
    y = _draw_summary(pen, result)
    y = draw_answers(pen, result, Box(_RIGHT, y, right, _BOTTOM))
    area = Box(_RIGHT, y, right, _BOTTOM)
    draw_findings(pen, result.findings, area, said=_obstacle(result))
    return Page(pixels=np.asarray(sheet), lines=tuple(pen.lines))


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
    if not evaluated:
        return ", ".join(result.answers)
    return "No finding at or above threshold"


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
    y: float = _PICTURES.bottom + 10
    for text, bold, colour in _provenance(result, concluded_at):
        pen.write(
            (_MARGIN, y), text, size=18, width=_LEFT_WIDTH, bold=bold, colour=colour
        )
        y += line_height(18)
    if result.algorithm.statement:
        pen.paragraph(
            (_MARGIN, y),
            result.algorithm.statement,
            size=18,
            width=_LEFT_WIDTH,
            lines=max(1, int((_BOTTOM - y) // line_height(18))),
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
    asked: list[Finding | Category | Estimate] = [
        *result.findings,
        *result.categories,
        *result.estimates,
    ]
    if selections := dict.fromkeys(one.selection for one in asked if one.selection):
        yield f"Selection: {'  ·  '.join(selections)}", False, ink.TEXT
    if result.shadow:
        names = ", ".join(finding.concept.meaning for finding in result.shadow)
        yield f"In shadow mode, not reported: {names}", False, ink.MUTED
    if result.unreadable:
        count = len({u.image.sop_instance_uid for u in result.unreadable})
        of = f"{count} of {images} could not be read"
        yield f"PARTIAL: {of}", True, ink.YELLOW


# ── summary ─────────────────────────────────────────────────────────────────


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
        if why := _obstacle(result):
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


def _obstacle(result: Result) -> str:
    """Return why nothing was evaluated; empty where something was."""
    if result.evaluated:
        return ""
    return result.reason or next((f.reason for f in result.findings if f.reason), "")


def _counts(result: Result) -> Iterator[str]:
    findings = result.findings
    evaluated = sum(f.score is not None for f in findings)
    if findings:
        yield f"{evaluated} finding{'s' if evaluated != 1 else ''} evaluated"
    else:
        yield "No finding is looked for"
    for flag, words in (
        (Flag.INDETERMINATE, "indeterminate"),
        (Flag.NOT_EVALUATED, "not evaluated"),
    ):
        if count := sum(f.flag is flag for f in findings):
            yield f"{count} {words}"
