"""The peers that the node calls by DICOM: connection, TLS, titles, contexts, C-ECHO.

Each is asked as the node asks it: the same titles, certificates, classes and transfer
syntaxes (PS3.8 7.1, PS3.4 A). Nothing is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.association import (
    NothingAcceptedError,
    UnreachableError,
    association,
)
from dicom_node.doctor.finding import Ailment, Finding, Hop
from dicom_node.doctor.reaching import handshake_fault, tcp_fault, unreachable
from dicom_node.domain import ObjectKind
from dicom_node.errors import Permanent, Transient
from dicom_node.peers import Caller, Inquiry, Peer, Syntax, Via
from dicom_node.query import STUDY_ROOT_FIND

CLASSES: Mapping[ObjectKind, UID] = {
    ObjectKind.REPORT: Comprehensive3DSRStorage,
    ObjectKind.CAPTURE: SecondaryCaptureImageStorage,
    ObjectKind.KEY_OBJECTS: KeyObjectSelectionDocumentStorage,
    ObjectKind.DOCUMENT: EncapsulatedPDFStorage,
    ObjectKind.REJECTION: KeyObjectSelectionDocumentStorage,
}
SYNTAXES: Mapping[Syntax, UID] = {
    Syntax.EXPLICIT: ExplicitVRLittleEndian,
    Syntax.IMPLICIT: ImplicitVRLittleEndian,
    Syntax.RLE: RLELossless,
}
PATIENCE_S = 3.0
SUCCESS = 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A class that a peer has to take, and what it is called."""

    sop_class: UID
    syntaxes: tuple[UID, ...]


def is_called(peer: Peer) -> bool:
    """Return whether the node opens associations to the peer."""
    sends = peer.is_destination and peer.via is Via.DIMSE
    return sends or peer.expected is Inquiry.CFIND


def look_at_neighbour(peer: Peer, caller: Caller) -> list[Finding]:
    """Return how far an association with the peer gets."""
    host, port = peer.host, peer.port or 0
    fault = tcp_fault(host, port)
    if fault is None and peer.tls is not None:
        fault = handshake_fault(host, port, peer.tls)
    said, ailment = fault or _association(peer, caller)
    return [Finding(hop=Hop.PEERS, who=peer.name, said=said, ailment=ailment)]


def _association(peer: Peer, caller: Caller) -> tuple[str, Ailment | None]:
    """Return what an association with a peer leads to that takes connections."""
    wanted = wants(peer)
    try:
        with association(peer, hurried(caller), _contexts(wanted)) as assoc:
            return _answers(assoc, wanted)
    except NothingAcceptedError:
        return _untaken(wanted), Ailment.NO_COMMON_SYNTAX
    except UnreachableError as error:
        return unreachable(error, peer.host, peer.port or 0, peer.tls)
    except Permanent as error:
        ours = peer.calling_aet or caller.aet
        said = f"{_reason(error)}: we call {peer.aet} as {ours}"
        return said, Ailment.TITLE_REJECTED
    except Transient as error:
        return _reason(error), Ailment.BUSY


def hurried(caller: Caller) -> Caller:
    """Return the caller with less patience."""
    return replace(
        caller,
        connect_timeout_s=PATIENCE_S,
        acse_timeout_s=PATIENCE_S,
        dimse_timeout_s=PATIENCE_S,
        http_timeout_s=PATIENCE_S,
    )


def wants(peer: Peer) -> tuple[Wanted, ...]:
    """Return what the peer has to take for us to do what the settings say."""
    found: dict[UID, tuple[UID, ...]] = {}
    if peer.is_destination and peer.via is Via.DIMSE:
        for kind in sorted(peer.objects):
            pixels = kind is ObjectKind.CAPTURE
            found[CLASSES[kind]] = _syntaxes(peer.transfer_syntaxes, pixels=pixels)
    if peer.expected is Inquiry.CFIND:
        found[STUDY_ROOT_FIND] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    return tuple(Wanted(sop_class=c, syntaxes=s) for c, s in found.items())


def _syntaxes(allowed: Sequence[Syntax], *, pixels: bool) -> tuple[UID, ...]:
    """Return the transfer syntaxes that an object is offered in; RLE is of pixels."""
    return tuple(
        dict.fromkeys(
            SYNTAXES[s] if pixels or s is not Syntax.RLE else ExplicitVRLittleEndian
            for s in allowed
        )
    )


def _contexts(wanted: Sequence[Wanted]) -> list[PresentationContext]:
    made = [build_context(one.sop_class, list(one.syntaxes)) for one in wanted]
    return [build_context(Verification), *made]


def _answers(
    assoc: Association, wanted: Sequence[Wanted]
) -> tuple[str, Ailment | None]:
    """Return what an open association is good for."""
    taken = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
    left_out = [one for one in wanted if one.sop_class not in taken]
    if left_out:
        return _untaken(left_out), Ailment.NO_COMMON_SYNTAX
    if Verification in taken:
        status = assoc.send_c_echo().get("Status")
        if status != SUCCESS:
            return "it did not answer C-ECHO with success", Ailment.NO_ANSWER
    return f"it takes all that we send, as {assoc.acceptor.ae_title}", None


def _untaken(left_out: Sequence[Wanted]) -> str:
    names = ", ".join(one.sop_class.name for one in left_out)
    syntaxes = dict.fromkeys(s.name for one in left_out for s in one.syntaxes)
    return f"no common transfer syntax: it takes no {names} in {' or '.join(syntaxes)}"


def _reason(error: Exception) -> str:
    """Return the error without the peer's name before it."""
    return str(error).partition(": ")[2] or str(error)
