"""Cases before the checkers, in processes that have an archive each."""

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from pydicom.config import disable_value_validation
from pydicom.filewriter import dcmwrite

from tests.conformance.cases import Case, objects_of
from tests.conformance.checkers import CHECKERS, Exhibit
from tests.conformance.sources import MENDED
from tests.integration.conftest import Orthanc
from tests.judges import Verdict
from tests.peers import QUICK

ORTHANC = "/usr/sbin/Orthanc"


@dataclass(kw_only=True)
class Tally:
    """What came of some cases."""

    objects: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and group of sources."""
    judged: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    explained: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By checker and pattern."""
    complaints: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add what came of other cases."""
        self.objects += other.objects
        self.judged += other.judged
        self.errors += other.errors
        self.warnings += other.warnings
        self.explained += other.explained
        self.complaints += other.complaints

    def note(self, case: Case, checker: str, found: Verdict) -> None:
        """Add a checker's verdict on an object of a case."""
        self.judged[checker] += 1
        self.errors[checker] += len(found.errors)
        self.warnings[checker] += len(found.warnings)
        self.explained.update((checker, pattern) for pattern in found.explained)
        where = f"{case.result} / {case.source}: {checker}"
        self.complaints += [f"{where}: {c}" for c in (*found.errors, *found.warnings)]

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong, and something was looked at."""
        return bool(self.objects) and not self.complaints


def judged(wanted: Sequence[Case], jobs: int) -> Iterator[Tally]:
    """Yield what comes of each case; every process has an archive to itself."""
    context = get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="pacsight-conformance-") as folder,
        ExitStack() as stack,
    ):
        archives: SimpleQueue[Orthanc] = context.SimpleQueue()
        for number in range(jobs):
            pacs = _archive(Path(folder) / f"orthanc-{number}")
            stack.callback(pacs.kill)
            pacs.start()
            archives.put(replace(pacs, _process=None))
        pool = stack.enter_context(context.Pool(jobs, _enter, (archives,)))
        yield from pool.imap_unordered(_judge, wanted, chunksize=4)


def _archive(folder: Path) -> Orthanc:
    return Orthanc(binary=ORTHANC, folder=folder, modalities={QUICK.aet: 11112})


_own: list[Orthanc] = []
"""The archive of this process."""


def _enter(archives: "SimpleQueue[Orthanc]") -> None:
    _own.append(archives.get())
    warnings.filterwarnings("ignore", module="pydicom")  # what the sources get wrong


def _judge(case: Case) -> Tally:
    tally = Tally()
    made_from, header = case.build()
    with tempfile.TemporaryDirectory(prefix="pacsight-case-") as folder:
        source = Path(folder) / "source.dcm"
        with disable_value_validation():
            dcmwrite(source, header, enforce_file_format=True)
        objects = {}
        for obj in objects_of(made_from, header):
            path = Path(folder) / f"{obj.kind}.dcm"
            path.write_bytes(obj.content)
            objects[path] = obj
            tally.objects[obj.kind, case.group] += 1
        exhibit = Exhibit(
            made_from=made_from,
            header=header,
            source=None if case.source in MENDED else source,
            objects=objects,
            orthanc=_own[0],
            by_template=case.by_template,
        )
        for checker in CHECKERS:
            for found in checker(exhibit):
                tally.note(case, checker.__name__, found)
    return tally
