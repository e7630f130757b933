"""What tests of the front doors share: files to send, an intake, and its books."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from starlette.applications import Starlette

from dicom_node.domain import Received, Refusal
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.intake import Intake
from dicom_node.matching import PriorityRule
from dicom_node.spool import Capacity, Spool
from dicom_node.stow import routes
from dicom_node.web.server import HttpServer

ROOT = "1.2.826.0.1.3680043.8.498.55"
STUDY = f"{ROOT}.1"
BOUNDARY = "pacsight.boundary"
T0 = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)


def data_set(number: int = 1, **changes: Any) -> Dataset:
    """Return a CT slice of 16 x 16; a keyword set to None leaves the attribute out."""
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{STUDY}.1.{number}",
        "StudyDate": "20260115",
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "PatientID": "PAT-0001",
        "BodyPartExamined": "HEAD",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.1",
        "InstanceNumber": number,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 16,
        "Columns": 16,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(256)) * 2,
    }
    made = Dataset()
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(made, keyword, value)
    if "PixelData" in made:
        made["PixelData"].VR = "OW"
    return made


def part10(
    number: int = 1, syntax: str = ExplicitVRLittleEndian, **changes: Any
) -> bytes:
    """Return a Part 10 file with `data_set` in this transfer syntax."""
    return written(data_set(number, **changes), syntax)


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a data set as a Part 10 file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    sop_class, sop_instance = dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID")
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class or "1.2")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(sop_instance or "1.2")
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bundled(name: str) -> Path:
    """Return a file that pydicom's wheel carries."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def buffered(content: bytes) -> BufferedReader:
    """Return an open file with this content."""
    return BufferedReader(BytesIO(content))


def data_set_of(content: bytes) -> bytes:
    """Return the bytes of a file behind its File Meta Information."""
    file = BytesIO(content)
    pydicom.filereader.read_preamble(file, force=False)
    pydicom.filereader._read_file_meta_info(file)
    return content[file.tell() :]


def multipart(parts: Sequence[bytes], media_type: str = "application/dicom") -> bytes:
    """Return the parts as the body of a multipart/related message."""
    head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\n\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts)
    return body + f"--{BOUNDARY}--\r\n".encode()


@dataclass
class Books:
    """A recorder that keeps its notes in memory."""

    received: list[Received] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    full: bool = False

    def record(self, received: Received) -> None:
        """Take an instance, unless the books are full."""
        if self.full:
            raise Rejected("the ledger does not keep up", status=OUT_OF_RESOURCES)
        self.received.append(received)

    def refuse(self, refusal: Refusal) -> None:
        """Take note of a refusal."""
        self.refused.append(refusal)

    @property
    def statuses(self) -> list[int]:
        """Return the statuses of what was refused."""
        return [refusal.status for refusal in self.refused]


@dataclass
class House:
    """A spool, an intake and its books, without doors."""

    spool: Spool
    intake: Intake
    books: Books

    def put(self, content: bytes) -> Path:
        """Return an incoming file with this content."""
        handle, path = self.spool.new_file()
        os.close(handle)
        path.write_bytes(content)
        return path

    @property
    def incoming(self) -> list[Path]:
        """Return what lies among the incoming files."""
        return sorted(self.spool.incoming().iterdir())

    @property
    def kept(self) -> list[str]:
        """Return what the spool keeps."""
        return sorted(self.spool.files())


def house(folder: Path, rules: Sequence[PriorityRule] = (), **room: Any) -> House:
    """Return a new house whose spool lies in the folder."""
    spool = Spool(folder / "spool", Capacity(**room))
    spool.open()
    books = Books()
    intake = Intake(spool=spool, recorder=books, rules=rules, clock=lambda: T0)
    return House(spool=spool, intake=intake, books=books)


def stow_server(intake: Intake, **limits: int) -> HttpServer:
    """Return a server of STOW-RS alone, with nothing before it."""
    return HttpServer(Starlette(routes=routes(intake, **limits)))


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """Start a front door, and stop it at the end."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
