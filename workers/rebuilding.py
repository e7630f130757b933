"""A ledger made anew from what is left: the files of the spool, the objects of the outbox.

The spool says what was received: every file is taken in again, the oldest first, so that
the newest version of an instance counts. The outbox says what was concluded: its objects
are rows again (`dicom_node.ledger.rebuilding`), and none is composed a second time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError

from dicom_node.admission import Admission
from dicom_node.config import Settings
from dicom_node.domain import (
    Flag,
    ObjectKind,
    PackCard,
    Received,
    Sha256,
    SopInstanceUid,
    Urgency,
)
from dicom_node.errors import Permanent, Rejected
from dicom_node.intake import examine
from dicom_node.ledger import Tx, arrivals, rebuilding
from dicom_node.ledger.eras import begin_era
from dicom_node.ledger.rebuilding import FormerResult
from dicom_node.ledger.results import StoredObject
from dicom_node.spool import Spool
from dicom_node.wiring import addresses, open_spool, pack_rules, priority_rules
from sr_writer.provenance import Provenance, provenance
from sr_writer.reading import read_report
from sr_writer.said import Report, SaidFinding

AT_ONCE = 256
"""Instances that are recorded together."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """How much there was to be put back.

    Parameters
    ----------
    damaged
        Files that are not what their names say, or say nothing; they stay where they are.
    twice
        UIDs that two files of the outbox have, because a worker died between them: the
        later one was taken.
    left
        Results of which instances are no longer in the spool.
    """

    instances: int = 0
    results: int = 0
    objects: int = 0
    twice: int = 0
    left: int = 0
    damaged: list[Path] = field(default_factory=list)


def rebuild(
    tx: Tx,
    settings: Settings,
    packs: Sequence[PackCard],
    *,
    now: datetime,
    progress: Progress,
) -> Rebuilt:
    """Put back what the spool and the outbox say, and return how much it was.

    Parameters
    ----------
    tx
        On a ledger without any study; all of it is one transaction.
    """
    done = Rebuilt()
    admission = Admission(priority_rules(settings), pack_rules(settings, packs))
    some: list[Received] = []
    for received in _spooled(open_spool(settings), admission, done, progress):
        some.append(received)
        done.instances += 1
        if len(some) == AT_ONCE:
            arrivals.record(tx, some, encoders=())
            some.clear()
    arrivals.record(tx, some, encoders=())
    results = former_results(settings.outbox_dir, done, progress)
    left = rebuilding.adopt(tx, results, addresses(settings.peers), now=now)
    done.results = len(results) - len(left)
    done.left += len(left)
    begin_era(tx, at=now, why="rebuilt: what was purged or damaged is not known")
    return done


def former_results(
    outbox: Path, done: Rebuilt, progress: Progress
) -> list[FormerResult]:
    """Return the results whose objects lie in the outbox."""
    runs: dict[tuple[str, str, datetime], list[_Kept]] = {}
    for kept in _newest(_objects(outbox, done, progress), done):
        said = kept.said
        key = (said.study_uid, said.device_uid, said.concluded_at)
        runs.setdefault(key, []).append(kept)
    results = [_result(run, outbox) for run in runs.values()]
    done.left += results.count(None)
    return [result for result in results if result is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """An object in the outbox: what it says, and where it lies."""

    said: Provenance
    stored: StoredObject
    written_at: float


def _spooled(
    spool: Spool, admission: Admission, done: Rebuilt, progress: Progress
) -> Iterator[Received]:
    """Yield what lies in the spool, in the order in which it came."""
    ages = sorted((spool.path(name).stat().st_mtime, name) for name in spool.files())
    for count, (mtime, name) in enumerate(ages):
        progress("reading the spool", count, len(ages))
        file, origin = spool.path(name), spool.origin(name)
        try:
            found = examine(file, admission, origin=origin)
        except Rejected:
            done.damaged.append(file)
            continue
        if found.sha256 != file.stem:
            done.damaged.append(file)
            continue
        yield Received(
            header=found.header,
            origin=origin,
            sha256=found.sha256,
            path=name,
            size=found.size,
            at=datetime.fromtimestamp(mtime, UTC),
        )


def _objects(outbox: Path, done: Rebuilt, progress: Progress) -> Iterator[_Kept]:
    files = sorted(outbox.glob("??/*.dcm"))
    for count, path in enumerate(files):
        progress("reading reports", count, len(files))
        try:
            yield _kept(path, outbox)
        except (Permanent, InvalidDicomError, OSError):
            done.damaged.append(path)


def _kept(path: Path, outbox: Path) -> _Kept:
    """Return what an object says of itself.

    Raises
    ------
    Permanent
        If it is none of ours, or not what its name says.
    """
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    if digest != path.stem:
        raise Permanent("an object in the outbox is damaged")
    said = provenance(_header(path))
    about = path.stat()
    stored = StoredObject(
        kind=said.kind,
        series_uid=said.series_uid,
        sop_class_uid=said.sop_class_uid,
        sop_instance_uid=said.sop_instance_uid,
        sha256=Sha256(digest),
        path=str(path.relative_to(outbox)),
        size=about.st_size,
    )
    return _Kept(said=said, stored=stored, written_at=about.st_mtime)


def _newest(objects: Iterator[_Kept], done: Rebuilt) -> list[_Kept]:
    """Return one object for each UID, and delete none of the others."""
    by_uid: dict[SopInstanceUid, _Kept] = {}
    for one in sorted(objects, key=lambda kept: kept.written_at):
        done.twice += one.said.sop_instance_uid in by_uid
        by_uid[one.said.sop_instance_uid] = one
    done.objects = len(by_uid)
    return list(by_uid.values())


def _result(run: Sequence[_Kept], outbox: Path) -> FormerResult | None:
    """Return the result that these objects were composed of; None without its report."""
    report = next((o for o in run if o.said.kind is ObjectKind.REPORT), None)
    if report is None:
        return None
    said = report.said
    return FormerResult(
        study_uid=said.study_uid,
        revision=(read := _read(outbox / report.stored.path)).revision,
        pack=said.pack,
        device_uid=said.device_uid,
        concluded_at=said.concluded_at,
        images=said.names,
        objects=tuple(one.stored for one in run),
        shown=_shown(read),
        rejects={
            one.said.sop_instance_uid: one.said.names
            for one in run
            if one.said.kind is ObjectKind.REJECTION
        },
    )


def _header(path: Path) -> Dataset:
    with disable_value_validation():  # its warnings show values
        return dcmread(path, stop_before_pixels=True)


def _read(path: Path) -> Report:
    with disable_value_validation():
        return read_report(_header(path))


def _shown(report: Report) -> dict[str, Any]:
    """Return the line that the list of studies has of a report."""
    scored = [f for f in report.findings if f.score and f.operating_point]
    if not scored:
        return {"flag": Flag.NOT_EVALUATED, "detail": report.reason}
    top = min(scored, key=_rank)
    if top.score is None or top.operating_point is None:
        return {}
    urgency = {} if top.urgency is None else {"urgency": _place(top.urgency)}
    return {
        "flag": top.flag,
        "top_finding": top.concept.meaning,
        "top_score": top.score.value,
        "top_threshold": top.operating_point.threshold,
        **urgency,
    }


def _place(urgency: Urgency | None) -> int:
    return len(Urgency) if urgency is None else list(Urgency).index(urgency)


def _rank(finding: SaidFinding) -> tuple[bool, int, float]:
    """Return what sorts flagged findings first, urgent ones before others."""
    margin = 0.0
    if finding.score is not None and finding.operating_point is not None:
        margin = finding.operating_point.threshold - finding.score.value
    return (finding.flag is not Flag.ABOVE, _place(finding.urgency), margin)
