"""Storage commitment: what is asked, and what is reported (PS3.4 Annex J). Pure.

The Storage Commitment Push Model has one well-known instance. A request (N-ACTION)
names a transaction and instances; a report (N-EVENT-REPORT) of that transaction says
which of them the archive has taken responsibility for. Associations are not known
here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.errors import Permanent
from dicom_node.verification import Finding, Found, How

PUSH_MODEL = UID("1.2.840.10008.1.20.1")
"""Storage Commitment Push Model SOP Class."""
INSTANCE = UID("1.2.840.10008.1.20.1.1")
"""Its well-known SOP Instance."""
REQUEST = 1
"""Action Type ID (PS3.4 Table J.3-1)."""
SUCCESS, INVALID_ARGUMENT, PROCESSING_FAILURE = 0x0000, 0x0115, 0x0110
NO_SUCH_EVENT = 0x0113
ALL_COMMITTED, FAILURES = 1, 2
"""Event Type IDs (PS3.4 Table J.3-2)."""

_REASONS: dict[int, tuple[Found, str]] = {
    # Failure Reason (0008,1197), PS3.3 C.14.1.1
    0x0110: (Found.LATER, "processing failure"),
    0x0112: (Found.LOST, "no such object instance"),
    0x0119: (Found.CONFLICT, "class-instance conflict"),
    0x0122: (Found.LATER, "SOP class not supported"),
    0x0131: (Found.LATER, "duplicate transaction UID"),
    0x0213: (Found.LATER, "resource limitation"),
}
_ASK_ANEW = frozenset({0x0110, 0x0131, 0x0213})
"""Reasons after which another request makes sense, rather than a query."""


class ReportError(Permanent):
    """A report that is no report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an archive says of a transaction.

    Parameters
    ----------
    failed
        SOP Instance UID to Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def request(transaction_uid: str, instances: Iterable[tuple[str, str]]) -> Dataset:
    """Return the Action Information that asks for these (class, instance) pairs."""
    asked = Dataset()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = [_reference(*pair) for pair in instances]
    return asked


def decoded(decode: Callable[[], Dataset]) -> Dataset:
    """Return the Event Information that `decode` makes of the bytes received.

    Raises
    ------
    ReportError
        If they are no data set, in whatever way.
    """
    try:
        return decode()
    except Exception as error:
        raise ReportError("not a data set") from error


def read_report(event_type: int | None, information: Dataset) -> Report:
    """Return what Event Information says.

    Raises
    ------
    ReportError
        If it has no transaction, or references that cannot be read.
    """
    if event_type not in {ALL_COMMITTED, FAILURES}:
        raise ReportError("no such event type")
    try:
        return Report(
            transaction_uid=str(information.TransactionUID),
            committed=frozenset(
                str(item.ReferencedSOPInstanceUID)
                for item in information.get("ReferencedSOPSequence") or ()
            ),
            failed={
                str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
                for item in information.get("FailedSOPSequence") or ()
            },
        )
    except Exception as error:  # pydicom reads values late, and raises what it likes
        raise ReportError("not the attributes of a report") from error


def findings(report: Report, deliveries: Mapping[str, int]) -> Iterator[Finding]:
    """Yield what a report says of deliveries, by their SOP Instance UID."""
    for uid, delivery in deliveries.items():
        reason = report.failed.get(uid)
        if reason is not None:
            yield _failure(delivery, reason)
        elif uid in report.committed:
            yield Finding.there(
                delivery, How.COMMITMENT, "the destination commits to it"
            )


def _failure(delivery: int, reason: int) -> Finding:
    found, name = _REASONS.get(reason, (Found.LATER, "a reason of its own"))
    return Finding(
        delivery=delivery,
        found=found,
        detail=f"the destination does not commit to it: 0x{reason:04X}, {name}",
        transaction_uid="" if reason in _ASK_ANEW else None,
    )


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
