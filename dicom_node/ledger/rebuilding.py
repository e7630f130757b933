"""Former results put back into a ledger that lost them, from the objects that are left.

A study that is concluded again of the same instances would give objects of the same UIDs
and other bytes. So the former objects become rows again: the node finds that nothing has
changed, composes nothing, and sends again what it has. A UID keeps its one content.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from dicom_node.domain import (
    ALWAYS_COMPOSED,
    ObjectKind,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.ledger.leases import DONE
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.rejections import reject
from dicom_node.ledger.results import StoredObject
from dicom_node.ledger.revisions import ROUTINE_RANK, UNKNOWN_FINGERPRINT
from dicom_node.ledger.sql import insert_ignore
from dicom_node.ledger.tables import (
    DELIVERED,
    WAITING,
    artefact,
    delivery,
    job,
    revision,
    revision_input,
    study,
    version,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerResult:
    """A result, as far as its objects say.

    Parameters
    ----------
    images
        Every instance of its revision.
    shown
        What the list of studies shows of it: columns of ``job``.
    rejects
        What each rejection note among the objects takes back, by UIDs.
    """

    study_uid: StudyUid
    revision: int
    pack: str
    device_uid: str
    concluded_at: datetime
    images: tuple[SopInstanceUid, ...]
    objects: tuple[StoredObject, ...]
    shown: dict[str, Any] = field(default_factory=dict)
    rejects: dict[SopInstanceUid, tuple[SopInstanceUid, ...]] = field(
        default_factory=dict
    )


def has_studies(tx: Connection) -> bool:
    """Return whether the ledger knows any study."""
    return tx.execute(select(study.c.id).limit(1)).first() is not None


def adopt(
    tx: Connection,
    former: Iterable[FormerResult],
    addresses: Sequence[Address],
    *,
    now: datetime,
) -> list[FormerResult]:
    """Return the results that could not be put back, because instances are missing.

    Parameters
    ----------
    former
        Of studies that the ledger has taken in again.
    addresses
        Who is sent again what is current: the same bytes, so that who has them keeps
        them, and who has not gets them.
    """
    by_study: dict[StudyUid, list[FormerResult]] = {}
    for one in former:
        by_study.setdefault(one.study_uid, []).append(one)
    left: list[FormerResult] = []
    for uid, results in sorted(by_study.items()):
        results.sort(key=lambda one: (one.revision, one.concluded_at))
        query = select(study.c.id, study.c.priority).where(study.c.study_uid == uid)
        row = tx.execute(query).first()
        if row is None:
            left += results
        else:
            left += _Study(tx, row, addresses, now).adopt(results)
    return left


class _Study:
    """One study's former results on their way into the ledger."""

    def __init__(
        self,
        tx: Connection,
        row: Any,
        addresses: Sequence[Address],
        now: datetime,
    ) -> None:
        self._tx = tx
        self._now = now
        self._addresses = addresses
        self._row = row
        self._versions = self._read_versions()
        self._revisions: dict[int, int] = {}
        self._outcomes: Counter[tuple[str, str]] = Counter()

    def adopt(self, results: Sequence[FormerResult]) -> list[FormerResult]:
        """Return what could not be put back."""
        left = []
        for one in results:
            keys = self._inputs(one)
            if keys is None:
                left.append(one)
            else:
                self._adopt(one, keys)
        if self._revisions:
            self._carry_over()
            self._address()
        return left

    def _read_versions(self) -> list[Any]:
        query = select(version).where(version.c.study_id == self._row.id)
        return list(self._tx.execute(query.order_by(version.c.received_at)).all())

    def _inputs(self, one: FormerResult) -> list[int] | None:
        """Return the versions that counted then; None where one is not there."""
        then: dict[str, int] = {}
        for row in self._versions:
            if row.received_at <= one.concluded_at or row.sop_instance_uid not in then:
                then[row.sop_instance_uid] = row.id
        if not one.images or not set(one.images) <= then.keys():
            return None
        return sorted(then[uid] for uid in one.images)

    def _adopt(self, one: FormerResult, keys: Sequence[int]) -> None:
        inputs = sha256(repr(list(keys)).encode()).hexdigest()
        values = {
            "revision_id": self._revision(one, keys, inputs),
            "pack": one.pack,
            "device_uid": one.device_uid,
            "priority": self._row.priority,
            "outcome": self._outcomes[one.device_uid, inputs],
            "objects": ",".join(sorted({*ALWAYS_COMPOSED, *_kinds(one.objects)})),
            "state": DONE,
            "token": 0,
            "attempts": 1,
            "detail": "taken over from the outbox",
            "flag": "",
            "urgency": ROUTINE_RANK,
            "top_finding": "",
            "finished_at": one.concluded_at,
            **one.shown,
        }
        self._outcomes[one.device_uid, inputs] += 1
        made = insert(job).values(**values).returning(job.c.id)
        key = self._tx.execute(made).scalar_one()
        names = ("kind", "series_uid", "sop_class_uid", "sop_instance_uid")
        rows = [
            {name: getattr(o, name) for name in (*names, "sha256", "path", "size")}
            | {"job_id": key}
            for o in one.objects
        ]
        insert_ignore(self._tx, artefact, rows)
        for note, rejected in one.rejects.items():
            found = select(artefact.c.id).where(
                artefact.c.sop_instance_uid.in_(rejected)
            )
            reject(self._tx, note, self._tx.execute(found).scalars().all())

    def _revision(self, one: FormerResult, keys: Sequence[int], inputs: str) -> int:
        if one.revision in self._revisions:
            return self._revisions[one.revision]
        received = [row.received_at for row in self._versions if row.id in keys]
        values = {
            "study_id": self._row.id,
            "number": one.revision,
            "fingerprint": UNKNOWN_FINGERPRINT,
            "inputs": inputs,
            "last_image_at": max(received),
            "at": one.concluded_at,
        }
        made = insert(revision).values(**values).returning(revision.c.id)
        key = int(self._tx.execute(made).scalar_one())
        rows = [{"revision_id": key, "version_id": version_id} for version_id in keys]
        self._tx.execute(insert(revision_input), rows)
        self._revisions[one.revision] = key
        mine = update(study).where(study.c.id == self._row.id)
        self._tx.execute(mine.values(revision=max(self._revisions)))
        return key

    def _carry_over(self) -> None:
        """Let what a pack last concluded of the same instances stand for the last revision."""
        last = self._revisions[max(self._revisions)]
        same = select(revision.c.inputs).where(revision.c.id == last).scalar_subquery()
        here = select(job.c.pack).where(job.c.revision_id == last)
        newest = (
            select(func.max(job.c.id))
            .join(revision, revision.c.id == job.c.revision_id)
            .where(
                revision.c.study_id == self._row.id,
                revision.c.inputs == same,
                job.c.pack.not_in(here),
            )
            .group_by(job.c.pack)
        )
        keys = self._tx.execute(newest).scalars().all()
        moved = update(job).where(job.c.id.in_(keys))
        self._tx.execute(moved.values(revision_id=last))

    def _address(self) -> None:
        """Send again what is current; what was superseded counts as delivered."""
        last = self._revisions[max(self._revisions)]
        query = (
            select(artefact.c.id, artefact.c.kind, job.c.revision_id, job.c.finished_at)
            .join(job, job.c.id == artefact.c.job_id)
            .join(revision, revision.c.id == job.c.revision_id)
            .where(revision.c.study_id == self._row.id)
        )
        rows = [
            {
                "artefact_id": row.id,
                "destination": to.destination,
                "state": WAITING if row.revision_id == last else DELIVERED,
                "attempts": 1,
                "next_at": self._now,
                "detail": "taken over from the outbox",
                "delivered_at": None if row.revision_id == last else row.finished_at,
            }
            for row in self._tx.execute(query).all()
            for to in self._addresses
            if row.kind in to.objects
        ]
        insert_ignore(self._tx, delivery, rows)


def _kinds(objects: Sequence[StoredObject]) -> Collection[ObjectKind]:
    return {one.kind for one in objects if one.kind is not ObjectKind.REJECTION}
