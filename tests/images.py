"""Builders for DICOM images with pixels: defaults, keyword overrides."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

PIXELS = np.arange(64 * 56, dtype=np.uint16).reshape(64, 56)


def image(pixels: NDArray[Any] = PIXELS, **changes: Any) -> Dataset:
    """Return a CT image with these stored values: (H, W), (H, W, 3) or frames of both.

    Frames are told from rows by ``NumberOfFrames``. A keyword set to None leaves the
    attribute out.
    """
    frames = "NumberOfFrames" in changes
    shape = pixels.shape[1:] if frames else pixels.shape
    bits = 8 * pixels.dtype.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[repr(sorted(changes))]),
        "Modality": "CT",
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 3 if len(shape) == 3 else 1,
        "PhotometricInterpretation": "RGB" if len(shape) == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if len(shape) == 3 else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a Part 10 file, and return its path."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def as_jpeg2000(dataset: Dataset) -> Dataset:
    """Return the data set of one frame with its pixels as JPEG 2000, lossless."""
    frame = imagecodecs.jpeg2k_encode(
        dataset.pixel_array, level=0, reversible=True, codecformat="J2K"
    )
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return dataset
