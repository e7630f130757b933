"""After a crash: what was acknowledged but never reached the ledger is taken in again.

The spool is the truth about what was received. The scan runs before the front
doors open.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from dicom_node.errors import Rejected
from dicom_node.intake import Intake
from dicom_node.spool import Spool

log = structlog.get_logger(__name__)


def recover(spool: Spool, known: Callable[[str], bool], intake: Intake) -> int:
    """Return how many files of the spool the ledger did not know, and now does.

    Parameters
    ----------
    known
        Tells whether the file at a path, relative to the spool's root, is in
        the ledger.
    """
    count = 0
    for path in spool.files():
        if known(path):
            continue
        try:
            intake.take_again(path)
        except Rejected:
            log.exception("spooled_file_not_recovered", sha256=Path(path).stem)
        else:
            count += 1
    return count
