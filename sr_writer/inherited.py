"""What pictures inherit from the images they are made of: what may be seen in them.

Burned In Annotation (PS3.3 C.7.6.1, C.24.2), Recognizable Visual Features.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset

from sr_writer.document import text_of

_PHOTOGRAPHIC = frozenset({"DMS", "ES", "GM", "OP", "XC"})
"""Modalities whose pictures may show a face."""


def burned_in(sources: Sequence[Dataset]) -> str:
    """Return NO if every source says NO, YES if one says YES, else empty."""
    stated = {text_of(s, "BurnedInAnnotation").upper() for s in sources}
    if "YES" in stated:
        return "YES"
    return "NO" if stated == {"NO"} else ""


def recognizable(sources: Sequence[Dataset]) -> str:
    """Return YES if a source says so, or is a photograph and does not deny it."""
    features = {text_of(s, "RecognizableVisualFeatures").upper() for s in sources}
    modalities = {text_of(s, "Modality").upper() for s in sources}
    photographed = features != {"NO"} and modalities & _PHOTOGRAPHIC
    return "YES" if "YES" in features or photographed else "NO"
