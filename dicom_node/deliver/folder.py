"""A folder as destination: ``<StudyInstanceUID>/<kind>-<SOPInstanceUID>.dcm``."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.deliver.destination import damage
from dicom_node.files import sync_folder, write_durably
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Peer

ABOUT_THE_MOMENT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDestination:
    """Writes each object so that it is whole or not there, whatever happens."""

    peer: Peer

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, as `Destination.deliver` says."""
        for outgoing in objects:
            yield damage(outgoing) or self._write(outgoing)

    def _write(self, outgoing: Outgoing) -> Outcome:
        root = self.peer.folder or Path()
        name = f"{outgoing.kind}-{outgoing.sop_instance_uid}.dcm"
        target = root / outgoing.study_uid / name
        try:
            write_durably(target, outgoing.path.read_bytes())
            sync_folder(root)
        except OSError as error:
            why = f"the folder cannot be written: {error.strerror or 'I/O error'}"
            if error.errno in ABOUT_THE_MOMENT:
                return Outcome.retry(outgoing, why)
            return Outcome.slowly(outgoing, why)
        return Outcome.delivered(outgoing, "written")
