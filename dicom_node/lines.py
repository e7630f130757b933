"""Lines of the ledger as JSON: the same on the command line and over HTTP.

ISO 8601 times, names for priorities and flags, no patient data.
"""

from dataclasses import asdict

from dicom_node.ledger.deliveries import DeliveryLine
from dicom_node.ledger.overview import JournalLine, StudyLine


def study_json(line: StudyLine) -> dict[str, object]:
    """Return a study as JSON: names for priorities, ISO 8601 times."""
    return {
        **asdict(line),
        "priority": line.priority.queue,
        "received_at": line.received_at.isoformat(),
    }


def delivery_json(line: DeliveryLine) -> dict[str, object]:
    """Return a delivery as JSON, ISO 8601 times."""
    return {**asdict(line), "since": line.since.isoformat()}


def journal_json(line: JournalLine) -> dict[str, object]:
    """Return what happened as JSON, ISO 8601 times."""
    return {**asdict(line), "at": line.at.isoformat()}
