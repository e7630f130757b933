"""Notes that withdraw former reports: which there are, and what each of them rejects.

IHE IOCM. A report on another patient is withdrawn in any case; one that a newer report
supersedes only where the site wants that.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.domain import Code, EncodedObject, RejectionReason, Result, Sha256
from dicom_node.errors import Transient
from dicom_node.ledger.rejections import FormerObject
from dicom_node.objects import ObjectStore
from sr_writer.rejection import compose_rejection

Note = tuple[EncodedObject, tuple[int, ...]]
"""A rejection note, and the ledger's keys of what it rejects."""


def notes(
    result: Result,
    former: Sequence[FormerObject],
    *,
    outbox: ObjectStore,
    superseded: bool,
    title: Code,
    purpose: Code,
) -> Iterator[Note]:
    """Yield a note for each patient and reason.

    What was purged is left out, see `not_taken_back`.

    Parameters
    ----------
    former
        What earlier results left at destinations.
    outbox
        Where their files lie.
    superseded
        Whether what the result supersedes is rejected, too.
    title, purpose
        As they were given to `compose` for the result.

    Raises
    ------
    Transient
        If a file in the outbox cannot be read.
    """
    there = [one for one in former if not one.purged]
    for (reason, _), rejected in _by_reason(result, there, superseded).items():
        note = compose_rejection(
            result,
            [_header(outbox.path(one.path)) for one in rejected],
            reason=reason,
            title=title,
            purpose=purpose,
        )
        yield note, tuple(one.artefact for one in rejected)


def not_taken_back(
    result: Result,
    former: Sequence[FormerObject],
    *,
    superseded: bool,
) -> int:
    """Return how many objects should be rejected, and were purged."""
    purged = [one for one in former if one.purged]
    heaps = _by_reason(result, purged, superseded).values()
    return sum(len(heap) for heap in heaps)


def _by_reason(
    result: Result,
    former: Sequence[FormerObject],
    superseded: bool,  # noqa: FBT001 - handed on
) -> dict[tuple[RejectionReason, Sha256], list[FormerObject]]:
    heaps: dict[tuple[RejectionReason, Sha256], list[FormerObject]] = {}
    for one in former:
        if one.patient != result.patient:
            reason = RejectionReason.WRONG_PATIENT
        elif one.superseded and superseded:
            reason = RejectionReason.SUPERSEDED
        else:
            continue
        heaps.setdefault((reason, one.patient), []).append(one)
    return heaps


def _header(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True)
    except OSError as error:
        raise Transient("a former report in the outbox cannot be read") from error
