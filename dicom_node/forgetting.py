"""Remove what the node holds of a patient or a study, and say what it found.

The order survives a crash: first nobody works on it any more, then the files go, then
the rows that named them. Rows without files are found again; files without rows would
be taken in again by the recovery scan.

What destinations were sent is theirs: they are named, and not asked.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_node.admission import Admission
from dicom_node.domain import FrontDoor, Header, Origin, Sha256
from dicom_node.domain.audited import Note, StudyForgotten
from dicom_node.errors import Permanent, Rejected
from dicom_node.files import sync_folder
from dicom_node.intake import examine
from dicom_node.ledger import Ledger, Tx, forgetting, motion
from dicom_node.ledger.eras import begin_era
from dicom_node.ledger.forgetting import Held

ABANDONED_S = 3600.0
"""What was being written so long ago is not being written any more."""


class StillMovingError(Permanent):
    """Reports on it are to be sent or verified: forgetting them needs a word more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the node holds of a patient or a study.

    Parameters
    ----------
    strays
        Files of it that the ledger does not know: what a crash left behind.
    """

    held: Held
    strays: tuple[Path, ...]

    @property
    def nothing(self) -> bool:
        """Return whether there is nothing of it."""
        return not (self.held.studies or self.strays)

    @property
    def counts(self) -> dict[str, int]:
        """Return how much of each there is."""
        held = self.held
        return {
            "studies": len(held.studies),
            "instances": len(held.spooled),
            "embeddings": held.embeddings,
            "results": held.results,
            "objects": len(held.kept),
            "deliveries": held.deliveries,
            "deliveries_in_motion": held.moving,
            "stray_files": len(self.strays),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Where a node keeps what it holds: ledger, spool and outbox."""

    ledger: Ledger
    spool: Path
    outbox: Path

    def of_patient(self, patient: Sha256) -> Found:
        """Return what there is of the patient with that digest."""
        return self._found(
            lambda tx: forgetting.held_of_patient(tx, patient),
            lambda header: header.patient == patient,
        )

    def of_study(self, name: str) -> Found:
        """Return what there is of a study, named by its UID or an ending of it.

        Raises
        ------
        UnknownStudyError
            If there is no such study, or several.
        """
        with self.ledger.read() as tx:
            study = motion.find(tx, name)
        return self._found(
            lambda tx: forgetting.held_of_study(tx, study.key),
            lambda header: header.study_uid == study.study_uid,
        )

    def _found(
        self, held: Callable[[Tx], Held], is_of_it: Callable[[Header], bool]
    ) -> Found:
        with self.ledger.read() as tx:
            found = held(tx)
            spooled, kept = forgetting.known_files(tx)
        unknown = [
            *_unknown(self.spool, spooled),
            *_unknown(self.outbox, kept),
        ]
        headers = ((path, _header(path)) for path in unknown)
        strays = (path for path, header in headers if header and is_of_it(header))
        return Found(held=found, strays=tuple(strays))


def forget(
    holdings: Holdings,
    found: Found,
    *,
    force: bool,
    now: datetime,
    by: str,
    note: Note = lambda _: None,
) -> bool:
    """Remove what was found; nothing of it is left in a file of the node.

    Parameters
    ----------
    force
        Also where reports on it are still to be sent or verified.

    Returns
    -------
    bool
        False where SQLite's log still has what was removed, because somebody reads
        the ledger all the time: it goes with the log's next turn.

    Raises
    ------
    StillMovingError
        If deliveries of it are in motion, and `force` is false.
    """
    held = found.held
    if held.moving and not force:
        raise StillMovingError(
            f"{held.moving} deliveries of it are still to be sent or verified:"
            " wait until they are, or say --force"
        )
    ledger = holdings.ledger
    with ledger.write() as tx:
        forgetting.stop(tx, held)
    _unlink([holdings.spool / path for path in held.spooled])
    _unlink([holdings.outbox / path for path in held.kept])
    _unlink(found.strays)
    _sweep(holdings.outbox)
    with ledger.write() as tx:
        forgetting.remove(tx, held, at=now)
        if held.results:  # sent again, it has results that differ: so must their UIDs
            begin_era(tx, at=now, why="results were forgotten, and may be out there")
    for uid, instances in held.by_study:
        note(StudyForgotten(study_uid=uid, instances=instances, by=by))
    return ledger.settle()


def _unlink(paths: list[Path] | tuple[Path, ...]) -> None:
    """Delete files, and make it last."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in sorted({path.parent for path in paths}):
        with suppress(FileNotFoundError):
            sync_folder(folder)


def _unknown(root: Path, known: frozenset[str]) -> Iterator[Path]:
    """Yield the files of a store that are none of those that the ledger knows."""
    for path in root.glob("??/*.dcm"):
        if str(path.relative_to(root)) not in known:
            yield path


def _header(path: Path) -> Header | None:
    """Return what a file says of itself; None for one that says nothing, or is gone."""
    try:
        found = examine(path, Admission(), origin=Origin(door=FrontDoor.FILE))
    except (Rejected, OSError):
        return None
    return found.header


def _sweep(outbox: Path) -> None:
    """Delete what was never written to its end."""
    long_ago = time.time() - ABANDONED_S
    for path in outbox.glob("??/.*.part"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < long_ago:
                path.unlink()


def user() -> str:
    """Return who runs this process: the account's number, which every system has."""
    return f"uid {os.getuid()}"
