"""Ink for the page: fonts, colours, and text that never leaves its box.

The fonts are DejaVu Sans, shipped beside this file, laid out by Pillow's basic
engine, so that a page looks the same wherever it is drawn. The colours are Okabe
and Ito's, told apart with every kind of colour vision; words and shapes say the
same as they do.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]

BACKGROUND: Colour = (9, 11, 14)
TEXT: Colour = (240, 242, 244)
MUTED: Colour = (172, 180, 188)
LINE: Colour = (74, 82, 92)
BAND: Colour = (22, 26, 31)
TROUGH: Colour = (48, 54, 62)
ORANGE: Colour = (230, 159, 0)
SKY_BLUE: Colour = (86, 180, 233)
YELLOW: Colour = (240, 228, 66)
GREY: Colour = (140, 148, 156)
BLACK: Colour = (0, 0, 0)


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


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans in this size, in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    content = (files("sr_writer") / "fonts" / name).read_bytes()
    return ImageFont.truetype(
        BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of text as it was written: the start of its base line, in pixels."""

    text: str
    left: float
    baseline: float
    size: int
    width: float


class Pen:
    """Writes on a picture; every text is given the width that it has.

    Parameters
    ----------
    draw
        Where to write.

    Attributes
    ----------
    lines
        What was written so far.
    """

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw
        self.lines: list[Line] = []

    def write(  # noqa: PLR0913 - where, what and how
        self,
        at: tuple[float, float],
        text: str,
        *,
        size: int,
        width: float,
        bold: bool = False,
        colour: Colour = TEXT,
        anchor: str = "la",
    ) -> float:
        """Write one line, shortened to the width if need be; return its width."""
        face = font(size, bold=bold)
        shown = fit(text, face, width)
        self.draw.text(at, shown, font=face, fill=colour, anchor=anchor)
        used = face.getlength(shown)
        self.lines.append(_line(shown, at, anchor, size=size, width=used))
        return used

    def paragraph(  # noqa: PLR0913 - where, what and how
        self,
        at: tuple[float, float],
        text: str,
        *,
        size: int,
        width: float,
        lines: int,
        bold: bool = False,
        colour: Colour = TEXT,
    ) -> float:
        """Write up to so many lines; return the y below the last one."""
        x, y = at
        for line in wrap(text, font(size, bold=bold), width, lines):
            self.write((x, y), line, size=size, width=width, bold=bold, colour=colour)
            y += line_height(size)
        return y


def _line(
    text: str, at: tuple[float, float], anchor: str, *, size: int, width: float
) -> Line:
    """Return where the text stands, whatever corner it was hung up by."""
    ascent, descent = font(size).getmetrics()
    below = {"a": ascent, "m": (ascent - descent) / 2, "s": 0.0}[anchor[1]]
    before = {"l": 0.0, "m": width / 2, "r": width}[anchor[0]]
    return Line(
        text=text,
        left=at[0] - before,
        baseline=at[1] + below,
        size=size,
        width=width,
    )


def line_height(size: int) -> int:
    """Return the distance from line to line in this size, in pixels."""
    return round(size * 1.3)


def fit(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, or as much of it as fits with an ellipsis."""
    text = printable(text)
    if face.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(text[:middle].rstrip() + "…") <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


def wrap(
    text: str, face: ImageFont.FreeTypeFont, width: float, lines: int
) -> list[str]:
    """Return the text in at most so many lines; what is left over is cut."""
    done: list[str] = []
    line = ""
    for word in printable(text).split():
        longer = f"{line} {word}".strip()
        if line and len(done) < lines - 1 and face.getlength(longer) > width:
            done.append(line)
            line = word
        else:
            line = longer
    return [fit(ln, face, width) for ln in [*done, line] if ln]


def printable(text: str) -> str:
    """Return the text in one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)
