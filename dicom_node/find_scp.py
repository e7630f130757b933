"""Answers C-FIND over an association: PS3.4 C.4.1.3, Study Root.

What is answered stands in `dicom_node.answering`; here are the right to ask, the
statuses (PS3.4 Table C.4-1), and what the audit trail is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.answering import Question, all_known, answers, read_question
from dicom_node.domain import StudyUid
from dicom_node.domain.audited import Alarm, Note, Queried, SecurityAlert
from dicom_node.errors import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Rejected
from dicom_node.ledger import Ledger, LedgerBusyError
from dicom_node.query import STUDY_ROOT_FIND

PENDING, PENDING_WITHOUT_KEYS = 0xFF00, 0xFF01
CANCELLED = 0xFE00
NOT_AUTHORIZED = 0x0124

Response = tuple[int | Dataset, Dataset | None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindScp:
    """Answers who has the right to ask.

    Parameters
    ----------
    askers
        Their AE titles.
    """

    ledger: Ledger
    askers: frozenset[str]
    note: Note

    def respond(self, event: evt.Event) -> Iterator[Response]:
        """Yield the responses to a C-FIND request, but for the last one."""
        calling, address = event.assoc.requestor.ae_title, event.assoc.requestor.address
        if calling not in self.askers:
            reason = "this peer has no right to query"
            alarm = Alarm.USE_OF_RESTRICTED_FUNCTION
            self.note(
                SecurityAlert(alarm=alarm, reason=reason, who=calling, address=address)
            )
            yield _refused(NOT_AUTHORIZED, reason)
            return
        try:
            question = _question(event)
            self.note(_queried(question, calling, address))
            found = self._found(question)
        except Rejected as rejected:
            log.warning("query_rejected", calling_aet=calling, reason=rejected.comment)
            yield _refused(rejected.status, rejected.comment)
            return
        status = PENDING if all_known(question) else PENDING_WITHOUT_KEYS
        for one in found:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield status, one

    def _found(self, question: Question) -> list[Dataset]:
        try:
            with self.ledger.read() as tx:
                return list(answers(tx, question))
        except LedgerBusyError:
            why = "the ledger does not answer"
            raise Rejected(why, status=OUT_OF_RESOURCES) from None


def _question(event: evt.Event) -> Question:
    try:
        identifier = event.identifier
        identifier.decode()
    except Exception:  # noqa: BLE001 - whatever reading foreign bytes leads to
        why = "the identifier cannot be read"
        raise Rejected(why, status=CANNOT_UNDERSTAND) from None
    return read_question(identifier)


def _queried(question: Question, calling: str, address: str) -> Queried:
    """Return what the trail is told: a study only where one was asked for."""
    studies = question.wanted.study_uids
    return Queried(
        by=calling,
        of="",
        address=address,
        sop_class_uid=str(STUDY_ROOT_FIND),
        study_uid=StudyUid(studies[0]) if len(studies) == 1 else None,
    )


def _refused(status: int, comment: str) -> Response:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:64]
    return answer, None
