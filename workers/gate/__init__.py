"""The gate: is an embedding like those of the images that a pack was validated on?

Knows vectors and modalities, nothing of packs, DICOM or studies. `fit` makes a gate from
embeddings of validation images, `Gate.outside` says why an image is not looked at.
"""

from workers.gate.exposure import Strangers, strangers
from workers.gate.fitting import Validation, fit
from workers.gate.storage import encode_gate, read_gate
from workers.gate.values import Gate, Learned, Scope

__all__ = [
    "Gate",
    "Learned",
    "Scope",
    "Strangers",
    "Validation",
    "encode_gate",
    "fit",
    "read_gate",
    "strangers",
]
