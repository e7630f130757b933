"""The PDF: the page without loss, its words to search, in a valid document."""

import re
import struct
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PdfParser import PdfParser, PdfStream, decode_text
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.domain import Code, FrameScore, ObjectKind, Result
from sr_writer.codes import IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from sr_writer.page import Picture
from tests.builders import ct_images, finding, image_ref, result, source_header
from tests.composed import reread
from tests.judges import tool

RAMP = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def document(
    made_from: Result | None = None, *sources: Dataset, **options: Any
) -> Dataset:
    """Return the encapsulated PDF of a result, re-read."""
    made_from = made_from or result()
    headers = sources or (source_header(made_from.images[0]),)
    shown = [Picture(pixels=RAMP, image=made_from.images[0], label="PA")]
    kinds = [ObjectKind.DOCUMENT]
    (obj,) = compose(made_from, headers, shown, kinds=kinds, **options)
    return reread(obj)


def objects(pdf: bytes) -> dict[str, Any]:
    """Return picture and operators of the only sheet, as Pillow's reader finds them."""
    parser = PdfParser(buf=pdf)
    (sheet,) = (parser.read_indirect(ref) for ref in parser.pages)
    picture = parser.read_indirect(sheet[b"Resources"][b"XObject"][b"Page"])
    return {
        "box": sheet[b"MediaBox"],
        "picture": picture,
        "drawn": parser.read_indirect(sheet[b"Contents"]).buf.decode("cp1252"),
        "info": dict(parser.info),
    }


def seen(picture: PdfStream) -> NDArray[np.uint8]:
    """Return what a viewer sees: the PNG predictors of PDF, undone by a PNG reader."""
    size = (picture.dictionary[b"Width"], picture.dictionary[b"Height"])
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", picture.buf), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", crc32(name + body))
        for name, body in chunks
    )
    return np.asarray(Image.open(BytesIO(png)))


def test_it_is_an_encapsulated_pdf_with_a_title() -> None:
    doc = document()
    assert doc.SOPClassUID == EncapsulatedPDFStorage
    assert (doc.Modality, doc.ConversionType) == ("DOC", "WSD")
    assert doc.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert doc.DocumentTitle == "AI Findings Report"
    assert doc.ConceptNameCodeSequence[0].CodeValue == "AIREPORT"
    (scheme,) = doc.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99PACSIGHT"
    assert doc.VerificationFlag == "UNVERIFIED"
    assert doc.AcquisitionDateTime in (None, "")
    content = doc.EncapsulatedDocument
    assert content.startswith(b"%PDF-1.4\n")
    assert content[: doc.EncapsulatedDocumentLength].endswith(b"%%EOF")
    assert len(content) % 2 == 0
    other = document(title=IMAGING_MEASUREMENT_REPORT)
    assert other.ConceptNameCodeSequence[0].CodeValue == "126000"


def test_its_picture_is_the_capture_s_to_the_last_bit() -> None:
    """Text on a page does not stand a lossy picture."""
    shown = [Picture(pixels=RAMP, image=image_ref(), label="PA")]
    kinds = (ObjectKind.CAPTURE, ObjectKind.DOCUMENT)
    capture, doc = map(reread, compose(result(), [source_header()], shown, kinds=kinds))
    picture = objects(doc.EncapsulatedDocument)["picture"]
    assert picture.dictionary[b"Width"] == capture.Columns
    assert picture.dictionary[b"Filter"] == b"FlateDecode"
    assert picture.dictionary[b"DecodeParms"][b"Predictor"] == 15
    assert np.array_equal(seen(picture), capture.pixel_array)


def test_its_words_can_be_searched() -> None:
    """Every line of the page, in rendering mode 3; brackets and backslashes as text."""
    odd = Code(value="1", scheme="99X", meaning=r"Odd (name) \ of … finding")
    made_from = result([finding(0.9, concept=odd)])
    drawn = objects(document(made_from).EncapsulatedDocument)["drawn"]
    assert "BT 3 Tr" in drawn
    texts = re.findall(r"Tm \((.*)\) Tj", drawn)
    assert "AI RESULT - RESEARCH - NOT FOR DIAGNOSIS" in texts
    assert "1 of 1 at or above threshold" in texts
    assert r"Odd \(name\) \\ of … finding" in texts
    assert "CRITICAL: AT OR ABOVE" in texts


def test_no_clock_and_no_identifier_is_in_it() -> None:
    info = objects(document().EncapsulatedDocument)["info"]
    assert list(info) == [b"Title"]
    assert decode_text(info[b"Title"]) == "AI Findings Report"


def test_nobody_is_named_in_it() -> None:
    pdf = document(None, source_header(PatientName="Secret^Name")).EncapsulatedDocument
    assert b"Secret" not in pdf
    assert b"PAT-0001" not in pdf


def test_it_names_the_images_that_it_rests_on_once_each() -> None:
    images = ct_images(28)
    evidence = tuple(FrameScore(image=images[i], frame=0, score=0.9) for i in (0, 4))
    doc = document(result([finding(0.9, evidence=evidence)], images=images))
    assert [i.ReferencedSOPInstanceUID for i in doc.SourceInstanceSequence] == [
        images[0].sop_instance_uid,
        images[4].sop_instance_uid,
    ]


@pytest.mark.parametrize(
    ("stated", "expected"), [("NO", "NO"), ("YES", "YES"), (None, "YES")]
)
def test_what_nobody_denies_may_be_burned_in(stated: str | None, expected: str) -> None:
    """Type 1, so that it cannot be left open as in the capture."""
    doc = document(None, source_header(BurnedInAnnotation=stated))
    assert doc.BurnedInAnnotation == expected


def test_another_vendor_takes_the_pdf_out_again(tmp_path: Path) -> None:
    """DCMTK's dcm2pdf gives the very bytes back."""
    (obj,) = compose(result(), [source_header()], kinds=[ObjectKind.DOCUMENT])
    (tmp_path / "doc.dcm").write_bytes(obj.content)
    doc = reread(obj)
    subprocess.run(
        [tool("dcm2pdf"), tmp_path / "doc.dcm", tmp_path / "out.pdf"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    taken = (tmp_path / "out.pdf").read_bytes()
    assert taken == doc.EncapsulatedDocument[: doc.EncapsulatedDocumentLength]
