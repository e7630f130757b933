"""What of an image may become part of an atlas: next to nothing, and never its identity.

Headers go through dicom-anonymizer (Kitware), basic application level confidentiality
profile (PS3.15 E.2); of what that leaves, only modality and body part are kept. Pixels
become a small grey picture of the model's input, without any metadata. Images of which
the header says that somebody can be recognised or read in them are refused.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.config import disable_value_validation

from dicom_node.errors import Permanent
from workers.atlas.manifest import DeidentificationSpec

THUMBNAIL_PX = 128
KEPT = ("Modality", "BodyPartExamined")
_LIBRARY = "dicom-anonymizer"
_TEXT_LIKELY = frozenset(
    {"US", "IVUS", "ES", "XC", "GM", "SM", "OT", "OP", "SC", "ECG"}
)
"""Modalities of which pixels often hold a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymous:
    """All that is kept of a header."""

    modality: str
    body_part: str


def statement() -> DeidentificationSpec:
    """Return what an atlas says of how its cases lost their identity."""
    return DeidentificationSpec(
        profile="PS3.15 E.2, Basic Application Level Confidentiality Profile",
        software=f"{_LIBRARY} {_release()}",
        kept=KEPT,
    )


def why_refused(header: Dataset) -> str:
    """Return why an image cannot become part of an atlas; empty if it can."""
    if _said(header, "BurnedInAnnotation") == "YES":
        return "annotations are burned into the pixels"
    if _said(header, "RecognizableVisualFeatures") == "YES":
        return "a person can be recognised in the pixels"
    unsaid = _said(header, "BurnedInAnnotation") != "NO"
    if unsaid and _said(header, "Modality") in _TEXT_LIKELY:
        return "the header does not say that no annotations are burned in"
    return ""


def anonymise(header: Dataset) -> Anonymous:
    """Return what is kept of a header. `header` itself stays as it is.

    Raises
    ------
    Permanent
        If the library is not installed, or cannot treat the header.
    """
    try:
        from dicomanonymizer import anonymize_dataset  # noqa: PLC0415 - optional
    except ImportError as error:
        raise Permanent(
            "an atlas is built with dicom-anonymizer: install pacsight[atlas]"
        ) from error
    copy = _without_pixels(header)
    with disable_value_validation():  # its warnings show values
        try:
            anonymize_dataset(copy)
        except Exception as error:
            raise Permanent(
                "a header could not be de-identified "
                f"({type(error).__name__}): nothing was written"
            ) from error
    return Anonymous(
        modality=_said(copy, "Modality"), body_part=_said(copy, "BodyPartExamined")
    )


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """Return a PNG of model input (3, S, S) uint8: grey, small, without metadata."""
    small = Image.fromarray(np.ascontiguousarray(image[0]))
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    content = BytesIO()
    Image.fromarray(np.asarray(small)).save(content, "PNG", optimize=True)
    return content.getvalue()


def _without_pixels(header: Dataset) -> Dataset:
    copy = Dataset()
    for element in header:
        if element.tag.group not in (0x7FE0, 0x0002):
            copy.add(element)
    return copy


def _said(header: Dataset, keyword: str) -> str:
    value: Any = header.get(keyword)
    return str(value or "").strip().upper()


def _release() -> str:
    try:
        return version(_LIBRARY)
    except PackageNotFoundError:
        return "(not installed)"
