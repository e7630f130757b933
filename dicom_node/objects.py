"""The outbox's folder: encoded DICOM objects, kept until and after they are sent."""

from pathlib import Path

from dicom_node.domain import EncodedObject
from dicom_node.files import make_folder, write_durably


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
        """
        digest = encoded.sha256
        relative = f"{digest[:2]}/{digest}.dcm"
        write_durably(self._root / relative, encoded.content)
        return relative

    def drop(self, relative: str) -> None:
        """Delete an object that the ledger never heard of."""
        self.path(relative).unlink(missing_ok=True)

    def path(self, relative: str) -> Path:
        """Return where an object lies."""
        return self._root / relative
