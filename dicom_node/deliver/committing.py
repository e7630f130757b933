"""Asking a DIMSE peer whether it has what it stored: by commitment, else by a query.

Storage Commitment Push Model SCU (PS3.4 Annex J) and C-FIND over one association, or
QIDO-RS where the peer has an address for it. A report on commitment may come over the
association on which it was asked for, if it comes at once; later, it comes over an
association that the peer opens to the node's own listener.
"""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node import commitment
from dicom_node.association import NothingAcceptedError, association
from dicom_node.commitment import Report, ReportError
from dicom_node.deliver.destination import ask, cannot_say, found_by
from dicom_node.errors import PacsightError, Permanent
from dicom_node.outgoing import Outgoing
from dicom_node.peers import Caller, Peer, Verify
from dicom_node.query import STUDY_ROOT_FIND, CFind, Search
from dicom_node.verification import Finding, Found

REPORT_WAIT_S = 1.5
"""How long an association is kept open for a report on it."""

NewUid = Callable[[], str]


def random_uid() -> str:
    """Return a UID that nobody had before: 2.25 and a random UUID (PS3.5 B.2)."""
    return str(generate_uid(prefix=None))


def verify(
    objects: Sequence[Outgoing],
    peer: Peer,
    caller: Caller,
    *,
    new_uid: NewUid,
    report_wait_s: float,
) -> Iterator[Finding]:
    """Yield what the peer says of each object, as `Destination.verify` says."""
    to_commit = deque(o for o in objects if _may_commit(o, peer))
    to_find = deque(o for o in objects if not _may_commit(o, peer))
    inbox = _Inbox(transaction_uid=new_uid())
    contexts = [build_context(commitment.PUSH_MODEL)] if to_commit else []
    if _finds_by_dimse(peer):
        contexts.append(build_context(STUDY_ROOT_FIND))
    by_web = bool(peer.dicomweb) and peer.verify is not Verify.COMMITMENT
    no_way: PacsightError = Permanent(f"{peer.name}: it offers {_missing(peer)}")
    try:
        if contexts:
            with association(peer, caller, contexts, handlers=inbox.handlers) as assoc:
                yield from _over(assoc, peer, to_commit, to_find, inbox, report_wait_s)
    except NothingAcceptedError:
        pass  # what is left is asked for by QIDO-RS, or not at all
    except PacsightError as error:
        no_way, by_web = error, by_web and isinstance(error, Permanent)
    left = (*to_commit, *to_find)
    if by_web:
        yield from ask(left, peer, caller)
    else:
        yield from (cannot_say(one, no_way) for one in left)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inbox:
    """Takes reports of one transaction over the association that asked for them."""

    transaction_uid: str
    reports: "queue.SimpleQueue[Report]" = field(default_factory=queue.SimpleQueue)

    @property
    def handlers(self) -> list[tuple[evt.EventType, Callable[..., object]]]:
        return [(evt.EVT_N_EVENT_REPORT, self._reported)]

    def _reported(self, event: evt.Event) -> tuple[int, Dataset | None]:
        try:
            information = commitment.decoded(lambda: event.event_information)
            report = commitment.read_report(event.event_type, information)
        except ReportError:
            return commitment.INVALID_ARGUMENT, None
        if report.transaction_uid != self.transaction_uid:
            return commitment.INVALID_ARGUMENT, None
        self.reports.put(report)
        return commitment.SUCCESS, None


def _over(
    assoc: Association,
    peer: Peer,
    to_commit: deque[Outgoing],
    to_find: deque[Outgoing],
    inbox: _Inbox,
    report_wait_s: float,
) -> Iterator[Finding]:
    """Yield what can be said over the association; the deques keep what is left."""
    offered = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
    commits = commitment.PUSH_MODEL in offered
    if STUDY_ROOT_FIND in offered:
        if not commits:
            to_find.extend(to_commit)
            to_commit.clear()
        search = Search(archive=CFind(peer=peer, association=assoc))
        yield from found_by(search, to_find)
    if commits and to_commit:
        asked = list(to_commit)
        to_commit.clear()
        yield from _commit(assoc, asked, inbox, report_wait_s)


def _commit(
    assoc: Association, objects: Sequence[Outgoing], inbox: _Inbox, report_wait_s: float
) -> Iterator[Finding]:
    """Ask for commitment, and yield what is reported at once."""
    for one in objects:
        yield Finding(
            delivery=one.delivery,
            found=Found.REQUESTED,
            detail="the destination was asked to commit to it",
            transaction_uid=inbox.transaction_uid,
        )
    refused = _request(assoc, objects, inbox.transaction_uid)
    if refused:
        for one in objects:
            yield Finding(delivery=one.delivery, found=Found.LATER, detail=refused)
        return
    try:
        report = inbox.reports.get(timeout=report_wait_s)
    except queue.Empty:
        return
    deliveries = {str(one.sop_instance_uid): one.delivery for one in objects}
    yield from commitment.findings(report, deliveries)


def _request(
    assoc: Association, objects: Sequence[Outgoing], transaction_uid: str
) -> str:
    """Send the N-ACTION; return why it was not taken, empty if it was."""
    pairs = [(str(o.sop_class_uid), str(o.sop_instance_uid)) for o in objects]
    try:
        answer, _ = assoc.send_n_action(
            commitment.request(transaction_uid, pairs),
            commitment.REQUEST,
            commitment.PUSH_MODEL,
            commitment.INSTANCE,
        )
    except RuntimeError:  # the association ended in the meantime
        answer = Dataset()
    status = answer.get("Status")
    if status is None:
        return "the request for storage commitment was not answered"
    if status != commitment.SUCCESS:
        return f"the request for storage commitment was answered 0x{status:04X}"
    return ""


def _may_commit(outgoing: Outgoing, peer: Peer) -> bool:
    """Return whether commitment is to be asked for; a query follows a lost report."""
    match peer.verify:
        case Verify.AUTO:
            return not outgoing.asked
        case Verify.COMMITMENT:
            return True
        case _:
            return False


def _finds_by_dimse(peer: Peer) -> bool:
    return not peer.dicomweb and peer.verify is not Verify.COMMITMENT


def _missing(peer: Peer) -> str:
    if peer.verify is Verify.COMMITMENT:
        return "no storage commitment"
    return "neither storage commitment nor C-FIND"
