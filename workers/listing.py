"""The DICOM images among files and folders, each looked at once: what it is, by its bytes.

Files are examined as the node examines what it receives; a file that did not change
since it was last looked at is not read again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.admission import Admission
from dicom_node.domain import (
    Analysis,
    FrontDoor,
    Origin,
    SeriesUid,
    Sha256,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.errors import Permanent, Rejected
from dicom_node.intake import examine

_MAGIC = slice(128, 132)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A file as it was when it was looked at: its size in bytes, when it changed."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """A DICOM image file.

    Parameters
    ----------
    sha256
        Of its data set.
    number
        InstanceNumber (0020,0013).
    """

    stamp: Stamp
    study_uid: StudyUid
    series_uid: SeriesUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    frames: int
    number: int | None
    modality: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that is not embedded, and why.

    Parameters
    ----------
    broken
        Whether it is DICOM, but cannot be understood.
    """

    path: Path
    reason: str
    broken: bool = False


def files_in(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named, and those of folders to the bottom, in order.

    Raises
    ------
    Permanent
        If a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise Permanent(f"{path} does not exist")
        found = path.rglob("*") if path.is_dir() else [path]
        yield from sorted(f for f in found if f.is_file() and f.name != "DICOMDIR")


def images(
    files: Sequence[Path], known: Mapping[Stamp, ImageSource]
) -> Iterator[ImageSource | LeftOut]:
    """Yield what each of `files` is; of an instance that comes twice, the first file.

    Parameters
    ----------
    known
        Files that were looked at before.
    """
    admission = Admission()
    taken: dict[SopInstanceUid, ImageSource] = {}
    for path in files:
        try:
            stamp = _stamp(path)
            found = known.get(stamp) or _source(path, stamp, admission)
        except (Rejected, OSError) as error:
            yield _broken(path, error)
            continue
        if isinstance(found, LeftOut):
            yield found
            continue
        other = taken.setdefault(found.sop_instance_uid, found)
        if other is found:
            yield found
        elif other.sha256 != found.sha256:
            reason = f"another version of the instance in {other.stamp.path}"
            yield LeftOut(path=path, reason=reason)


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return Stamp(
        path=str(path.absolute()), size=stat.st_size, mtime_ns=stat.st_mtime_ns
    )


def _source(path: Path, stamp: Stamp, admission: Admission) -> ImageSource | LeftOut:
    found = examine(path, admission, origin=Origin(door=FrontDoor.FILE))
    header = found.header
    if header.analysis is not Analysis.IMAGE:
        return LeftOut(path=path, reason=header.reason)
    return ImageSource(
        stamp=stamp,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_instance_uid=header.sop_instance_uid,
        sha256=found.sha256,
        frames=header.frames,
        number=header.instance_number,
        modality=header.exam.modality,
    )


def _broken(path: Path, error: Rejected | OSError) -> LeftOut:
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return LeftOut(path=path, reason=f"it cannot be read: {reason}", broken=True)
    with path.open("rb") as file:
        is_dicom = file.read(_MAGIC.stop)[_MAGIC] == b"DICM"
    return LeftOut(path=path, reason=error.comment, broken=is_dicom)
