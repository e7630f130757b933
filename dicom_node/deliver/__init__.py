"""Sending encoded objects: by C-STORE, STOW-RS, Orthanc's REST API, or into a folder.

A destination tells what became of each object (`Outcome`), says later whether it is
really there (`Finding`), and never raises because of a peer. It knows nothing of the
ledger: who calls it reads the outbox, and writes down what it answers. The clients of
HTTP are imported where a peer needs them: without them a node receives sooner.
"""

from dicom_node.deliver.destination import Destination
from dicom_node.deliver.dimse import DimseDestination
from dicom_node.deliver.folder import FolderDestination
from dicom_node.peers import Caller, Peer, Via

__all__ = ["Destination", "DimseDestination", "destination"]


def destination(peer: Peer, caller: Caller) -> Destination:
    """Return the peer as one that objects can be delivered to."""
    match peer.via:
        case Via.DIMSE:
            return DimseDestination(peer=peer, caller=caller)
        case Via.STOW:
            from dicom_node.deliver.stow import StowDestination

            return StowDestination(peer=peer, caller=caller)
        case Via.ORTHANC:
            from dicom_node.deliver.orthanc import OrthancDestination

            return OrthancDestination(peer=peer, caller=caller)
        case Via.FOLDER:
            return FolderDestination(peer=peer)
