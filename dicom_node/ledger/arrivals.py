"""Record what came in. One transaction takes many instances (group commit)."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
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
from dicom_node.ledger.events import note
from dicom_node.ledger.outbox import cancel
from dicom_node.ledger.results import drop_jobs
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import embedding, study, version
from dicom_node.lifecycle import Event, State


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


def known(tx: Connection, path: str) -> bool:
    """Return whether the spooled file at `path` is in the ledger."""
    found = tx.execute(select(version.c.id).where(version.c.path == path))
    return found.first() is not None


def add_encoder(tx: Connection, encoder: Sha256) -> None:
    """Let a new encoder embed the current images of studies not yet concluded."""
    waiting = (
        select(version.c.id, version.c.frames)
        .join(study)
        .where(
            version.c.current,
            version.c.analysis == Analysis.IMAGE,
            study.c.state.in_([State.RECEIVING, State.EMBEDDING]),
        )
    )
    for row in tx.execute(waiting).all():
        _await_embedding(tx, row.id, row.frames, [encoder])


def _groups(received: Iterable[Received]) -> Iterator[list[Received]]:
    """Yield runs of one study in which no SOP Instance UID comes twice."""
    for _, run in groupby(received, key=lambda r: r.header.study_uid):
        group: list[Received] = []
        seen: set[SopInstanceUid] = set()
        for item in run:
            if item.header.sop_instance_uid in seen:
                yield group
                group, seen = [], set()
            group.append(item)
            seen.add(item.header.sop_instance_uid)
        yield group


def _record_study(
    tx: Connection, group: list[Received], encoders: Sequence[Sha256]
) -> None:
    row = _study_for_update(tx, group[0])
    former = _former_versions(tx, group)
    changed = [r for r in group if not _is_current(r, former)]
    if not changed:
        return
    _supersede(tx, changed, former, row.id)
    fresh = [r for r in changed if _same(r, former) is None]
    _insert_versions(tx, fresh, row.id, encoders)
    if any(r.header.analysis is not Analysis.OWN for r in changed):
        _arrived(tx, row, changed)


def _study_for_update(tx: Connection, first: Received) -> Row[Any]:
    insert_ignore(tx, study, [_new_study(first)])
    query = (
        select(study)
        .where(study.c.study_uid == first.header.study_uid)
        .with_for_update()
    )
    return tx.execute(query).one()


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
    ).where(version.c.sop_instance_uid.in_(uids))
    return tx.execute(query).all()


def _same(received: Received, former: Sequence[Any]) -> Any:
    uid, digest = received.header.sop_instance_uid, received.sha256
    same = (f for f in former if (f.sop_instance_uid, f.sha256) == (uid, digest))
    return next(same, None)


def _is_current(received: Received, former: Sequence[Any]) -> bool:
    same = _same(received, former)
    return same is not None and bool(same.current)


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
    for left in {f.study_id for f in outdated} - {study_id}:
        detail = "an instance came again in another study"
        _stamp(tx, left, at)
        happen(tx, left, Event.INSTANCE, detail=detail, at=at)


def _insert_versions(
    tx: Connection, fresh: list[Received], study_id: int, encoders: Sequence[Sha256]
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
            rows += _embedding_rows(ids[item.path], item.header.frames, encoders)
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
        "modality": header.modality,
        "body_part": header.body_part,
        "view": header.view,
        "frames": header.frames,
        "instance_number": header.instance_number,
        "path": received.path,
        "size": received.size,
        "received_at": received.at,
        "door": origin.door,
        "calling_aet": origin.calling_aet,
        "called_aet": origin.called_aet,
        "address": origin.address,
    }


def _await_embedding(
    tx: Connection, version_id: int, frames: int, encoders: Sequence[Sha256]
) -> None:
    insert_ignore(tx, embedding, _embedding_rows(version_id, frames, encoders))


def _embedding_rows(
    version_id: int, frames: int, encoders: Sequence[Sha256]
) -> list[dict[str, Any]]:
    return [
        {
            "version_id": version_id,
            "frame": frame,
            "encoder": encoder,
            "state": "pending",
            "pixels": "",
            "reason": "",
        }
        for encoder in encoders
        for frame in range(frames)
    ]


def _arrived(tx: Connection, row: Row[Any], changed: list[Received]) -> None:
    """Move the study on: it received something, or its patients disagree."""
    ours = [r for r in changed if r.header.analysis is not Analysis.OWN]
    at = max(r.at for r in ours)
    urgency = min(r.header.priority for r in ours)
    if urgency < row.priority:
        tx.execute(update(study).where(study.c.id == row.id).values(priority=urgency))
    _stamp(tx, row.id, at)
    images = any(r.header.analysis is Analysis.IMAGE for r in ours)
    if _patients(tx, row.id) > 1:
        detail = "its instances belong to more than one patient"
        drop_jobs(tx, row.id)
        cancel(tx, row.id, detail=detail)
        happen(tx, row.id, Event.CONFLICT, detail=detail, at=at)
    elif row.state == State.HELD:
        happen(tx, row.id, Event.AGREED, detail="its instances agree", at=at)
    elif images or row.state == State.RECEIVING:
        happen(tx, row.id, Event.INSTANCE, detail="", at=at)


def _patients(tx: Connection, study_id: int) -> int:
    query = select(func.count(distinct(version.c.patient))).where(
        version.c.study_id == study_id,
        version.c.current,
        version.c.analysis != Analysis.OWN,
    )
    return tx.execute(query).scalar_one()


def _stamp(tx: Connection, study_id: int, at: datetime) -> None:
    """Note the time of arrival; a study that was settled begins to wait anew."""
    settled = (State.RECEIVING, State.HELD)
    values: dict[str, Any] = {"last_at": at, "expected": None, "asked": False}
    tx.execute(update(study).where(study.c.id == study_id).values(**values))
    again = update(study).where(study.c.id == study_id, study.c.state.not_in(settled))
    tx.execute(again.values(waiting_since=at))


def keep_patient_of(
    tx: Connection, study_uid: StudyUid, uid: SopInstanceUid, *, at: datetime
) -> int:
    """Settle a conflict: only instances of that instance's patient still count.

    Returns
    -------
    int
        How many instances were taken out of the study's evidence.
    """
    row = tx.execute(
        select(study).where(study.c.study_uid == study_uid).with_for_update()
    ).one()
    of_study = (version.c.study_id == row.id) & version.c.current
    chosen = tx.execute(
        select(version.c.patient).where(of_study, version.c.sop_instance_uid == uid)
    ).scalar_one()
    taken_out = tx.execute(
        update(version)
        .where(of_study, version.c.patient != chosen)
        .values(current=False)
    ).rowcount
    detail = f"a person decided: {taken_out} instances of another patient left out"
    note(tx, at, "conflict settled", detail, study_id=row.id, uid=uid)
    happen(tx, row.id, Event.AGREED, detail=detail, at=at)
    return taken_out
