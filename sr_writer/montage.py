"""The pictures of the page: the most relevant one large, the others around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.domain import ImageRef
from sr_writer import ink
from sr_writer.ink import Box, Pen

PICTURES_SHOWN = 6

_CAPTION = 26
_GAP = 8


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


def draw_pictures(
    sheet: Image.Image, pen: Pen, pictures: Sequence[Picture], area: Box
) -> None:
    """Draw the pictures, the most relevant first, inside an area of the page."""
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
    """Return where each picture goes: the first gets most of the room."""
    if count <= 1:
        return [area][:count]
    cells = _grid(area, 3)
    right = [cells[2], cells[5], cells[8]]
    if count - 1 <= len(right):
        large = Box(area.left, area.top, cells[1].right, area.bottom)
        return [large, *right][:count]
    large = Box(area.left, area.top, cells[4].right, cells[4].bottom)
    return [large, cells[2], cells[5], cells[6], cells[7], cells[8]][:count]


def _grid(area: Box, side: int) -> list[Box]:
    width = (area.width - _GAP * (side - 1)) / side
    height = (area.height - _GAP * (side - 1)) / side
    return [
        Box(
            left := area.left + column * (width + _GAP),
            top := area.top + row * (height + _GAP),
            left + width,
            top + height,
        )
        for row in range(side)
        for column in range(side)
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
