"""The gate: tells embeddings from those of the images that a pack was validated on.

Knows vectors and modalities, nothing of packs, DICOM or studies. `workers.gate.fitting`
makes a gate (and needs scikit-learn); a worker needs only what is named here.
"""

from workers.gate.storage import encode_gate, read_gate
from workers.gate.values import Gate, Learned, Scope

__all__ = ["Gate", "Learned", "Scope", "encode_gate", "read_gate"]
