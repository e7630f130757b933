"""Concluded studies, each with a report and a page, in a data folder that no node runs on.

What a worker and a node would have left there: instances in the ledger, embedded and
concluded, the objects composed and kept in the outbox. Only the pixels are made up,
and shared by all. From there on the node does everything itself.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.domain import (
    Algorithm,
    EncodedObject,
    FrameScore,
    ImageRef,
    ObjectKind,
    Received,
    Result,
)
from dicom_node.domain.identity import patient_digest
from dicom_node.ledger import Ledger, arrivals, leases, motion, results, revisions
from dicom_node.ledger.leases import JOBS
from dicom_node.ledger.results import StoredObject
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import job, revision, study
from dicom_node.lifecycle import Event
from dicom_node.objects import ObjectStore
from sr_writer.compose import compose
from sr_writer.montage import Picture
from tests import builders
from tests.arrivals import received, study_uid
from tests.ledgers import LEASE_S, embed
from workers.pack import Pack, locate, open_pack

KINDS = (ObjectKind.REPORT, ObjectKind.CAPTURE)
NAMES = ("Doe^Jane", "Müller^Jörg", "Yamada^Tarou=山田^太郎")


def pack() -> Pack:
    """Return the pack that the results are of: the one that a node has by default."""
    return open_pack(locate("phantoms"))


def concluded(
    ledger: Ledger,
    outbox: Path,
    *,
    count: int,
    now: datetime,
    executor: Executor | None = None,
) -> Iterator[int]:
    """Yield the number of each study once it is concluded, its objects kept.

    Parameters
    ----------
    outbox
        The outbox's folder.
    executor
        Processes that compose; without it, this one does.
    """
    own = pack()
    numbers = range(1, count + 1)
    jobs = _jobs(ledger, [_arrival(n, now) for n in numbers], own, now)
    write = partial(_composed, outbox, own.algorithm, now)
    done = executor.map(write, numbers) if executor else map(write, numbers)
    for number, (result, objects) in zip(numbers, done, strict=True):
        with ledger.write() as tx:
            key = jobs[result.study_uid]
            lease = leases.claim(tx, JOBS, key, now=now, lease_s=LEASE_S)
            assert lease is not None
            assert results.settle_job(tx, lease, result, objects, now=now)
        yield number


def _jobs(
    ledger: Ledger, instances: Sequence[Received], own: Pack, now: datetime
) -> dict[str, int]:
    """Take the instances up to a job for each study; return the jobs by study."""
    with ledger.write() as tx:
        arrivals.record(tx, instances, encoders=[own.encoder_key.digest])
    embed(ledger, now=now)
    with ledger.write() as tx:
        for one in motion.arriving(tx):
            happen(tx, one.key, Event.COMPLETE, detail="prepared", at=now)
            number = revisions.open_revision(tx, one.key, [own.card], now=now)
            happen(tx, one.key, Event.EMBEDDED, detail=f"revision {number}", at=now)
        query = select(study.c.study_uid, job.c.id).select_from(
            study.join(revision).join(job)
        )
        return {row.study_uid: row.id for row in tx.execute(query)}


def _arrival(number: int, now: datetime) -> Received:
    patient = patient_digest(_patient_id(number), builders.ISSUER)
    return received(number, at=now, patient=patient)


def _composed(
    outbox: Path, algorithm: Algorithm, now: datetime, number: int
) -> tuple[Result, tuple[StoredObject, ...]]:
    """Return a study's result, and its objects as they lie in the outbox."""
    image = _image(number, now)
    result = _result(number, image, algorithm, now)
    picture = Picture(pixels=_pixels(), image=image, label=f"study {number}")
    objects = compose(result, [_header(number, image)], [picture], kinds=KINDS)
    store = ObjectStore(outbox)
    return result, tuple(_kept(one, store) for one in objects)


def _image(number: int, now: datetime) -> ImageRef:
    arrival = _arrival(number, now)
    return ImageRef(
        series_uid=arrival.header.series_uid,
        sop_class_uid=arrival.header.sop_class_uid,
        sop_instance_uid=arrival.header.sop_instance_uid,
        sha256=arrival.sha256,
    )


def _result(
    number: int, image: ImageRef, algorithm: Algorithm, now: datetime
) -> Result:
    arrival = _arrival(number, now)
    score = number * 0.137 % 1
    evidence = (FrameScore(image=image, frame=0, score=score),)
    return builders.result(
        [builders.finding(score, evidence=evidence)],
        study_uid=arrival.header.study_uid,
        patient=arrival.header.patient,
        attributes=arrival.header.attributes,
        images=(image,),
        algorithm=algorithm,
        concluded_at=now.replace(microsecond=0),
    )


def _header(number: int, image: ImageRef) -> Dataset:
    return builders.source_header(
        image,
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=study_uid(number),
        PatientName=NAMES[number % len(NAMES)],
        PatientID=_patient_id(number),
        AccessionNumber=f"ACC-{number:05}",
    )


def _patient_id(number: int) -> str:
    return f"STORM-{number:05}"


def _pixels() -> NDArray[np.uint8]:
    """Return what every page shows: grey levels that rise, (H, W) uint8."""
    return np.add.outer(np.arange(480), np.arange(480)).astype(np.uint8)


def _kept(encoded: EncodedObject, store: ObjectStore) -> StoredObject:
    return StoredObject(
        kind=encoded.kind,
        series_uid=encoded.series_uid,
        sop_class_uid=encoded.sop_class_uid,
        sop_instance_uid=encoded.sop_instance_uid,
        sha256=encoded.sha256,
        path=store.keep(encoded),
        size=len(encoded.content),
    )
