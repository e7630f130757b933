"""An association whose sender means harm: bounded in memory, ended by an abort.

PS3.8 9.2 (the upper layer's states) and 9.3 (PDUs). pynetdicom reads a PDU of whatever
length it claims, gathers a command or a data set without end, and lets the thread of a
connection end in an error where its states have no answer to what came. Each of these
becomes an A-ABORT and the end of this connection, and of nothing else.
"""

from typing import Any, cast

import structlog
from pynetdicom import evt
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ, P_DATA_TF
from pynetdicom.transport import AddressInformation, AssociationSocket

LONGEST_PDU = 1 << 20
"""Bytes; or as long as the node offers to receive, if that is more."""
LONGEST_COMMAND = 1 << 16
"""Bytes of a command set: none of PS3.7 comes near it."""
LONGEST_INFORMATION = 16 << 20
"""Bytes of a data set that is kept in memory: a report on some 100,000 instances."""

_COMMAND, _LAST_COMMAND = 0b01, 0b11
"""Bits of a Message Control Header (PS3.8 E.2)."""
_PERMANENT, _ACSE_PROVIDER, _NO_REASON = 0x01, 0x02, 0x01
"""Result, source and diagnostic of A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

log = structlog.get_logger(__name__)


class TooLongError(OSError):
    """What a sender announces is longer than the node takes; pynetdicom sees no connection."""


def guard(event: evt.Event) -> None:
    """Guard a connection that has just been opened; bind it to ``EVT_CONN_OPEN``."""
    dul = event.assoc.dul
    machine = GuardedMachine(dul)
    machine.current_state = dul.state_machine.current_state
    dul.state_machine = machine
    connection = cast("AssociationSocket", dul.socket)
    longest = max(LONGEST_PDU, event.assoc.acceptor.maximum_length or 0)
    receive = connection.recv

    def bounded(nr_bytes: int) -> bytearray:
        if nr_bytes > longest:
            log.warning("association_broken", reason="a PDU that is too long")
            connection.send(_abort())
            raise TooLongError(f"a PDU of {nr_bytes} bytes")
        return receive(nr_bytes)

    connection.recv = bounded  # type: ignore[method-assign]
    acse = event.assoc.acse
    negotiate = acse.negotiate_association

    def negotiated() -> None:
        try:
            negotiate()
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes lead to
            log.warning("association_broken", reason=type(error).__name__)
            acse.send_reject(_PERMANENT, _ACSE_PROVIDER, _NO_REASON)
            event.assoc.kill()

    acse.negotiate_association = negotiated  # type: ignore[method-assign]


def weigh(event: evt.Event) -> None:
    """End an association whose messages do not end; bind it to ``EVT_PDU_RECV``."""
    fault = _fault(event.assoc.dimse.message, event.pdu)
    if fault:
        log.warning("association_broken", reason=fault)
        event.assoc.dul.event_queue.put("Evt19")  # as for a PDU that is none


def _fault(message: DIMSEMessage | None, pdu: object) -> str:
    """Return what is wrong with the next part of a message, empty for nothing."""
    if not isinstance(pdu, P_DATA_TF):
        return ""
    if message is not None:
        gathered = message.data_set.tell() if message.data_set else 0
        command = message.encoded_command_set.tell()
        if command > LONGEST_COMMAND or gathered > LONGEST_INFORMATION:
            return "a message without end"
    has_command = message is not None and message._data_set_file is not None  # noqa: SLF001
    for item in pdu.presentation_data_value_items:
        if not item.presentation_data_value:
            return "an empty fragment"
        control = item.presentation_data_value[0]
        if control & _COMMAND and has_command:
            return (
                "a command within a data set"  # the data set's file would be forgotten
            )
        has_command = has_command or control & _LAST_COMMAND == _LAST_COMMAND
    return ""


class GuardedMachine(StateMachine):
    """The upper layer's states, of which none ends in an error."""

    def do_action(self, event: str) -> None:
        """Act on an event; where there is no action, or it fails, end the connection."""
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes lead to
            log.warning("association_broken", reason=type(error).__name__)
            self._end()
        if self.dul._kill_thread:  # noqa: SLF001 - there is no other way to know
            # who still waits for an association request need not do so to the end
            self.dul.to_user_queue.put(cast("Any", None))

    def _end(self) -> None:
        """Abort, as pynetdicom does where it can read no further."""
        dul, assoc = self.dul, self.dul.assoc
        if dul.socket is not None:
            dul.socket.send(_abort())
            dul.socket.close()
        assoc.is_aborted, assoc.is_established = True, False
        assoc._kill = True  # noqa: SLF001 - as pynetdicom does
        address = cast("AddressInformation", assoc.requestor.address_info)
        evt.trigger(assoc, evt.EVT_CONN_CLOSE, {"address": address.as_tuple})
        dul.kill_dul()


def _abort() -> bytes:
    """Return an A-ABORT of the service provider, its reason not specified."""
    abort = A_ABORT_RQ()
    abort.source, abort.reason_diagnostic = 0x02, 0x00
    return abort.encode()
