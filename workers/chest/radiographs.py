"""A folder of chest radiographs with a table: read once, checked, at one size.

The layout of NIH ChestX-ray14 (Wang et al., CVPR 2017), reduced: ``images/`` with 8-bit
PNG files and ``labels.csv`` with the columns file, patient, labels (joined by ``|``),
sex, age (years) and view. The folder belongs to whoever has it; nothing of it is copied
anywhere.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from workers.decode import Decoded
from workers.facts import Rescale
from workers.policy import Preprocessing
from workers.preprocess import intensities
from workers.resample import bicubic

COLUMNS: Final = ("file", "patient", "labels", "sex", "age", "view")
NO_FINDING: Final = "No Finding"
PNEUMONIA: Final = "Pneumonia"

_OLDEST = 120  # years


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Radiographs:
    """N radiographs of P patients.

    Parameters
    ----------
    images
        (N, H, W) uint8, 0 black to 255 white, after the policy's grey levels and
        before its last resize; all of one size.
    files, patients
        Names of the images, (N,), and the distinct ones of patients, (P,).
    patient
        (N,) int32, into `patients`.
    male, ap
        (N,) bool: sex M and not F, view AP and not PA.
    age
        (N,) float32, years.
    findings
        Of each image, (N,); empty where the table says "No Finding".
    """

    images: NDArray[np.uint8]
    files: tuple[str, ...]
    patients: tuple[str, ...]
    patient: NDArray[np.int32]
    male: NDArray[np.bool_]
    ap: NDArray[np.bool_]
    age: NDArray[np.float32]
    findings: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    @property
    def pneumonia(self) -> NDArray[np.int8]:
        """Return (N,): 1 with the label, 0 with no finding at all, else -1."""
        return np.array(
            [1 if PNEUMONIA in found else -bool(found) for found in self.findings],
            np.int8,
        )


def read_radiographs(folder: Path, policy: Preprocessing) -> Radiographs:
    """Return the radiographs of a folder, with the grey levels of `policy`.

    Raises
    ------
    Permanent
        If the table or an image is missing or is not what it should be.
    """
    rows = _table(folder / "labels.csv")
    images = [_image(folder / "images" / row["file"], policy) for row in rows]
    if len({image.shape for image in images}) != 1:
        raise Permanent(f"{folder / 'images'}: the images differ in size")
    patients = sorted({row["patient"] for row in rows})
    number = {name: at for at, name in enumerate(patients)}
    return Radiographs(
        images=np.stack(images),
        files=tuple(row["file"] for row in rows),
        patients=tuple(patients),
        patient=np.array([number[row["patient"]] for row in rows], np.int32),
        male=np.array([row["sex"] == "M" for row in rows]),
        ap=np.array([row["view"] == "AP" for row in rows]),
        age=np.array([float(row["age"]) for row in rows], np.float32),
        findings=tuple(
            frozenset(row["labels"].split("|")) - {NO_FINDING} for row in rows
        ),
    )


def resized(data: Radiographs, size: int) -> Radiographs:
    """Return the radiographs at `size` pixels a side, as a policy's resize does it."""
    return replace(
        data, images=np.stack([bicubic(image, size) for image in data.images])
    )


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Permanent(f"{path} is no table that can be read: {error}") from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise Permanent(f"{path} lacks the column {missing[0]}")
    if not rows:
        raise Permanent(f"{path} has no rows")
    for line, row in enumerate(rows, start=2):
        _check(row, f"{path}, line {line}")
    _check_distinct([row["file"] for row in rows], path)
    return rows


def _check(row: dict[str, str], where: str) -> None:
    if any(not row[name] for name in COLUMNS):
        raise Permanent(f"{where}: a value is missing")
    if Path(row["file"]).name != row["file"]:
        raise Permanent(f"{where}: a file is named without its folder")
    if row["sex"] not in ("F", "M"):
        raise Permanent(f"{where}: sex must be F or M, not {row['sex']!r}")
    if row["view"] not in ("AP", "PA"):
        raise Permanent(f"{where}: view must be AP or PA, not {row['view']!r}")
    age = row["age"]
    if not (age.isascii() and age.isdecimal() and int(age) <= _OLDEST):
        raise Permanent(f"{where}: age must be whole years up to {_OLDEST}")


def _check_distinct(files: Sequence[str], path: Path) -> None:
    if len(set(files)) != len(files):
        raise Permanent(f"{path} names an image twice")


def _image(path: Path, policy: Preprocessing) -> NDArray[np.uint8]:
    """Return the file's pixels as an instance with these stored values would have them."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError) as error:
        raise Permanent(f"{path} is no image that can be read: {error}") from error
    if pixels.ndim != 2 or pixels.dtype != np.uint8:  # noqa: PLR2004 - grey
        raise Permanent(f"{path} is not grey with 8 bits")
    stored = Decoded(
        pixels=pixels,
        photometric="MONOCHROME2",
        bits=8,
        modality="DX",
        rescale=Rescale(),
        modality_lut=None,
        voi_lut=None,
        windows=(),
        padding=None,
        palette=None,
        aspect=1.0,
        digest=Sha256("0" * 64),
    )
    return intensities(stored, policy.method_for(stored.modality))
