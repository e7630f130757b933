"""What an operator does to a study: on the command line and over HTTP the same."""

from datetime import datetime

from dicom_node.domain import StudyUid
from dicom_node.ledger import Ledger, Tx, motion, outbox, results
from dicom_node.ledger.events import note
from dicom_node.ledger.studies import happen
from dicom_node.lifecycle import CONCLUDED, Event, State

WHY = "an operator asked"


def complete(tx: Tx, study: str) -> motion.Found:
    """Return a study that is said to be complete: it is concluded without waiting.

    Raises
    ------
    UnknownStudyError
        If there is no such study, or several.
    """
    found = motion.find(tx, study)
    if found.state is State.RECEIVING:
        motion.ask(tx, found.key)
    return found


def retry(tx: Tx, found: motion.Found, now: datetime) -> tuple[StudyUid, State]:
    """Return a study of which what failed is tried again, and its state now.

    It is concluded again, or its reports are sent again: the same objects.
    """
    state = found.state
    if state is State.FAILED:
        results.retry_jobs(tx, found.key)
    if state is not State.HELD:
        done = state is State.DONE
        outbox.resend(tx, found.key, now=now, delivered_too=done)
    if state in {State.FAILED, State.UNDELIVERED}:
        state = happen(tx, found.key, Event.RETRY, detail=WHY, at=now)
    return found.study_uid, state


def conclude_again(ledger: Ledger, key: int, now: datetime) -> bool:
    """Let the study be concluded again.

    False where it is on its way as it is, or its images were purged.
    """
    with ledger.write() as tx:
        if not motion.is_in(tx, key, CONCLUDED):
            return False
        if gone := motion.missing_images(tx, key):
            note(tx, now, "not concluded", gone, study_id=key)
            return False
        happen(tx, key, Event.AGAIN, detail=WHY, at=now)
    return True
