"""Studies without end: phantoms made once, small, and stamped anew for each study."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from random import Random

from pydicom import Dataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import encode

from workers.phantoms import datasets, phantom

PATTERNS = 6
SIZE = 96
"""Rows and columns: as small as keeps a chest a chest to the demo pack."""
STAMPED = frozenset(
    {
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "InstanceNumber",
        "PatientID",
        "PatientName",
        "AccessionNumber",
        "StudyID",
    }
)
"""What each instance has of its own; all else is shared."""
TWO_IMAGES = 0.4
"""So many of the studies have two instances."""


@dataclass(frozen=True)
class Instance:
    """An instance that is to be sent."""

    dataset: Dataset

    @property
    def uid(self) -> str:
        """Return its SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of its data set, in explicit VR little endian."""
        content = encode(self.dataset, is_implicit_vr=False, is_little_endian=True)
        assert content is not None
        return sha256(content).hexdigest()

    def file(self) -> bytes:
        """Return it as a Part 10 file."""
        file = BytesIO()
        dcmwrite(file, self.dataset, enforce_file_format=True)
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study that is to be sent, and how: drawn from the seed and its number."""

    number: int
    uid: str
    instances: tuple[Instance, ...]


def patterns() -> tuple[Dataset, ...]:
    """Return the phantoms that all studies are copies of."""
    return tuple(
        datasets(phantom("pneumothorax", seed), size=SIZE)[0]
        for seed in range(PATTERNS)
    )


def study(seed: int, number: int, of: Sequence[Dataset]) -> Study:
    """Return the study of that number: the same for the same seed."""
    random = Random(f"study {seed} {number}")  # noqa: S311 - a test's own dice
    count = 2 if random.random() < TWO_IMAGES else 1
    pattern = random.choice(of)
    uid = _uid(seed, number, "study")
    images = tuple(_stamped(pattern, seed, number, n) for n in range(count))
    return Study(number=number, uid=uid, instances=images)


def _stamped(pattern: Dataset, seed: int, number: int, image: int) -> Instance:
    one = Dataset({e.tag: e for e in pattern if e.keyword not in STAMPED})
    one.StudyInstanceUID = _uid(seed, number, "study")
    one.SeriesInstanceUID = _uid(seed, number, "series")
    one.SOPInstanceUID = _uid(seed, number, f"image {image}")
    one.InstanceNumber = str(image + 1)
    one.PatientID = f"CHAOS-{number:06}"
    one.PatientName = f"Chaos^{number:06}"
    one.AccessionNumber = f"C{number:06}"
    one.StudyID = f"{number:06}"
    one.file_meta = copy(pattern.file_meta)
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return Instance(one)


def _uid(seed: int, number: int, part: str) -> str:
    return str(generate_uid(entropy_srcs=["chaos", str(seed), str(number), part]))
