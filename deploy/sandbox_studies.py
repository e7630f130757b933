"""The sandbox's studies: phantoms with known findings, and files by other people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset, dcmread

from workers.phantoms import datasets, phantom

PHANTOMS = (
    ("chest-normal-1", "chest_normal", 1),
    ("chest-normal-2", "chest_normal", 3),
    ("chest-pneumothorax", "pneumothorax", 4),
    ("chest-effusion", "effusion", 4),
    ("chest-nodule", "nodule", 1),
    ("chest-large-heart", "enlarged_heart", 5),
    ("head-normal", "head_normal", 2),
    ("head-haemorrhage", "haemorrhage", 2),
)
"""Name, kind and seed."""

WHEEL_FILES = (
    ("file-ct", "CT_small.dcm"),
    ("file-mr", "MR_small.dcm"),
    ("file-us-jpeg2000", "examples_jpeg2k.dcm"),
    ("file-us-30-frames", "examples_ybr_color.dcm"),
)
"""Name, and the file that pydicom's wheel carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as a modality would send it: files in a folder."""

    name: str
    modality: str
    study_uid: str
    files: tuple[Path, ...]


def names() -> list[str]:
    """Return what the studies are called, in the order they are sent."""
    return [name for name, *_ in (*PHANTOMS, *WHEEL_FILES)]


def write_study(name: str, folder: Path) -> Study:
    """Return the study of that name, its files written below the folder."""
    instances = _instances(name)
    here = folder / name
    here.mkdir(parents=True)
    files = []
    for number, instance in enumerate(instances, start=1):
        path = here / f"{number:03d}.dcm"
        instance.save_as(path, enforce_file_format=True)
        files.append(path)
    return Study(
        name=name,
        modality=instances[0].Modality,
        study_uid=instances[0].StudyInstanceUID,
        files=tuple(files),
    )


def _instances(name: str) -> Sequence[Dataset]:
    for phantom_name, kind, seed in PHANTOMS:
        if name == phantom_name:
            return datasets(phantom(kind, seed))
    carried = Path(pydicom.__file__).parent / "data" / "test_files"
    return [dcmread(carried / dict(WHEEL_FILES)[name])]
