"""After a crash: what was acknowledged but never reached the ledger is taken in again.

The spool is the truth about what was received. The scan runs while the front doors are
open: a spool of millions of files keeps no sender waiting. Studies are moved on only
after it.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path

import structlog

from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.intake import Intake
from dicom_node.spool import Spool

LOOKED_UP_AT_ONCE = 500
"""Paths: the ledger is asked for many in one query."""

log = structlog.get_logger(__name__)


def recover(
    spool: Spool,
    known: Callable[[Sequence[str]], Collection[str]],
    intake: Intake,
    *,
    catch_up: Callable[[], None],
) -> int:
    """Return how many files of the spool the ledger did not know, and now does.

    Parameters
    ----------
    known
        Returns which of the files at these paths, relative to the spool's root,
        are in the ledger.
    catch_up
        Waits until the ledger has all that it was given so far.
    """
    count = 0
    files = spool.files()
    while paths := list(islice(files, LOOKED_UP_AT_ONCE)):
        unknown = _unknown(paths, known)
        if unknown:
            catch_up()  # what just came in is in the spool before it is in the ledger
            unknown = _unknown(unknown, known)
        for path in unknown:
            count += _take_again(path, intake, catch_up)
    return count


def _unknown(
    paths: Sequence[str], known: Callable[[Sequence[str]], Collection[str]]
) -> list[str]:
    """Return the files that the ledger does not know."""
    there = known(paths)
    return [path for path in paths if path not in there]


def _take_again(path: str, intake: Intake, catch_up: Callable[[], None]) -> bool:
    """Return whether the file is one that could be taken in."""
    while True:
        try:
            intake.take_again(path)
        except Rejected as rejected:
            if rejected.status == OUT_OF_RESOURCES:
                catch_up()
                continue
            log.exception("spooled_file_not_recovered", sha256=Path(path).stem)
            return False
        except Exception:  # one file in the spool keeps no node from starting
            log.exception("spooled_file_not_recovered", sha256=Path(path).stem)
            return False
        return True
