"""How long a result takes to become objects, in what memory, and how large they are.

A CT of 300 slices of 512 x 512, six of them shown, all 300 listed as evidence. Composing
alone is pure computing; what a worker does besides is measured apart: it reads the
headers and lets decode processes make the pictures. Medians of rounds that take turns,
wall time and this process's own time. Memory: the highest that a process of its own reaches while it composes, less
what it had before, everything imported and nothing composed yet.

``python tests/benchmarks/compose.py [--rounds N]``
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.domain import (
    ALWAYS_COMPOSED,
    Exam,
    FrameScore,
    InputFile,
    ObjectKind,
    Result,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.domain.identity import patient_digest
from dicom_node.ledger import open_ledger
from dicom_node.ledger.results import JobInput, StoredEmbedding
from dicom_node.objects import ObjectStore
from sr_writer.codes import FINDINGS_REPORT
from sr_writer.compose import compose
from sr_writer.page import Picture
from tests.builders import BRAIN, HEMORRHAGE, STUDY_UID, digest, finding, result
from tests.composed import COMPOSED
from tests.images import image, save
from workers.decode import read_header
from workers.decoding import DecodePool
from workers.evidence import pictures, sources
from workers.geometry import geometry_of
from workers.pipeline import Bench, study_volumes, write
from workers.study import image_ref

SLICES = 300
SHOWN = 6
ROUNDS = 15
PATIENT = ("PAT-0001", "Hospital")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The study in the spool, and what was concluded about it."""

    bench: Bench
    job: JobInput
    result: Result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--memory", choices=["plain", "all"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, study(Path(folder)) as about:
        if chosen.memory:
            kinds = COMPOSED if chosen.memory == "all" else PLAIN
            print(peak_mb(partial(_compose_it, about, kinds)))
            return
        report_times(about, chosen.rounds)
    for name, which in (("report and capture", "plain"), ("all four kinds", "all")):
        above = _in_a_process_of_its_own(which)
        wanted = "below 100" if which == "plain" else ""
        print(f"{f'memory, {name}':<40}{above:>10.1f} MB  {wanted}")


PLAIN = (ObjectKind.REPORT, ObjectKind.CAPTURE)


def report_times(about: Study, rounds: int) -> None:
    """Print how long each part takes, and how large the objects are."""
    headers, shown = _headers(about), _pictures(about)
    composing = partial(compose, about.result, headers, shown)
    took = in_turns(
        {
            "report and capture": partial(composing, kinds=PLAIN),
            "report": partial(composing, kinds=[ObjectKind.REPORT]),
            "capture": partial(composing, kinds=[ObjectKind.CAPTURE]),
            "key objects": partial(composing, kinds=[ObjectKind.KEY_OBJECTS]),
            "PDF": partial(composing, kinds=[ObjectKind.DOCUMENT]),
            "headers read": partial(_headers, about),
            "pictures made": partial(_pictures, about),
            "slices put in order": partial(study_volumes, about.job),
            "all that a worker does": partial(
                write, about.result, about.job, about.bench
            ),
        },
        rounds,
    )
    print(f"{'':<40}{'wall ms':>10}{'own ms':>10}")
    for name, (wall, own) in took.items():
        wanted = "below 150" if name == "report and capture" else ""
        print(f"{name:<40}{1000 * wall:>10.1f}{1000 * own:>10.1f}  {wanted}")
    for obj in composing(kinds=COMPOSED):
        wanted = "below 60" if obj.kind is ObjectKind.REPORT else ""
        print(f"{f'size: {obj.kind}':<40}{len(obj.content) / 1000:>10.1f} kB  {wanted}")


@contextmanager
def study(folder: Path) -> Iterator[Study]:
    """Yield a head CT in a spool, with a finding that six of its slices raise."""
    files = tuple(_slice(folder, number) for number in range(1, SLICES + 1))
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=True)
    with DecodePool(processes=2, memory_bytes=2 << 30, timeout_s=30) as decoders:
        yield Study(
            bench=Bench(
                ledger=ledger,
                spool=folder,
                objects=ObjectStore(folder / "outbox"),
                packs={},
                decoders=decoders,
                site="bench",
                title=FINDINGS_REPORT,
                reject_superseded=False,
                report_outside_scope=True,
                utc_offset_min=0,
                lease_s=60,
                clock=lambda: datetime.now(UTC),
                software="0.1.0",
            ),
            job=_job(folder, files),
            result=_result(files),
        )
    ledger.close()


def _slice(folder: Path, number: int) -> InputFile:
    """Write a slice of a round object in noise."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where(x**2 + y**2 < 0.6, 1060, 24) + rng.normal(0, 12, (512, 512))
    uid = f"{STUDY_UID}.1.{number}"
    dataset = image(
        body.clip(0, 4095).astype(np.uint16),
        SOPInstanceUID=uid,
        StudyInstanceUID=STUDY_UID,
        SeriesInstanceUID=f"{STUDY_UID}.1",
        PatientID=PATIENT[0],
        IssuerOfPatientID=PATIENT[1],
        PatientName="Doe^Jane",
        InstanceNumber=number,
        ImagePositionPatient=[0, 0, number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=["0.5", "0.5"],
        RescaleSlope="1",
        RescaleIntercept="-1024",
        BodyPartExamined="HEAD",
        BitsStored=12,
        HighBit=11,
    )
    path = save(dataset, folder / f"{number}.dcm")
    return InputFile(
        version=number,
        path=path.name,
        sha256=digest(uid),
        series_uid=SeriesUid(f"{STUDY_UID}.1"),
        sop_instance_uid=SopInstanceUid(uid),
        sop_class_uid=SopClassUid(str(CTImageStorage)),
        exam=Exam(modality="CT", body_part="HEAD"),
        frames=1,
        instance_number=number,
    )


def _job(folder: Path, files: tuple[InputFile, ...]) -> JobInput:
    return JobInput(
        study_uid=STUDY_UID,
        revision=1,
        outcome=0,
        device_uid="2.25.1",
        patient=patient_digest(*PATIENT),
        attributes=Sha256(""),
        files=files,
        embeddings=tuple(
            StoredEmbedding(
                version=file.version,
                frame=0,
                vector=b"\0" * 4,
                reason="",
                geometry=geometry_of(read_header(folder / file.path), 0).to_json(),
            )
            for file in files
        ),
        predecessors=(),
        objects=frozenset(ALWAYS_COMPOSED),
        former=(),
    )


def _result(files: tuple[InputFile, ...]) -> Result:
    images = tuple(image_ref(file) for file in files)
    evidence = tuple(
        FrameScore(image=images[100 + i], frame=0, score=0.93 - i / 100)
        for i in range(SHOWN)
    )
    one = finding(
        0.93, concept=HEMORRHAGE, site=BRAIN, evidence=evidence, images_scored=SLICES
    )
    return result([one], images=images, patient=patient_digest(*PATIENT))


def _headers(about: Study) -> tuple[Dataset, ...]:
    series = study_volumes(about.job)
    return sources(about.result, about.job.files, series, about.bench.spool)


def _pictures(about: Study) -> tuple[Picture, ...]:
    series = study_volumes(about.job)
    spool, decoders = about.bench.spool, about.bench.decoders
    return pictures(about.result, about.job.files, series, spool, decoders)


def _compose_it(about: Study, kinds: tuple[ObjectKind, ...]) -> None:
    job = replace(about.job, objects=frozenset(kinds))
    write(about.result, job, about.bench)


def in_turns(
    works: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the medians of the seconds that each takes: wall time and own time."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start, own = time.perf_counter(), time.process_time()
            work()
            took = time.perf_counter() - start, time.process_time() - own
            spent[name].append(took)
    return {
        name: (median(wall for wall, _ in each), median(own for _, own in each))
        for name, each in spent.items()
    }


def peak_mb(work: Callable[[], object]) -> float:
    """Return the highest resident memory while `work` runs, above that before it."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = _status_mb("VmRSS")
    work()
    return _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def _in_a_process_of_its_own(which: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--memory", which],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,  # noqa: TID251 - this process's own
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
