"""The outbox's folder: encoded DICOM objects, kept until and after they are sent."""

import errno
from datetime import datetime
from pathlib import Path

from dicom_node.domain import EncodedObject
from dicom_node.errors import Transient
from dicom_node.files import (
    make_folder,
    remove_older,
    write_durably,
    written_at,
)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class OutboxFullError(Transient):
    """There is no room for an object; it is composed again once there is."""


class ObjectStore:
    """Keeps encoded objects, each under the digest of its bytes.

    Parameters
    ----------
    root
        Its folder; made where it does not exist, readable by its owner alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        make_folder(root)

    def keep(self, encoded: EncodedObject) -> str:
        """Write the object's bytes so that they survive a crash.

        Returns
        -------
        str
            Where they lie, relative to the root. The same bytes, the same place.

        Raises
        ------
        OutboxFullError
            If its disk is full.
        """
        digest = encoded.sha256
        relative = f"{digest[:2]}/{digest}.dcm"
        try:
            write_durably(self._root / relative, encoded.content)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise OutboxFullError("there is no room in the outbox") from error
        return relative

    def written_at(self, relative: str) -> datetime | None:
        """Return when an object was written, UTC; None if there is none."""
        return written_at(self._root / relative)

    def remove(self, relative: str, *, before: datetime) -> bool:
        """Remove an object unless it was written since; return whether it is gone."""
        return remove_older(self._root / relative, before)

    def drop(self, relative: str) -> None:
        """Delete an object that the ledger never heard of."""
        self.path(relative).unlink(missing_ok=True)

    def path(self, relative: str) -> Path:
        """Return where an object lies."""
        return self._root / relative
