"""What a study held when it was concluded, and the jobs that this asks for."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    func,
    insert,
    select,
    update,
)

from dicom_node.domain import (
    ALWAYS_COMPOSED,
    Analysis,
    ObjectKind,
    PackCard,
    Urgency,
)
from dicom_node.ledger import leases
from dicom_node.ledger.eras import first_outcome
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import (
    CANCELLED,
    WAITING,
    artefact,
    delivery,
    embedding,
    job,
    revision,
    revision_input,
    study,
    version,
)

ROUTINE_RANK = len(Urgency)
"""Rank of a job that flags nothing, behind all of `Urgency`."""
UNKNOWN_FINGERPRINT = ""
"""Of a revision that was taken over from its objects (`dicom_node.ledger.rebuilding`)."""


def open_revision(
    tx: Connection,
    study_id: int,
    packs: Sequence[PackCard],
    *,
    objects: Collection[ObjectKind] = ALWAYS_COMPOSED,
    now: datetime,
) -> int:
    """Return the number of the revision to conclude, with a job for each pack.

    It is a new one only where the images, their patient or the copied attributes
    differ from the last, or a pack is another one than it was: another transfer
    syntax alone does not count. Jobs of older revisions that nobody has begun are
    dropped; what packs that did not change have concluded of the same images holds
    for the new revision, too.

    The same instance versions may be concluded a second time, after others came and
    went again: the outcome of these jobs is a higher one, so that their objects are
    not taken for the former ones.

    Parameters
    ----------
    packs
        Those that the site's rules keep from every image get no job.
    objects
        The kinds of object that destinations want; a report is composed anyway: later
        ones refer to it.
    """
    wanted = ",".join(sorted({ObjectKind.REPORT, *objects}))
    images = _images(tx, study_id)
    packs = _looking(packs, images)
    fingerprint = _fingerprint(tx, study_id, images)
    last = _last_revision(tx, study_id)
    unchanged = last is not None and _is_as_it_was(tx, last, fingerprint, images)
    if unchanged and not _are_others(tx, last.id, packs):
        _revive(tx, last.id, packs)
        _add_jobs(tx, last.id, study_id, packs, wanted)
        return int(last.number)
    number = 1 if last is None else last.number + 1
    drop_jobs(tx, study_id)
    values = {
        "study_id": study_id,
        "number": number,
        "fingerprint": fingerprint,
        "inputs": _inputs(images),
        # nobody waited for other packs since the images came
        "last_image_at": now if unchanged else max(i.received_at for i in images),
        "at": now,
    }
    key = tx.execute(
        insert(revision).values(**values).returning(revision.c.id)
    ).scalar_one()
    inputs = [{"revision_id": key, "version_id": i.id} for i in images]
    tx.execute(insert(revision_input), inputs)
    tx.execute(update(study).where(study.c.id == study_id).values(revision=number))
    if unchanged:
        _carry_over(tx, last.id, key, packs)
    _add_jobs(tx, key, study_id, packs, wanted)
    return number


def _is_as_it_was(
    tx: Connection, last: Any, fingerprint: str, images: Sequence[Any]
) -> bool:
    """Return whether the images are those of the last revision.

    The fingerprint of one that was taken over from its objects is not known; the same
    instance versions have the same.
    """
    if last.fingerprint != UNKNOWN_FINGERPRINT:
        return bool(last.fingerprint == fingerprint)
    if last.inputs != _inputs(images):
        return False
    known = update(revision).where(revision.c.id == last.id)
    tx.execute(known.values(fingerprint=fingerprint))
    return True


def _inputs(images: Sequence[Any]) -> str:
    return sha256(repr(sorted(i.id for i in images)).encode()).hexdigest()


def has_images(tx: Connection, study_id: int) -> bool:
    """Return whether any current instance of the study is an image."""
    query = select(version.c.id).where(
        version.c.study_id == study_id,
        version.c.current,
        version.c.analysis == Analysis.IMAGE,
    )
    return tx.execute(query.limit(1)).first() is not None


def has_jobs(tx: Connection, study_id: int) -> bool:
    """Return whether any pack concludes the study's current revision, or has done so."""
    query = (
        select(job.c.id)
        .select_from(job.join(revision).join(study))
        .where(study.c.id == study_id, revision.c.number == study.c.revision)
    )
    return tx.execute(query.limit(1)).first() is not None


def drop_jobs(tx: Connection, study_id: int) -> None:
    """Take the study's unfinished jobs from whoever does them."""
    older = select(revision.c.id).where(revision.c.study_id == study_id)
    tx.execute(
        update(job)
        .where(
            job.c.revision_id.in_(older),
            job.c.state.in_([leases.READY, leases.LEASED]),
        )
        .values(state=leases.DROPPED, detail="dropped before it was done")
    )


def _images(tx: Connection, study_id: int) -> list[Any]:
    query = select(version).where(
        version.c.study_id == study_id,
        version.c.current,
        version.c.analysis == Analysis.IMAGE,
    )
    return list(tx.execute(query).all())


def _looking(packs: Sequence[PackCard], images: Sequence[Any]) -> list[PackCard]:
    """Return the packs that the rules let look at any of the images."""
    kept_from = [set(json.loads(image.passed_over or "[]")) for image in images]
    return [pack for pack in packs if any(pack.name not in out for out in kept_from)]


def _fingerprint(tx: Connection, study_id: int, images: Sequence[Any]) -> str:
    """Digest what the images show and whose they are, not how they are encoded."""
    query = (
        select(
            embedding.c.version_id,
            embedding.c.frame,
            embedding.c.pixels,
            embedding.c.reason,
        )
        .join(version, version.c.id == embedding.c.version_id)
        .where(version.c.study_id == study_id, version.c.current)
    )
    shown: dict[int, set[tuple[int, str]]] = {i.id: set() for i in images}
    unreadable = set()
    for row in tx.execute(query):
        shown[row.version_id].add((row.frame, row.pixels))
        if row.reason or not row.pixels:
            unreadable.add(row.version_id)
    digest = sha256()
    for image in sorted(images, key=lambda i: i.sop_instance_uid):
        known = shown[image.id] and image.id not in unreadable
        picture = repr(sorted(shown[image.id])) if known else image.sha256
        for part in (image.sop_instance_uid, image.patient, image.attributes, picture):
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _last_revision(tx: Connection, study_id: int) -> Any:
    query = (
        select(revision)
        .where(revision.c.study_id == study_id)
        .order_by(revision.c.number.desc())
    )
    return tx.execute(query).first()


def _are_others(tx: Connection, revision_id: int, packs: Sequence[PackCard]) -> bool:
    """Return whether a pack was through with the revision, and is another one now."""
    through = job.c.state.in_([leases.DONE, leases.FAILED])
    query = select(job.c.pack, job.c.device_uid).where(
        job.c.revision_id == revision_id, through
    )
    former = [(row.pack, row.device_uid) for row in tx.execute(query)]
    return any(
        pack.name in {name for name, _ in former}
        and (pack.name, pack.device_uid) not in former
        for pack in packs
    )


def _carry_over(
    tx: Connection, former: int, key: int, packs: Sequence[PackCard]
) -> None:
    """Let what unchanged packs concluded of the same images stand."""
    in_use = job.c.device_uid.in_([pack.device_uid for pack in packs])
    concluded = (job.c.revision_id == former) & (job.c.state == leases.DONE)
    tx.execute(update(job).where(concluded, in_use).values(revision_id=key))


def _revive(tx: Connection, revision_id: int, packs: Sequence[PackCard]) -> None:
    """Take up again what was dropped while the study's instances disagreed."""
    in_use = job.c.device_uid.in_([pack.device_uid for pack in packs])
    dropped = job.c.state == leases.DROPPED
    tx.execute(
        update(job)
        .where(job.c.revision_id == revision_id, dropped, in_use)
        .values(**{**leases.NEW, "token": job.c.token}, dispatched_at=None, detail="")
    )
    mine = (
        select(artefact.c.id)
        .join(job, job.c.id == artefact.c.job_id)
        .where(job.c.revision_id == revision_id, artefact.c.purged_at.is_(None))
    )
    tx.execute(
        update(delivery)
        .where(delivery.c.artefact_id.in_(mine), delivery.c.state == CANCELLED)
        .values(state=WAITING)
    )


def _add_jobs(
    tx: Connection,
    revision_id: int,
    study_id: int,
    packs: Sequence[PackCard],
    objects: str,
) -> None:
    priority = tx.execute(
        select(study.c.priority).where(study.c.id == study_id)
    ).scalar_one()
    outcomes, least = _next_outcomes(tx, revision_id), first_outcome(tx)
    here = select(job.c.device_uid).where(job.c.revision_id == revision_id)
    there = set(tx.execute(here).scalars())
    rows = [
        {
            "revision_id": revision_id,
            "pack": pack.name,
            "device_uid": pack.device_uid,
            "priority": priority,
            "objects": objects,
            "outcome": max(outcomes.get(pack.device_uid, 0), least),
            "detail": "",
            "flag": "",
            "urgency": ROUTINE_RANK,
            "top_finding": "",
            **leases.NEW,
        }
        for pack in packs
        if pack.device_uid not in there
    ]
    insert_ignore(tx, job, rows)


def _next_outcomes(tx: Connection, revision_id: int) -> dict[str, int]:
    """Return how often each device was to conclude the same versions before."""
    this, former = revision.alias(), revision.alias()
    query = (
        select(job.c.device_uid, func.max(job.c.outcome) + 1)
        .join(former, former.c.id == job.c.revision_id)
        .join(
            this,
            and_(
                this.c.study_id == former.c.study_id,
                this.c.inputs == former.c.inputs,
                this.c.number > former.c.number,
            ),
        )
        .where(this.c.id == revision_id)
        .group_by(job.c.device_uid)
    )
    return {row[0]: row[1] for row in tx.execute(query)}
