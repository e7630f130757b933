"""A folder as destination: ``<StudyInstanceUID>/<kind>-<SOPInstanceUID>.dcm``."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.deliver.destination import damage
from dicom_node.deliver.encoding import first_fitting
from dicom_node.files import sync_folder, write_durably
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Peer
from dicom_node.verification import Finding, Found, How

ABOUT_THE_MOMENT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDestination:
    """Writes each object so that it is whole or not there, whatever happens."""

    peer: Peer

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, as `Destination.deliver` says."""
        for outgoing in objects:
            yield damage(outgoing) or self._write(outgoing)

    def verify(self, objects: Sequence[Outgoing]) -> Iterator[Finding]:
        """Yield whether each file still is what was written."""
        for outgoing in objects:
            yield self._read_back(outgoing)

    def _write(self, outgoing: Outgoing) -> Outcome:
        target = self._target(outgoing)
        content = self._content(outgoing)
        try:
            write_durably(target, content)
            sync_folder(self.peer.folder or Path())
            same = target.read_bytes() == content
        except OSError as error:
            why = f"the folder cannot be written: {error.strerror or 'I/O error'}"
            if error.errno in ABOUT_THE_MOMENT:
                return Outcome.retry(outgoing, why)
            return Outcome.slowly(outgoing, why)
        if not same:
            return Outcome.retry(outgoing, "the folder does not keep what is written")
        return Outcome.delivered(outgoing, "written, and read back", how=How.CONTENT)

    def _read_back(self, outgoing: Outgoing) -> Finding:
        key = outgoing.delivery
        try:
            held = self._target(outgoing).read_bytes()
        except FileNotFoundError:
            gone = "its file is no longer in the folder"
            return Finding(delivery=key, found=Found.LOST, detail=gone)
        except OSError as error:
            why = f"the folder cannot be read: {error.strerror or 'I/O error'}"
            return Finding(delivery=key, found=Found.UNREACHABLE, detail=why)
        if held != self._content(outgoing):
            changed = "its file in the folder is not what was written"
            return Finding(delivery=key, found=Found.LOST, detail=changed)
        return Finding.there(key, How.CONTENT, "it is there, as it was written")

    def _target(self, outgoing: Outgoing) -> Path:
        name = f"{outgoing.kind}-{outgoing.sop_instance_uid}.dcm"
        return (self.peer.folder or Path()) / outgoing.study_uid / name

    def _content(self, outgoing: Outgoing) -> bytes:
        return first_fitting(outgoing.path, self.peer.transfer_syntaxes)
