"""Requests for storage commitment, and what reports on them say."""

from io import BytesIO

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import decode

from dicom_node.commitment import (
    ALL_COMMITTED,
    FAILURES,
    Report,
    ReportError,
    decoded,
    findings,
    read_report,
    request,
)
from dicom_node.verification import Found, How

PAIRS = [("1.2.840.10008.5.1.4.1.1.88.34", "2.25.1"), ("1.2.3", "2.25.2")]


def reference(uid: str, reason: int | None = None) -> Dataset:
    """Return an item of a report."""
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.3"
    item.ReferencedSOPInstanceUID = uid
    if reason is not None:
        item.FailureReason = reason
    return item


def test_a_request_names_the_transaction_and_each_instance() -> None:
    """PS3.4 Table J.3-1: Transaction UID, and a reference for each instance."""
    asked = request("2.25.77", PAIRS)
    references = [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for item in asked.ReferencedSOPSequence
    ]
    assert (asked.TransactionUID, references) == ("2.25.77", PAIRS)


def test_a_report_is_read() -> None:
    """PS3.4 Table J.3-2, both event types."""
    said = Dataset()
    said.TransactionUID = "2.25.77"
    said.ReferencedSOPSequence = [reference("2.25.1")]
    all_there = Report(
        transaction_uid="2.25.77", committed=frozenset({"2.25.1"}), failed={}
    )
    assert read_report(ALL_COMMITTED, said) == all_there
    said.FailedSOPSequence = [reference("2.25.2", 0x0112)]
    assert read_report(FAILURES, said).failed == {"2.25.2": 0x0112}


@pytest.mark.parametrize("event_type", [0, 3, None])
def test_another_event_is_no_report(event_type: int | None) -> None:
    """The class has two event types."""
    with pytest.raises(ReportError):
        read_report(event_type, Dataset())


def test_a_report_without_its_attributes_is_none() -> None:
    """No transaction, no instance, no reason: nothing is guessed."""
    with pytest.raises(ReportError):
        read_report(ALL_COMMITTED, Dataset())
    said = Dataset()
    said.TransactionUID = "2.25.77"
    said.FailedSOPSequence = [reference("2.25.2")]
    with pytest.raises(ReportError):
        read_report(FAILURES, said)


@pytest.mark.parametrize(
    ("reason", "found", "anew"),
    [
        (0x0110, Found.LATER, True),
        (0x0112, Found.LOST, False),
        (0x0119, Found.CONFLICT, False),
        (0x0122, Found.LATER, False),
        (0x0131, Found.LATER, True),
        (0x0213, Found.LATER, True),
        (0x9999, Found.LATER, False),
    ],
)
def test_each_reason_means_something(reason: int, found: Found, anew: bool) -> None:  # noqa: FBT001
    """PS3.3 C.14.1.1: sent again, given up, or asked for by a request or a query."""
    report = Report(transaction_uid="t", committed=frozenset(), failed={"u": reason})
    (finding,) = findings(report, {"u": 7})
    assert (finding.delivery, finding.found) == (7, found)
    assert (finding.transaction_uid == "") == anew
    assert f"0x{reason:04X}" in finding.detail


def test_what_a_report_does_not_name_stays_open() -> None:
    """Committed to: seen. Not named: nothing is said. Not ours: nothing to say."""
    report = Report(
        transaction_uid="t", committed=frozenset({"a", "foreign"}), failed={}
    )
    (finding,) = findings(report, {"a": 1, "b": 2})
    assert (finding.delivery, finding.how) == (1, How.COMMITMENT)


@pytest.mark.parametrize(
    "values",
    [
        b"\x08\x00\x95\x11ZZ\x04\x002.25",  # a VR that is none
        b"\x08\x00\x99",
    ],
)
def test_bytes_that_are_no_report(values: bytes) -> None:
    """Whatever pydicom makes of them, now or when a value is asked for."""
    with pytest.raises(ReportError):
        read_report(
            ALL_COMMITTED,
            decoded(lambda: decode(BytesIO(values), False, True)),  # noqa: FBT003
        )
