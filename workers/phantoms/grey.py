"""What the demo encoder sees of a phantom: stored values to an 8-bit square.

The policy is the node's own (`workers.preprocess`), written for arrays: polarity
first, then a fixed window (CT) or the percentiles 1 and 99 (radiographs), rounded
to 8 bits, then Pillow's bicubic resize, aspect ratio not kept.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.phantoms.acquisition import HounsfieldUnits, Stored

Grey = NDArray[np.uint8]

CT_WINDOW_HU: Final = (40.0, 100.0)  # centre and width
PERCENTILES: Final = (1.0, 99.0)


def radiograph_grey(stored: Stored, size: int, *, inverted: bool) -> Grey:
    """(size, size) uint8, white is dense, of 12-bit stored values."""
    values = stored.astype(np.float64)
    if inverted:
        values = 4095 - values
    low, high = np.percentile(values, PERCENTILES)
    return _resized(values, float(low), float(high), size)


def ct_grey(hounsfield: HounsfieldUnits, size: int) -> Grey:
    """(size, size) uint8 of Hounsfield units in the brain window."""
    centre, width = CT_WINDOW_HU
    values = hounsfield.astype(np.float64)
    return _resized(values, centre - width / 2, centre + width / 2, size)


def _resized(values: NDArray[np.float64], low: float, high: float, size: int) -> Grey:
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    image = Image.fromarray(np.rint(scaled).astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
