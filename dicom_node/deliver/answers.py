"""What an HTTP status makes of a delivery: RFC 9110 as PS3.18 8.5 means it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.query import ABOUT_THE_MOMENT

LONGEST_WAIT_S = 3600.0
ABOUT_THE_REQUEST = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Some of the objects cannot be taken, or all of them together."""
ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: ": look at its credentials",
    HTTPStatus.FORBIDDEN: ": it does not allow us to store",
    HTTPStatus.NOT_FOUND: ": is its address right?",
}


def refusal(outgoing: Outgoing, status: int, headers: Mapping[str, str]) -> Outcome:
    """Return what an HTTP status makes of a delivery that was not looked at."""
    detail = f"the destination answered HTTP {status}, {_phrase(status)}"
    if status in ABOUT_THE_REQUEST:
        return Outcome.dead(outgoing, detail)
    if status in ABOUT_THE_MOMENT:
        wait_s = retry_after_s(headers.get("Retry-After", ""))
        return Outcome.retry(outgoing, detail, wait_s=wait_s)
    return Outcome.slowly(outgoing, detail + ADVICE.get(status, ""))


def retry_after_s(header: str, now: datetime | None = None) -> float:
    """Return how long Retry-After (RFC 9110 10.2.3) asks to wait, an hour at most."""
    if header.strip().isdecimal():
        return min(float(header), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    since = now or datetime.now(UTC)
    left_s = (at.replace(tzinfo=at.tzinfo or UTC) - since).total_seconds()
    return min(max(left_s, 0.0), LONGEST_WAIT_S)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "a status without a name"
