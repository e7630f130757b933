"""Record what came in. One transaction takes many instances (group commit)."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, distinct, func, select, update

from dicom_node.domain import (
    Analysis,
    Received,
    Sha256,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.errors import Permanent
from dicom_node.ledger.events import note
from dicom_node.ledger.exams import exam_json
from dicom_node.ledger.frames import (
    EMBEDDED_NOW,
    await_embeddings,
    embedding_rows,
    hurry,
)
from dicom_node.ledger.outbox import cancel, withdraw
from dicom_node.ledger.revisions import drop_jobs
from dicom_node.ledger.sql import insert_ignore, locked
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import embedding, study, version
from dicom_node.lifecycle import Event, State

_EVIDENCE = version.c.current & (version.c.analysis != Analysis.OWN)


class Known(StrEnum):
    """What the ledger says of a file of the spool that it knows."""

    KEPT = "kept"
    PURGED = "purged"
    """It is not there any more, says the ledger."""


class UnknownInstanceError(Permanent):
    """The study has no such instance among those that count."""


def record(
    tx: Connection, received: Sequence[Received], *, encoders: Sequence[Sha256]
) -> None:
    """Write what was received: versions, the frames to embed, what changed.

    Parameters
    ----------
    encoders
        Digests of the encoders in use; every frame gets one row for each.

    The same bytes twice change nothing. Other bytes under a known SOP Instance
    UID are a new version, and the newest counts. Two patients in one study
    hold it.
    """
    for group in _groups(received):
        _record_study(tx, group, encoders)


def known(tx: Connection, paths: Collection[str]) -> dict[str, Known]:
    """Return what the ledger says of the spooled files at these paths, if it knows them."""
    query = select(version.c.path, version.c.purged_at).where(version.c.path.in_(paths))
    return {
        row.path: Known.KEPT if row.purged_at is None else Known.PURGED
        for row in tx.execute(query)
    }


def _groups(received: Iterable[Received]) -> Iterator[list[Received]]:
    """Yield what came of one study; no SOP Instance UID comes twice in a group.

    Studies are taken in the order of their UIDs, so that two nodes that record the
    same studies wait for each other instead of locking each other out.
    """
    for run in _runs(received):
        run.sort(key=_study_uid)
        for _, group in groupby(run, key=_study_uid):
            yield list(group)


def _runs(received: Iterable[Received]) -> Iterator[list[Received]]:
    run: list[Received] = []
    seen: set[SopInstanceUid] = set()
    for item in received:
        if item.header.sop_instance_uid in seen:
            yield run
            run, seen = [], set()
        run.append(item)
        seen.add(item.header.sop_instance_uid)
    if run:
        yield run


def _study_uid(received: Received) -> StudyUid:
    return received.header.study_uid


def _record_study(
    tx: Connection, group: list[Received], encoders: Sequence[Sha256]
) -> None:
    row = _study_for_update(tx, group[0])
    former = _former_versions(tx, group)
    _back(tx, group, former)
    changed = [r for r in group if not _known(r, former)]
    if not changed:
        return
    _supersede(tx, changed, former, row.id)
    fresh = [r for r in changed if _same(r, former) is None]
    ours = [r for r in changed if r.header.analysis is not Analysis.OWN]
    priority = min([row.priority, *(r.header.priority for r in ours)])
    _insert_versions(tx, fresh, row.id, encoders=encoders, priority=priority)
    if priority < row.priority:
        hurry(tx, row.id, priority)
    images = any(r.header.analysis is Analysis.IMAGE for r in ours)
    if images and (len(fresh) < len(changed) or row.state not in EMBEDDED_NOW):
        for encoder in encoders:
            await_embeddings(tx, encoder, study.c.id == row.id)
    if ours:
        lost = any(_is_superseded_image(f, changed, row.id) for f in former)
        at = max(r.at for r in ours)
        _arrived(tx, row.id, State(row.state), images=images or lost, at=at)


def _study_for_update(tx: Connection, first: Received) -> Row[Any]:
    insert_ignore(tx, study, [_new_study(first)])
    query = select(study).where(study.c.study_uid == first.header.study_uid)
    return tx.execute(locked(query)).one()


def _new_study(first: Received) -> dict[str, Any]:
    return {
        "study_uid": first.header.study_uid,
        "state": State.RECEIVING,
        "detail": "",
        "priority": first.header.priority,
        "first_at": first.at,
        "last_at": first.at,
        "waiting_since": first.at,
        "asked": False,
        "revision": 0,
        "calling_aet": first.origin.calling_aet,
    }


def _former_versions(tx: Connection, group: list[Received]) -> Sequence[Any]:
    uids = [r.header.sop_instance_uid for r in group]
    query = select(
        version.c.id,
        version.c.study_id,
        version.c.sop_instance_uid,
        version.c.sha256,
        version.c.current,
        version.c.analysis,
        version.c.purged_at,
    ).where(version.c.sop_instance_uid.in_(uids))
    return tx.execute(query).all()


def _same(received: Received, former: Sequence[Any]) -> Any:
    uid, digest = received.header.sop_instance_uid, received.sha256
    same = (f for f in former if (f.sop_instance_uid, f.sha256) == (uid, digest))
    return next(same, None)


def _back(tx: Connection, group: list[Received], former: Sequence[Any]) -> None:
    """Note that files which were purged have come again, whatever they change."""
    same = [found for r in group if (found := _same(r, former)) is not None]
    back = [found.id for found in same if found.purged_at is not None]
    if back:
        tx.execute(update(version).where(version.c.id.in_(back)).values(purged_at=None))


def _known(received: Received, former: Sequence[Any]) -> bool:
    """Return whether these bytes count already, or a person decided against them.

    Of an instance that a person left out no version is current.
    """
    if _same(received, former) is None:
        return False
    uid = received.header.sop_instance_uid
    current = [f.sha256 for f in former if f.sop_instance_uid == uid and f.current]
    return not current or received.sha256 in current


def _is_superseded_image(
    former: Any, changed: Sequence[Received], study_id: int
) -> bool:
    return bool(
        former.current
        and former.study_id == study_id
        and former.analysis == Analysis.IMAGE
        and any(r.header.sop_instance_uid == former.sop_instance_uid for r in changed)
    )


def _supersede(
    tx: Connection, changed: list[Received], former: Sequence[Any], study_id: int
) -> None:
    """Take older versions out, put a version that came again back in."""
    uids = {r.header.sop_instance_uid for r in changed}
    again = [same.id for r in changed if (same := _same(r, former)) is not None]
    outdated = [f for f in former if f.sop_instance_uid in uids and f.current]
    if outdated:
        ids = [f.id for f in outdated]
        tx.execute(update(version).where(version.c.id.in_(ids)).values(current=False))
    if again:
        tx.execute(update(version).where(version.c.id.in_(again)).values(current=True))
    at = changed[0].at
    for old in outdated:
        detail = "other bytes under a known SOP Instance UID: the newest version counts"
        note(tx, at, "new version", detail, study_id=study_id, uid=old.sop_instance_uid)
    for left in sorted({f.study_id for f in outdated} - {study_id}):
        _left(tx, left, at)


def _left(tx: Connection, study_id: int, at: datetime) -> None:
    """Let a study go on without an instance that came again in another one."""
    query = select(study.c.state).where(study.c.id == study_id)
    state = State(tx.execute(locked(query)).scalar_one())
    detail = "an instance came again in another study"
    _arrived(tx, study_id, state, images=True, at=at, detail=detail)


def _insert_versions(
    tx: Connection,
    fresh: list[Received],
    study_id: int,
    *,
    encoders: Sequence[Sha256],
    priority: int,
) -> None:
    if not fresh:
        return
    insert_ignore(tx, version, [_version_row(r, study_id) for r in fresh])
    paths = [r.path for r in fresh]
    query = select(version.c.id, version.c.path).where(version.c.path.in_(paths))
    ids = {path: key for key, path in tx.execute(query)}
    rows: list[dict[str, Any]] = []
    for item in fresh:
        if item.header.analysis is Analysis.IMAGE:
            for encoder in encoders:
                rows += embedding_rows(
                    ids[item.path], _frames(item), encoder=encoder, priority=priority
                )
        elif item.header.analysis is Analysis.NOT_ANALYSED:
            uid = item.header.sop_instance_uid
            reason = item.header.reason
            note(tx, item.at, "not analysed", reason, study_id=study_id, uid=uid)
    insert_ignore(tx, embedding, rows)


def _version_row(received: Received, study_id: int) -> dict[str, Any]:
    header, origin = received.header, received.origin
    return {
        "study_id": study_id,
        "sop_instance_uid": header.sop_instance_uid,
        "sha256": received.sha256,
        "current": True,
        "analysis": header.analysis,
        "reason": header.reason,
        "series_uid": header.series_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "patient": header.patient,
        "attributes": header.attributes,
        "modality": header.exam.modality,
        "body_part": header.exam.body_part,
        "view": header.exam.view,
        "exam": exam_json(header.exam),
        "passed_over": json.dumps(header.passed_over),
        "frames": _frames(received),
        "instance_number": _integer_string(header.instance_number),
        "path": received.path,
        "size": received.size,
        "received_at": received.at,
        "door": origin.door,
        "calling_aet": origin.calling_aet,
        "called_aet": origin.called_aet,
        "address": origin.address,
    }


def _frames(received: Received) -> int:
    """Return how many frames there can be: each of them takes a byte at least."""
    return min(received.header.frames, received.size)


def _integer_string(value: int | None) -> int | None:
    """Return the value if it is one that an IS may have (PS3.5 6.2)."""
    return value if value is not None and abs(value) < 1 << 31 else None


def _arrived(
    tx: Connection,
    study_id: int,
    state: State,
    *,
    images: bool,
    at: datetime,
    detail: str = "",
) -> None:
    """Move the study on: its instances changed, or its patients disagree.

    Parameters
    ----------
    images
        Whether what changed concerns what models look at.
    """
    _stamp(tx, study_id, at)
    withdraw(tx, study_id, detail="the study is another patient's now")
    if _patients(tx, study_id) > 1:
        why = "its instances belong to more than one patient"
        drop_jobs(tx, study_id)
        cancel(tx, study_id, detail=why)
        happen(tx, study_id, Event.CONFLICT, detail=why, at=at)
    elif state is State.HELD:
        _wait_anew(tx, study_id, at)
        happen(tx, study_id, Event.AGREED, detail="its instances agree", at=at)
    elif images or state is State.RECEIVING:
        if state not in EMBEDDED_NOW:
            _wait_anew(tx, study_id, at)
        happen(tx, study_id, Event.INSTANCE, detail=detail, at=at)


def _patients(tx: Connection, study_id: int) -> int:
    query = select(func.count(distinct(version.c.patient))).where(
        version.c.study_id == study_id, _EVIDENCE
    )
    return tx.execute(query).scalar_one()


def _stamp(tx: Connection, study_id: int, at: datetime) -> None:
    """Note the time of arrival; what was known of the arrival counts no longer."""
    values: dict[str, Any] = {"last_at": at, "expected": None, "asked": False}
    tx.execute(update(study).where(study.c.id == study_id).values(**values))


def _wait_anew(tx: Connection, study_id: int, at: datetime) -> None:
    """Count the longest wait from now: what came before was concluded."""
    tx.execute(update(study).where(study.c.id == study_id).values(waiting_since=at))


def keep_patient_of(
    tx: Connection, study_uid: StudyUid, uid: SopInstanceUid, *, at: datetime
) -> int:
    """Settle a conflict: only instances of that instance's patient still count.

    Returns
    -------
    int
        How many instances were taken out of the study's evidence.

    Raises
    ------
    UnknownInstanceError
        If the study has no such instance.
    ImpossibleError
        If the study is not held.
    """
    query = (
        select(study.c.id, version.c.patient)
        .join(version, version.c.study_id == study.c.id)
        .where(
            study.c.study_uid == study_uid, version.c.sop_instance_uid == uid, _EVIDENCE
        )
    )
    chosen = tx.execute(locked(query)).first()
    if chosen is None:
        raise UnknownInstanceError(
            f"study {study_uid} has no instance {uid} that counts"
        )
    of_others = (version.c.study_id == chosen.id) & (
        version.c.patient != chosen.patient
    )
    taken_out = tx.execute(
        update(version).where(of_others, _EVIDENCE).values(current=False)
    ).rowcount
    detail = f"a person decided: {taken_out} instances of another patient left out"
    note(tx, at, "conflict settled", detail, study_id=chosen.id, uid=uid)
    happen(tx, chosen.id, Event.AGREED, detail=detail, at=at)
    return taken_out
