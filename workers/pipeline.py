"""From pixels to a report: the worker's story, in a page.

::

    embed_batch      frames of many studies ─► decode, preprocess ─► embed ─► ledger
    conclude_study   embeddings of one study ─► classify ─► Result ─► compose ─► outbox

Both begin with a lease from the ledger and end with one transaction that the lease
allows. A second run finds nothing to do; a run that dies is repeated by another worker
and makes the same objects, because their UIDs derive from what they describe.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.dispatch import HARD_LIMIT_S
from dicom_node.domain import (
    AtlasSearch,
    AtlasSearched,
    Code,
    EmbeddedFrame,
    EncodedObject,
    FrameTask,
    Lease,
    Result,
    Sha256,
    Unreadable,
)
from dicom_node.errors import Permanent, Transient
from dicom_node.ledger import Ledger, results, work
from dicom_node.ledger.leases import BATCHES, JOBS, WorkTable
from dicom_node.ledger.results import JobInput, StoredEmbedding, StoredObject
from dicom_node.objects import ObjectStore
from sr_writer.codes import PROCESSING_EQUIPMENT
from sr_writer.compose import compose
from workers.classify import Conclusion, conclude
from workers.decoding import DecodedInput, DecodePool, Failure, FrameInput
from workers.encoder import Encoder
from workers.evidence import pictures, sources
from workers.geometry import NOWHERE, Geometry, geometry_from_json
from workers.heads import Heads, Labels
from workers.holding import hold
from workers.pack import Pack
from workers.similar import Atlas, similar_cases
from workers.study import EmbeddedImage, Gate, image_ref
from workers.volumes import Volume, slice_of, volumes
from workers.withdrawal import Note, not_taken_back, notes

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipped:
    """A pack with all that it needs to conclude: its encoder and its heads.

    Parameters
    ----------
    gate, atlas
        None where the pack names none.
    """

    pack: Pack
    encoder: Encoder
    heads: Heads
    labels: Labels
    gate: Gate | None = None
    atlas: Atlas | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a worker has at hand.

    Parameters
    ----------
    spool
        The folder that the paths of received files are relative to.
    packs
        By Device UID.
    reject_superseded
        Whether a report that a newer one supersedes is rejected, too.
    report_outside_scope
        Whether studies are reported on of which a pack accepts no image.
    utc_offset_min
        The site's offset from UTC, in minutes.
    software
        pacsight's version.
    title, purpose
        What reports are called, and as what their pack is named in them.
    note
        Takes what the audit trail is told.
    """

    ledger: Ledger
    spool: Path
    objects: ObjectStore
    packs: Mapping[str, Equipped]
    decoders: DecodePool
    site: str
    title: Code
    reject_superseded: bool
    report_outside_scope: bool
    utc_offset_min: int
    lease_s: float
    clock: Callable[[], datetime]
    software: str
    purpose: Code = PROCESSING_EQUIPMENT
    note: Callable[[AtlasSearched], None] = lambda _: None

    def encoder(self, key: Sha256) -> Encoder | None:
        """Return the encoder with that key's digest, or None."""
        held = self.packs.values()
        fitting = (e.encoder for e in held if e.pack.encoder_key.digest == key)
        return next(fitting, None)

    def hold(self, table: WorkTable, key: int) -> AbstractContextManager[Lease | None]:
        """Lease a piece of work for as long as the block lasts."""
        return hold(
            self.ledger,
            table,
            key,
            clock=self.clock,
            lease_s=self.lease_s,
            limit_s=HARD_LIMIT_S,
        )


# ── frames ──────────────────────────────────────────────────────────────────


def embed_batch(batch_id: int, bench: Bench) -> None:
    """Embed the frames of a batch, and store what became of each in the ledger."""
    with bench.ledger.read() as tx:
        key = work.batch_encoder(tx, batch_id)
    if key is None:
        return
    encoder = bench.encoder(key)
    if encoder is None:
        raise Permanent(f"this worker has no pack with the encoder {key[:12]}")
    with bench.hold(BATCHES, batch_id) as lease:
        if lease is None:
            return
        with bench.ledger.read() as tx:
            tasks = work.batch_tasks(tx, batch_id)
        frames = embed(tasks, encoder, bench)
        with bench.ledger.write() as tx:
            work.settle_batch(tx, lease, frames, now=bench.clock())


def embed(
    tasks: Sequence[FrameTask], encoder: Encoder, bench: Bench
) -> list[EmbeddedFrame]:
    """Return a vector for each frame, or the reason why it cannot be read.

    Raises
    ------
    Transient
        If a frame may be readable another time.
    """
    decoded = bench.decoders.map(
        [FrameInput(path=bench.spool / t.path, frame=t.frame) for t in tasks],
        encoder.preprocessing,
    )
    images = [d.image for d in decoded if isinstance(d, DecodedInput)]
    vectors = iter(encoder.embed_images(np.stack(images)) if images else ())
    frames = []
    for task, outcome in zip(tasks, decoded, strict=True):
        if isinstance(outcome, Failure):
            frames.append(_unreadable(task, outcome))
        else:
            frames.append(_embedded(task, outcome, next(vectors)))
    return frames


def _unreadable(task: FrameTask, failure: Failure) -> EmbeddedFrame:
    if failure.transient:
        raise Transient(failure.reason)
    return EmbeddedFrame(
        embedding=task.embedding,
        vector=b"",
        reason=failure.reason,
        fatal=failure.fatal,
    )


def _embedded(
    task: FrameTask, decoded: DecodedInput, vector: NDArray[np.float32]
) -> EmbeddedFrame:
    return EmbeddedFrame(
        embedding=task.embedding,
        vector=vector.astype("<f4").tobytes(),
        pixels=decoded.digest,
        geometry=decoded.geometry.to_json(),
    )


# ── studies ─────────────────────────────────────────────────────────────────


def conclude_study(job_id: int, bench: Bench) -> None:
    """Conclude one revision of a study with one pack, and put its report in the outbox."""
    with bench.ledger.read() as tx:
        device_uid = results.job_device(tx, job_id)
    if device_uid is None:
        return
    equipped = bench.packs.get(device_uid)
    if equipped is None:
        raise Permanent(f"this worker has no pack with the Device UID {device_uid}")
    with bench.hold(JOBS, job_id) as lease:
        if lease is None:
            return
        try:
            _conclude(lease, equipped, bench)
        except Permanent as error:
            with bench.ledger.write() as tx:
                results.fail_job(tx, lease, detail=str(error), now=bench.clock())
            raise


def _conclude(lease: Lease, equipped: Equipped, bench: Bench) -> None:
    encoder = equipped.pack.encoder_key.digest
    with bench.ledger.read() as tx:
        job = results.job_input(tx, lease.work, encoder=encoder)
    result = classify(job, equipped, bench)
    if (found := result.cases) is not None:
        atlas, pack = f"{found.atlas} {found.version}", equipped.pack.name
        bench.note(AtlasSearched(atlas=atlas, pack=pack, study_uid=job.study_uid))
    stored = list(_objects(result, job, bench))
    with bench.ledger.write() as tx:
        settled = results.settle_job(tx, lease, result, stored, now=bench.clock())
        purged = not_taken_back(result, job.former, superseded=bench.reject_superseded)
        if settled and purged:
            results.note_purged(tx, lease.work, purged, now=bench.clock())
    if settled:
        log.info("study_concluded", study_uid=job.study_uid, revision=job.revision)
    else:
        _drop_forgotten(lease.work, stored, bench)


def _drop_forgotten(job: int, stored: Sequence[StoredObject], bench: Bench) -> None:
    """Delete what was composed of a study that was forgotten meanwhile.

    Where only the lease was lost, the same bytes may be another worker's by now.
    """
    with bench.ledger.read() as tx:
        if results.job_device(tx, job) is not None:
            return
    for one in stored:
        bench.objects.drop(one.path)


def _objects(result: Result, job: JobInput, bench: Bench) -> Iterator[StoredObject]:
    """Yield what is put in the outbox.

    Nothing, where the pack was not made for such studies, the site wants no report on
    those, and there is no former one to replace.
    """
    if result.outside_scope and not (bench.report_outside_scope or job.former):
        return
    yield from (_keep(one, bench.objects) for one in write(result, job, bench))
    for note, rejected in take_back(result, job, bench):
        yield _keep(note, bench.objects, rejects=rejected)


def classify(job: JobInput, equipped: Equipped, bench: Bench) -> Result:
    """Return what the pack says of a study's embeddings: scores, flags, evidence."""
    files = {f.version: f for f in job.files}
    policy = equipped.pack.preprocessing
    unreadable = tuple(
        Unreadable(image=image_ref(files[e.version]), frame=e.frame, reason=e.reason)
        for e in job.embeddings
        if e.reason and policy.uses(e.frame)
    )
    conclusion = conclude(
        equipped.pack,
        equipped.heads,
        images=job.files,
        frames=[
            EmbeddedImage(
                source=files[e.version],
                frame=e.frame,
                vector=_vector(e),
                geometry=_geometry(e),
            )
            for e in job.embeddings
            if e.vector
        ],
        unreadable=unreadable,
        labels=equipped.labels,
        gate=equipped.gate,
    )
    return replace(
        _result(job, equipped.pack, conclusion, unreadable, bench),
        cases=_cases(job, equipped, conclusion),
    )


def _cases(
    job: JobInput, equipped: Equipped, conclusion: Conclusion
) -> AtlasSearch | None:
    """Return the atlas cases that the study resembles, where something was evaluated."""
    spec = equipped.pack.manifest.atlas
    if equipped.atlas is None or spec is None or conclusion.seen.why_not:
        return None
    return similar_cases(
        equipped.atlas,
        conclusion.seen.runs,
        spec.k,
        study=job.study_uid,
        patient=job.patient,
    )


def study_volumes(job: JobInput) -> tuple[Volume, ...]:
    """Return how the readable frames of a study lie in the patient."""
    files = {f.version: f for f in job.files}
    return volumes(
        slice_of(files[e.version], e.frame, _geometry(e))
        for e in job.embeddings
        if not e.reason
    )


def write(result: Result, job: JobInput, bench: Bench) -> tuple[EncodedObject, ...]:
    """Return the result's DICOM objects: the report, and a page with the evidence."""
    series = study_volumes(job)
    shown = pictures(result, job.files, series, bench.spool, bench.decoders)
    headers = sources(result, job.files, series, bench.spool)
    return compose(
        result,
        headers,
        shown,
        kinds=job.objects,
        title=bench.title,
        purpose=bench.purpose,
    )


def take_back(result: Result, job: JobInput, bench: Bench) -> Iterator[Note]:
    """Yield the notes that withdraw what no longer counts of former results."""
    yield from notes(
        result,
        job.former,
        outbox=bench.objects,
        superseded=bench.reject_superseded,
        title=bench.title,
        purpose=bench.purpose,
    )


def _result(
    job: JobInput,
    pack: Pack,
    conclusion: Conclusion,
    unreadable: tuple[Unreadable, ...],
    bench: Bench,
) -> Result:
    return Result(
        site=bench.site,
        study_uid=job.study_uid,
        patient=job.patient,
        attributes=job.attributes,
        revision=job.revision,
        outcome=job.outcome,
        images=tuple(image_ref(f) for f in job.files),
        algorithm=pack.algorithm,
        findings=conclusion.findings,
        shadow=conclusion.shadow,
        categories=conclusion.categories,
        estimates=conclusion.estimates,
        completion=conclusion.completion,
        unreadable=unreadable,
        predecessors=job.predecessors,
        reason=conclusion.reason,
        outside_scope=conclusion.outside_scope,
        concluded_at=bench.clock().replace(microsecond=0),
        utc_offset_min=bench.utc_offset_min,
        software=bench.software,
    )


def _vector(stored: StoredEmbedding) -> NDArray[np.float32]:
    return np.frombuffer(stored.vector, dtype="<f4").astype(np.float32)


def _geometry(stored: StoredEmbedding) -> Geometry:
    return geometry_from_json(stored.geometry) if stored.geometry else NOWHERE


def _keep(
    encoded: EncodedObject, objects: ObjectStore, *, rejects: tuple[int, ...] = ()
) -> StoredObject:
    return StoredObject(
        kind=encoded.kind,
        series_uid=encoded.series_uid,
        sop_class_uid=encoded.sop_class_uid,
        sop_instance_uid=encoded.sop_instance_uid,
        sha256=encoded.sha256,
        path=objects.keep(encoded),
        size=len(encoded.content),
        rejects=rejects,
    )
