"""The page as PDF: one picture without loss, and its words to search and copy.

PDF 1.4 through Pillow's object writer. Pillow's own pictures in PDF are JPEG, too coarse
for text; here it is a PNG's compressed rows, which PDF takes as they are (Flate with the
PNG predictors). No clock, no random identifier: the same page gives the same bytes.
"""

from collections.abc import Iterable
from io import BytesIO

from PIL import Image
from PIL.PdfParser import PdfArray, PdfDict, PdfName, PdfParser

from sr_writer.ink import Line
from sr_writer.page import Page

_POINTS_WIDE = 842.0
"""Width of the sheet: that of A4, landscape."""
_COMPRESSION = 3
"""Of zlib: the rows are no tenth larger than at 9, and made in a third of the time."""


def print_page(page: Page, *, title: str) -> bytes:
    """Return the page as a PDF of one sheet.

    Parameters
    ----------
    title
        What a viewer calls the document.
    """
    rows, columns = page.pixels.shape[:2]
    size = (_POINTS_WIDE, _POINTS_WIDE * rows / columns)
    with BytesIO() as file:
        pdf = PdfParser(f=file, mode="w+b")
        pdf.start_writing()
        pdf.info["Title"] = title
        pdf.write_header()
        sheet, contents = pdf.next_object_id(0), pdf.next_object_id(0)
        pdf.pages.append(sheet)
        pdf.write_catalog()
        font = pdf.write_obj(
            None,
            Type=PdfName("Font"),
            Subtype=PdfName("Type1"),
            BaseFont=PdfName("Helvetica"),
            Encoding=PdfName("WinAnsiEncoding"),
        )
        picture = pdf.write_obj(None, stream=_png_rows(page), **_picture(page))
        resources = PdfDict(XObject=PdfDict(Page=picture), Font=PdfDict(F=font))
        box = PdfArray([0, 0, *size])
        pdf.write_page(sheet, Resources=resources, MediaBox=box, Contents=contents)
        pdf.write_obj(contents, stream=_drawn(page, size))
        pdf.write_xref_and_trailer()
        return file.getvalue()


def _picture(page: Page) -> dict[str, object]:
    rows, columns, colours = page.pixels.shape
    predictor = PdfDict(Predictor=15, Colors=colours, Columns=columns)
    return {
        "Type": PdfName("XObject"),
        "Subtype": PdfName("Image"),
        "Width": columns,
        "Height": rows,
        "ColorSpace": PdfName("DeviceRGB"),
        "BitsPerComponent": 8,
        "Filter": PdfName("FlateDecode"),
        "DecodeParms": predictor,
    }


def _png_rows(page: Page) -> bytes:
    """Return what the IDAT chunks of the page as PNG hold (PNG, 11.2.3)."""
    with BytesIO() as file:
        Image.fromarray(page.pixels).save(file, "PNG", compress_level=_COMPRESSION)
        png = file.getvalue()
    rows, at = [], 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            rows.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    return b"".join(rows)


def _drawn(page: Page, size: tuple[float, float]) -> bytes:
    """Return the sheet's operators: the picture, and over it the words, unseen."""
    width, height = size
    scale = width / page.pixels.shape[1]
    picture = f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /Page Do Q\n"
    words = "".join(_unseen(page.lines, scale, height))
    return f"{picture}BT 3 Tr\n{words}ET\n".encode("cp1252")


def _unseen(lines: Iterable[Line], scale: float, height: float) -> Iterable[str]:
    """Yield each line in rendering mode 3 (PDF 1.4, 5.2.5), about where it is seen."""
    for line in lines:
        text = line.text.encode("cp1252", "replace").decode("cp1252")
        for special in "\\()":
            text = text.replace(special, f"\\{special}")
        x, y = line.left * scale, height - line.baseline * scale
        yield f"/F {line.size * scale:.3f} Tf 1 0 0 1 {x:.3f} {y:.3f} Tm ({text}) Tj\n"
