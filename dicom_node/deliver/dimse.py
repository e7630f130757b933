"""C-STORE SCU: many objects over one association (PS3.4 Annex B, PS3.7 9.1.1).

The data set goes out as the bytes that lie in the outbox. Each SOP class is proposed
in a context of its own for each transfer syntax that the peer shall be offered; where
it takes none but another than the file's, the data set is encoded anew, which is
deterministic. Whether it really has them is asked over another association: see
`dicom_node.deliver.committing`.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import _config as pynetdicom_config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.association import association
from dicom_node.deliver.committing import REPORT_WAIT_S, NewUid, random_uid, verify
from dicom_node.deliver.destination import damage, settle_duplicate
from dicom_node.deliver.encoding import encoded, fitting, own_syntax
from dicom_node.errors import Permanent, Transient
from dicom_node.outgoing import DUPLICATE_SOP_INSTANCE, Outcome, Outgoing, judged
from dicom_node.peers import Caller, Peer
from dicom_node.verification import Finding

MOST_ASSOCIATIONS = 3
"""How often an association that was lost is opened anew before the rest waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """An object whose file is whole, and how it may be sent.

    Parameters
    ----------
    syntax
        The transfer syntax that the file is in.
    syntaxes
        Those that it can be sent in, best first.
    """

    outgoing: Outgoing
    syntax: UID
    syntaxes: tuple[UID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseDestination:
    """A peer that objects are sent to by C-STORE.

    Parameters
    ----------
    report_wait_s
        How long an association is kept open for a report on storage commitment.
    new_uid
        Returns the UID of a transaction.
    """

    peer: Peer
    caller: Caller
    report_wait_s: float = REPORT_WAIT_S
    new_uid: NewUid = random_uid

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, as `Destination.deliver` says."""
        # a path is sent as the bytes that lie there, not decoded and encoded again
        pynetdicom_config.STORE_SEND_CHUNKED_DATASET = True
        waiting: deque[Parcel] = deque()
        for outgoing in objects:
            fault = damage(outgoing)
            if fault is None:
                waiting.append(self._parcel(outgoing))
            else:
                yield fault
        yield from self._send(waiting)

    def verify(self, objects: Sequence[Outgoing]) -> Iterator[Finding]:
        """Yield whether the peer commits to each object, or finds it."""
        return verify(
            objects,
            self.peer,
            self.caller,
            new_uid=self.new_uid,
            report_wait_s=self.report_wait_s,
        )

    def _parcel(self, outgoing: Outgoing) -> Parcel:
        return Parcel(
            outgoing=outgoing,
            syntax=own_syntax(outgoing.path),
            syntaxes=fitting(outgoing.path, self.peer.transfer_syntaxes),
        )

    def _send(self, waiting: deque[Parcel]) -> Iterator[Outcome]:
        """Yield the outcomes of all that waits, over as few associations as it takes."""
        duplicates: list[Outgoing] = []
        for _ in range(MOST_ASSOCIATIONS):
            try:
                yield from self._send_over_one(waiting, duplicates)
            except Transient as error:
                yield from (Outcome.retry(p.outgoing, str(error)) for p in waiting)
                waiting.clear()
            except Permanent as error:
                yield from (Outcome.slowly(p.outgoing, str(error)) for p in waiting)
                waiting.clear()
        lost = f"{self.peer.name}: the association was lost before it was sent"
        yield from (Outcome.retry(parcel.outgoing, lost) for parcel in waiting)
        for outgoing in duplicates:
            yield settle_duplicate(outgoing, self.peer, self.caller)

    def _send_over_one(
        self, waiting: deque[Parcel], duplicates: list[Outgoing]
    ) -> Iterator[Outcome]:
        """Yield outcomes until nothing waits or the association is lost."""
        if not waiting:
            return
        with association(self.peer, self.caller, _contexts(waiting)) as assoc:
            while waiting and assoc.is_established:
                parcel = waiting.popleft()
                accepted = _accepted(assoc, parcel)
                if accepted is None:
                    yield self._not_taken(parcel)
                    continue
                status = _store(assoc, parcel, accepted)
                if status is None:
                    assoc.abort()
                    yield self._not_answered(parcel)
                elif status == DUPLICATE_SOP_INSTANCE:
                    duplicates.append(parcel.outgoing)
                else:
                    yield judged(parcel.outgoing, status)

    def _not_taken(self, parcel: Parcel) -> Outcome:
        name = UID(parcel.outgoing.sop_class_uid).name
        offered = " or ".join(syntax.name for syntax in parcel.syntaxes)
        return Outcome.dead(
            parcel.outgoing, f"{self.peer.name} accepts no {name} in {offered}"
        )

    def _not_answered(self, parcel: Parcel) -> Outcome:
        why = f"{self.peer.name}: the association was lost before it was answered"
        return Outcome.retry(parcel.outgoing, why)


def _contexts(parcels: Iterable[Parcel]) -> list[PresentationContext]:
    """Return one context for each SOP class and syntax, so that each is answered."""
    pairs = dict.fromkeys(
        (parcel.outgoing.sop_class_uid, syntax)
        for parcel in parcels
        for syntax in parcel.syntaxes
    )
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def _accepted(assoc: Association, parcel: Parcel) -> UID | None:
    """Return the best syntax in which the peer takes the object, or None."""
    taken = {
        context.transfer_syntax[0]
        for context in assoc.accepted_contexts
        if str(context.abstract_syntax) == parcel.outgoing.sop_class_uid
    }
    return next((syntax for syntax in parcel.syntaxes if syntax in taken), None)


def _store(assoc: Association, parcel: Parcel, syntax: UID) -> int | None:
    """Return the status that the peer answered, or None if it did not."""
    path = parcel.outgoing.path
    try:
        answer = assoc.send_c_store(
            path if syntax == parcel.syntax else encoded(path, syntax)
        )
    except RuntimeError:  # the association ended in the meantime
        return None
    status = answer.get("Status")
    return None if status is None else int(status)
