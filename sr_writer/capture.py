"""The secondary capture: the page as a DICOM image.

Secondary Capture Image Storage (PS3.3 A.8.1), 8-bit RGB,
Explicit VR Little Endian. It has no Pixel Spacing, so that nobody measures on it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.domain import EncodedObject, ImageRef, ObjectKind
from sr_writer import codes
from sr_writer.document import (
    Basis,
    begin,
    code_item_of,
    finish,
    frame_numbers,
    long_string,
    text_of,
)
from sr_writer.inherited import burned_in, recognizable
from sr_writer.references import instance_reference

_LOSSY_METHODS: dict[str, str] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    JPEG2000MC: "ISO_15444_1",
}


def encode_capture(
    basis: Basis,
    page: NDArray[np.uint8],
    shown: Sequence[tuple[ImageRef, int]],
    sources: Sequence[Dataset],
) -> EncodedObject:
    """Return the page of a result as a secondary capture.

    Parameters
    ----------
    page
        (H, W, 3) uint8, RGB.
    shown
        The images that the page rests on, each with a frame counted from 0.
    sources
        Headers of images of the study: whether their pixels have been compressed
        lossily, and what may be burned into them, is inherited.
    """
    kind = ObjectKind.CAPTURE
    capture = begin(basis, kind, sop_class=SecondaryCaptureImageStorage, modality="OT")
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = None  # a page has none
    _set_pixels(capture, page)
    moment = basis.concluded_at
    capture.DateOfSecondaryCapture = f"{moment:%Y%m%d}"
    capture.TimeOfSecondaryCapture = f"{moment:%H%M%S.%f}"
    _set_derivation(capture, basis, shown)
    _set_body_part(capture, basis.source)
    _set_lossiness(capture, sources)
    if stated := burned_in(sources):
        capture.BurnedInAnnotation = stated
    capture.RecognizableVisualFeatures = recognizable(sources)
    return finish(capture, basis, kind)


def _set_pixels(capture: Dataset, page: NDArray[np.uint8]) -> None:
    """Write the page as it is, pixel after pixel (C.7.6.3)."""
    capture.Rows, capture.Columns, capture.SamplesPerPixel = page.shape
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    capture.PixelData = page.tobytes()
    capture["PixelData"].VR = "OB"


def _set_derivation(
    capture: Dataset, basis: Basis, shown: Sequence[tuple[ImageRef, int]]
) -> None:
    """Say which images the page rests on, and how it came about (C.7.6.1, C.12.4)."""
    algorithm = basis.result.algorithm
    pack = long_string(f"{algorithm.name} {algorithm.version}")
    capture.DerivationDescription = f"Page with the AI result of {pack}"
    frames: dict[ImageRef, set[int]] = {}
    for image, frame in shown:
        frames.setdefault(image, set()).add(frame)
    capture.SourceImageSequence = [
        _source_image(image, indices) for image, indices in frames.items()
    ]


def _source_image(image: ImageRef, frames: set[int]) -> Dataset:
    item = instance_reference(image)
    if numbers := frame_numbers(image, frames):
        item.ReferencedFrameNumber = numbers
    item.PurposeOfReferenceCodeSequence = [code_item_of(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "NO"
    return item


def _set_body_part(capture: Dataset, source: Dataset) -> None:
    """Copy what was examined, and its side; empty where that is open (Type 2C)."""
    body_part = text_of(source, "BodyPartExamined").upper()[:16]
    if body_part:
        capture.BodyPartExamined = body_part
    if body_part not in codes.UNPAIRED_BODY_PARTS:
        sides = {text_of(source, k).upper() for k in ("Laterality", "ImageLaterality")}
        known = sorted(sides & {"L", "R"})
        capture.Laterality = known[0] if len(known) == 1 else None


def _set_lossiness(capture: Dataset, sources: Sequence[Dataset]) -> None:
    """Inherit lossy compression, its ratios and methods (C.7.6.1.1.5)."""
    capture.LossyImageCompression = "00"
    for source in sources:
        syntax = _transfer_syntax(source)
        stated = text_of(source, "LossyImageCompression")
        if stated != "01" and (stated == "00" or syntax not in _LOSSY_METHODS):
            continue
        capture.LossyImageCompression = "01"
        if ratio := source.get("LossyImageCompressionRatio"):
            capture.LossyImageCompressionRatio = ratio
        method = source.get("LossyImageCompressionMethod")
        if method := method or _LOSSY_METHODS.get(syntax):
            capture.LossyImageCompressionMethod = method
        return


def _transfer_syntax(source: Dataset) -> str:
    meta = getattr(source, "file_meta", None)
    return "" if meta is None else text_of(meta, "TransferSyntaxUID")
