"""The DIMSE front door: C-ECHO and C-STORE, every storage class and transfer syntax.

PS3.4 A (verification), B (storage), PS3.8 (associations). pynetdicom receives each
data set into the spool's folder as it comes; the intake does the rest before the
answer. Destinations call here, too, to report on storage commitment (PS3.4 J.3.3).
Nothing is known here of rules, ledger or pixels.

pynetdicom keeps some of its settings in the process: one process has one SCP, which
may listen on two ports, a plain one and one for TLS.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import cast

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node import commitment
from dicom_node.admission import Expected
from dicom_node.commitment import Report, ReportError
from dicom_node.domain import FrontDoor, Origin
from dicom_node.domain.audited import Alarm, Note, SecurityAlert
from dicom_node.errors import Rejected
from dicom_node.guarded import guard, weigh
from dicom_node.hearing import Listener, Objection
from dicom_node.intake import Intake
from dicom_node.listening import (
    WAITING_PER_ASSOCIATION,
    AssociationDoor,
    Doorstep,
    certificate_of,
    open_door,
)
from dicom_node.query import STUDY_ROOT_FIND
from dicom_node.slots import Slots
from dicom_node.slowness import Slowness
from dicom_node.spool import FLOODED
from dicom_node.tls import server_context

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
"""PS3.7 C.5.14: something went wrong that is not the data set's fault."""
NOT_AUTHORIZED = 0x0124

PERMANENT, SERVICE_USER = 0x01, 0x01
TRANSIENT, SERVICE_PROVIDER = 0x02, 0x03
CONGESTION, LIMIT_EXCEEDED = 0x01, 0x02
"""Result, source and diagnostics of A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

PREFERRED = (
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K, lossless RPCL
    "1.2.840.10008.1.2.4.201",  # HTJ2K, lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS, lossless
    "1.2.840.10008.1.2.4.70",  # JPEG, lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG, lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
)
"""What is accepted first where one context proposes several transfer syntaxes.

Who proposes a lossless compression has such data, and need not inflate them. A
lossy one is accepted where nothing else is proposed: nobody shall compress for us.
"""

log = structlog.get_logger(__name__)


Reported = Callable[[Report], bool]
"""Takes a report on storage commitment; returns whether its transaction is known."""
Responds = Callable[[evt.Event], Iterator[tuple[int | Dataset, Dataset | None]]]
"""Yields the responses to a C-FIND request."""


@dataclass(slots=True)
class StorageScp:
    """Serves associations in threads of its own, from `start` to `stop`.

    Parameters
    ----------
    reported
        Takes reports on storage commitment; None: they are not heard.
    responds
        Answers C-FIND; None: it is not offered.
    """

    listener: Listener
    intake: Intake
    reported: Reported | None = None
    responds: Responds | None = None
    note: Note = lambda _: None
    _slots: Slots[Association] = field(init=False)
    _plain: AssociationDoor | None = field(default=None, init=False)
    _protected: AssociationDoor | None = field(default=None, init=False)
    _waiting: dict[Association, set[Path]] = field(default_factory=dict, init=False)

    def start(self) -> None:
        """Listen."""
        _config.LOG_HANDLER_LEVEL = "none"
        listener = self.listener
        context = None if listener.tls is None else server_context(listener.tls)
        _settle(receive_into=self.intake.spool.incoming())
        ae = AE(ae_title=listener.aet)
        ae.add_supported_context(Verification)
        if self.reported is not None:  # who reports is the SCP of it
            ae.add_supported_context(
                commitment.PUSH_MODEL, scu_role=False, scp_role=True
            )
        if self.responds is not None:
            ae.add_supported_context(STUDY_ROOT_FIND)
        # pynetdicom counts connections, also those that never ask for an association
        ae.maximum_associations = self._crowd
        self._slots = Slots(
            listener.max_associations,
            listener.stat_associations,
            gone=lambda association: not association.is_alive(),
        )
        ae.maximum_pdu_size = listener.max_pdu_bytes
        ae.acse_timeout = listener.acse_timeout_s
        ae.network_timeout = listener.network_timeout_s
        if listener.port is not None:
            self._plain = self._open(ae, (listener.host, listener.port), None)
        if context is not None:
            address = (listener.tls_host, listener.tls_port)
            self._protected = self._open(ae, address, context)

    def _open(
        self, ae: AE, address: tuple[str, int], context: SSLContext | None
    ) -> AssociationDoor:
        listener = self.listener
        doorstep = Doorstep(
            patience_s=listener.acse_timeout_s,
            most=WAITING_PER_ASSOCIATION * listener.max_associations,
            note=self.note,
            crowd=self._crowd,
            slowness=Slowness(
                patience_s=listener.acse_timeout_s,
                bytes_per_s=listener.min_bytes_per_s,
            ),
        )
        handlers = [
            (evt.EVT_CONN_OPEN, guard),
            (evt.EVT_PDU_RECV, weigh),
            (evt.EVT_DIMSE_RECV, self._arrived),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, _rejected),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._event_reported),
            *([(evt.EVT_C_FIND, self.responds)] if self.responds else []),
            (evt.EVT_RELEASED, self._closed),
            (evt.EVT_ABORTED, self._closed),
            (evt.EVT_CONN_CLOSE, self._disconnected),
        ]
        return open_door(ae, address, handlers, context=context, doorstep=doorstep)

    @property
    def _crowd(self) -> int:
        """Return how many connections may wait for an answer or have an association."""
        listener = self.listener
        waiting = WAITING_PER_ASSOCIATION * listener.max_associations
        return listener.max_associations + listener.stat_associations + waiting

    @property
    def port(self) -> int:
        """Return the port for plain associations, 0 if there is none."""
        return self._plain.server_address[1] if self._plain else 0

    @property
    def tls_port(self) -> int:
        """Return the port for associations over TLS, 0 if there is none."""
        return self._protected.server_address[1] if self._protected else 0

    def stop(self) -> None:
        """Listen no more; associations may end by themselves, then are aborted."""
        doors = [door for door in (self._plain, self._protected) if door is not None]
        self._plain = self._protected = None
        for door in doors:
            door.shutdown()
        deadline = time.monotonic() + self.listener.grace_s
        while _open_on(doors) and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in _open_on(doors):
            association.abort()
        if doors:
            _settle(receive_into=None)

    def _requested(self, event: evt.Event) -> None:
        """Refuse whom the node does not hear, else put syntaxes in our order."""
        request = event.assoc.requestor.primitive
        if not isinstance(request, A_ASSOCIATE):
            return
        calling, called = request.calling_ae_title, request.called_ae_title
        address, shown = event.assoc.requestor.address, certificate_of(event.assoc)
        objection = self.listener.objection(calling, called, address, shown)
        if objection is not None:
            self._refuse(objection, calling, called, event.assoc)
            return
        if refusal := self._congestion(event.assoc, calling, called):
            event.assoc.acse.send_reject(TRANSIENT, SERVICE_PROVIDER, refusal)
            event.assoc.kill()
            return
        for context in request.presentation_context_definition_list:
            context.transfer_syntax.sort(key=_rank)  # pynetdicom accepts the first

    def _refuse(
        self, objection: Objection, calling: str, called: str, association: Association
    ) -> None:
        address, reason = association.requestor.address, objection.reason
        titles = _titles(calling, called)
        log.warning("association_rejected", address=address, reason=reason, **titles)
        alarm = Alarm.NODE_AUTHENTICATION
        self.note(
            SecurityAlert(alarm=alarm, reason=reason, who=calling, address=address)
        )
        association.acse.send_reject(PERMANENT, SERVICE_USER, objection.diagnostic)
        association.kill()

    def _congestion(self, association: Association, calling: str, called: str) -> int:
        """Return why there is no association for now (PS3.8 Table 9-21), else 0."""
        listener = self.listener
        urgent = listener.is_urgent(calling, called)
        reason, diagnostic = "", 0
        if self.intake.spool.is_flooded and not urgent:
            reason, diagnostic = FLOODED, CONGESTION
        elif not self._slots.enter(association, urgent=urgent):
            most = listener.max_associations
            reason, diagnostic = f"{most} associations are open", LIMIT_EXCEEDED
        if reason:
            address = association.requestor.address
            titles = _titles(calling, called)
            log.warning(
                "association_rejected", address=address, reason=reason, **titles
            )
        return diagnostic

    def _accepted(self, event: evt.Event) -> None:
        self.intake.opened(event.assoc)

    def _closed(self, event: evt.Event) -> None:
        self._slots.leave(event.assoc)
        self.intake.closed(event.assoc)

    def _disconnected(self, event: evt.Event) -> None:
        """Drop what the sender did not send to its end; pynetdicom leaves it."""
        self._closed(event)
        unfinished = getattr(event.assoc.dimse.message, "_data_set_file", None)
        if unfinished is not None:
            unfinished.close()
            Path(unfinished.name).unlink(missing_ok=True)
        for left in self._waiting.pop(event.assoc, set()):
            left.unlink(missing_ok=True)

    def _arrived(self, event: evt.Event) -> None:
        """Note the file of a data set: not every message is one that is served."""
        path = event.message._data_set_path  # noqa: SLF001 - the event does not have it
        if isinstance(path, Path):
            self._waiting.setdefault(event.assoc, set()).add(path)

    def _event_reported(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Return the status of a report on storage commitment."""
        titles = _titles(event.assoc.requestor.ae_title, "")
        try:
            information = commitment.decoded(lambda: event.event_information)
            report = commitment.read_report(event.event_type, information)
            known = self.reported is not None and self.reported(report)
        except ReportError:
            log.warning("commitment_report_unreadable", **titles)
            return commitment.INVALID_ARGUMENT, None
        except Exception:
            log.exception("commitment_report_failed", **titles)
            return commitment.PROCESSING_FAILURE, None
        if not known:
            log.warning("commitment_report_unknown", **titles)
            return commitment.INVALID_ARGUMENT, None
        return commitment.SUCCESS, None

    def _may_send(self, calling: str) -> bool:
        callers = self.listener.callers
        return callers is None or calling in callers

    def _store(self, event: evt.Event) -> int | Dataset:
        """Return the status of a data set, which is safe if it is Success."""
        origin = _origin(event.assoc)
        if not self._may_send(origin.calling_aet):
            event.dataset_path.unlink(missing_ok=True)
            reason = "this peer has no right to send"
            self.note(
                SecurityAlert(
                    alarm=Alarm.USE_OF_RESTRICTED_FUNCTION,
                    reason=reason,
                    who=origin.calling_aet,
                    address=origin.address,
                )
            )
            return _status(NOT_AUTHORIZED, reason)
        request = cast("C_STORE", event.request)
        expected = Expected(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
        )
        path = event.dataset_path
        self._waiting.get(event.assoc, set()).discard(path)
        try:
            self.intake.take(path, origin, session=event.assoc, expected=expected)
        except Rejected as rejected:
            log.warning(
                "instance_rejected",
                sop_instance_uid=expected.sop_instance_uid,
                status=f"0x{rejected.status:04X}",
                reason=rejected.comment,
                **_titles(origin.calling_aet, origin.called_aet),
            )
            return _status(rejected.status, rejected.comment)
        except Exception:
            log.exception("store_failed", sop_instance_uid=expected.sop_instance_uid)
            path.unlink(missing_ok=True)
            return _status(PROCESSING_FAILURE, "the node could not store it")
        return SUCCESS


def _settle(*, receive_into: Path | None) -> None:
    """Set what pynetdicom keeps in the process; None: as it was.

    It makes the file of a data set in Python's folder for temporary files, and
    takes unknown storage classes for storage only if it takes all for it.
    """
    _config.STORE_RECV_CHUNKED_DATASET = receive_into is not None
    _config.UNRESTRICTED_STORAGE_SERVICE = receive_into is not None
    tempfile.tempdir = str(receive_into) if receive_into else None


def _open_on(doors: Sequence[AssociationDoor]) -> list[Association]:
    return [one for door in doors for one in door.active_associations]


def _origin(association: Association) -> Origin:
    requestor = association.requestor
    primitive = requestor.primitive
    called = primitive.called_ae_title if isinstance(primitive, A_ASSOCIATE) else ""
    return Origin(
        door=FrontDoor.DIMSE,
        calling_aet=requestor.ae_title,
        called_aet=called,
        address=requestor.address,
    )


def _status(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment
    return answer


def _rank(transfer_syntax: UID) -> int:
    """Return the place of a transfer syntax; those without keep the sender's order."""
    return _RANKS.get(str(transfer_syntax), len(PREFERRED))


def _rejected(event: evt.Event) -> None:
    log.warning("association_rejected", calling_aet=event.assoc.requestor.ae_title)


def _titles(calling: str, called: str) -> dict[str, str]:
    return {"calling_aet": calling, "called_aet": called}


_RANKS = {uid: rank for rank, uid in enumerate(PREFERRED)}
