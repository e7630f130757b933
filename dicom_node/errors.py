"""Every error that pacsight raises on purpose, in one tree.

::

    PacsightError
    ├── Transient     tried again, with backoff: the network, a busy database
    ├── Permanent     recorded, never tried again: a file that no codec can decode
    │   └── SettingsError   what the operator wrote cannot be used
    └── Rejected      answered to the sender, with the DICOM status it carries

Raise at the fault, decide at the edge. The message is one sentence that says
what is wrong and, where there is one, what to do. It never holds patient data.
"""


class PacsightError(Exception):
    """Root of the tree; the command line prints its message and exits with 2."""


class Transient(PacsightError):  # noqa: N818 - named for what the edge does with it
    """Something that may work later."""


class Permanent(PacsightError):  # noqa: N818 - named for what the edge does with it
    """Something that will not work however often it is tried."""


class SettingsError(Permanent):
    """A setting that is missing, malformed or contradicts another."""


class Rejected(PacsightError):  # noqa: N818 - named for what the edge does with it
    """A data set that is not taken in, and the status that its sender gets.

    Parameters
    ----------
    comment
        What is wrong, for the sender's log: ASCII, at most 64 characters
        (Error Comment (0000,0902) is LO).
    status
        The C-STORE status, PS3.4 Table B.2-1; STOW-RS uses the same code as
        Failure Reason (0008,1197).
    """

    def __init__(self, comment: str, *, status: int) -> None:
        super().__init__(comment)
        self.comment = comment[:64]
        self.status = status


OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

UNREADABLE_JSON: tuple[type[Exception], ...] = (
    ValueError,
    OverflowError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""What somebody else's JSON that is no data set leads to while it is read as one."""
