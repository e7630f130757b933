"""Retry-After, as RFC 9110 10.2.3 writes it."""

from datetime import UTC, datetime

import pytest

from dicom_node.deliver.answers import LONGEST_WAIT_S, retry_after_s

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("", 0.0),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("999999", LONGEST_WAIT_S),
        ("-5", 0.0),
        ("soon", 0.0),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0),
        ("Thu, 01 Jan 2026 11:59:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 12:00:00 GMT", LONGEST_WAIT_S),
        ("Thu, 99 Jan 2026 12:00:00 GMT", 0.0),
    ],
)
def test_waits_as_long_as_the_header_says(header: str, wait_s: float) -> None:
    """Seconds or a date, an hour at most; what cannot be read asks for nothing."""
    assert retry_after_s(header, NOW) == wait_s
