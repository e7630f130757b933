"""Cases by the hundred thousand: each from its own dice, timed, and the process weighed.

A case is named by target, seed and number; these three make the same bytes anywhere.
"""

import gc
import logging
import multiprocessing
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty
from random import Random
from types import FrameType

import structlog

from tests.fuzz import doors, targets
from tests.fuzz.targets import Reader

SLOW_S = 1.0
HUNG_S = 10
GROWTH_BYTES = 32 << 20
"""More than this between a tenth of a share and its end counts as growth."""
MOST_FINDINGS = 25
REPORT_EVERY = 100

Opened = Callable[[Path], AbstractContextManager[Reader]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader of bytes from outside, and its share of the cases, in thousandths."""

    open: Opened
    share: int


TARGETS: Mapping[str, Target] = {
    "multipart": Target(open=targets.multipart_reader, share=300),
    "file": Target(open=targets.file_reader, share=310),
    "recorded": Target(open=targets.recorded_reader, share=10),
    "preamble": Target(open=targets.preamble_reader, share=100),
    "stow": Target(open=targets.stow_reader, share=40),
    "qido": Target(open=targets.qido_reader, share=60),
    "stored": Target(open=targets.stored_reader, share=40),
    "commitment": Target(open=targets.commitment_reader, share=70),
    "report": Target(open=targets.report_reader, share=20),
    "settings": Target(open=targets.settings_reader, share=10),
    "dimse-socket": Target(open=doors.dimse_door, share=20),
    "http-socket": Target(open=doors.http_door, share=20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A case that was not read as it should be."""

    target: str
    case: int
    what: str
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a target's cases came to.

    Parameters
    ----------
    grown_bytes
        Of the resident memory of its processes, the most of any of them.
    """

    target: str
    cases: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    findings: tuple[Found, ...] = field(default=())

    @property
    def is_right(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings


class HungError(BaseException):
    """A case took so long that it was interrupted."""


def dice_of(target: str, seed: int, case: int) -> Random:
    """Return the dice of a case."""
    return Random(f"{target}/{seed}/{case}")  # noqa: S311 - a test's own dice


def campaign(
    cases: int,
    *,
    seed: int,
    jobs: int,
    only: str = "",
    show: Callable[[str, int, int], None],
) -> Iterator[Account]:
    """Yield the account of each target, its cases shared among `jobs` processes."""
    chosen = {name: t for name, t in TARGETS.items() if only in ("", name)}
    total = sum(target.share for target in chosen.values())
    for name, target in chosen.items():
        count = max(-(-cases * target.share // total), 1)
        yield _shared_out(name, count, seed=seed, jobs=jobs, show=show)


def _shared_out(
    name: str,
    count: int,
    *,
    seed: int,
    jobs: int,
    show: Callable[[str, int, int], None],
) -> Account:
    context = multiprocessing.get_context("fork")
    inbox = context.Queue()
    begun = time.monotonic()
    processes = [
        context.Process(
            target=_work, args=(name, range(job, count, jobs), seed, inbox), daemon=True
        )
        for job in range(jobs)
    ]
    for process in processes:
        process.start()
    account = Account(target=name)
    done = left = 0
    while left < jobs:
        try:
            said = inbox.get(timeout=1)
        except Empty:
            if not any(process.is_alive() for process in processes):
                died = Found(target=name, case=-1, what="its process died")
                account = replace(account, findings=(*account.findings, died))
                break
            continue
        if isinstance(said, Account):
            account, left = _together(account, said), left + 1
        else:
            done += said
        show(name, done, count)
    return replace(account, seconds=time.monotonic() - begun)


def _together(one: Account, other: Account) -> Account:
    return Account(
        target=one.target,
        cases=one.cases + other.cases,
        slowest_s=max(one.slowest_s, other.slowest_s),
        grown_bytes=max(one.grown_bytes, other.grown_bytes),
        findings=one.findings + other.findings,
    )


def _work(name: str, numbers: range, seed: int, inbox: object) -> None:
    put = inbox.put  # type: ignore[attr-defined]
    put(run(name, numbers, seed=seed, progress=put))


def run(
    name: str, numbers: range, *, seed: int, progress: Callable[[int], None]
) -> Account:
    """Return what these cases of a target came to, in this very process."""
    found: list[Found] = []
    slowest_s, weights = 0.0, [0, 0]
    with _quiet(), tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        with TARGETS[name].open(Path(folder)) as reader:
            for turn, number in enumerate(numbers, start=1):
                data = reader.make(dice_of(name, seed, number))
                took_s, what = attempt(reader, data)
                slowest_s = max(slowest_s, took_s)
                if what and len(found) < MOST_FINDINGS:
                    found.append(Found(target=name, case=number, what=what, data=data))
                if turn in (max(len(numbers) // 10, 1), len(numbers)):
                    weights = [weights[-1] or resident_bytes(), resident_bytes()]
                if turn % REPORT_EVERY == 0:
                    progress(REPORT_EVERY)
            what = _outcome(reader.settle)
            grown = weights[1] - weights[0]
        if grown > GROWTH_BYTES:
            what = f"memory grew by {grown >> 20} MB"
    if what:
        found.append(Found(target=name, case=-1, what=what))
    return Account(
        target=name,
        cases=len(numbers),
        slowest_s=slowest_s,
        grown_bytes=grown,
        findings=tuple(found),
    )


def attempt(reader: Reader, data: bytes) -> tuple[float, str]:
    """Return how long a case took, and what was wrong with it; empty for nothing.

    What is slow is tried again: another program may have had the processor.
    """
    for _ in range(2):
        begun = time.monotonic()
        what = _outcome(lambda: reader.read(data))
        took_s = time.monotonic() - begun
        if what or took_s <= SLOW_S:
            return took_s, what
    return took_s, f"it took {took_s:.1f} s"


def _outcome(act: Callable[[], object]) -> str:
    signal.signal(signal.SIGALRM, _hung)
    signal.alarm(HUNG_S)
    try:
        act()
    except HungError:
        return f"it took longer than {HUNG_S} s"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{error!r:.300} at {Path(frame.filename).name}:{frame.lineno}"
    finally:
        signal.alarm(0)
    return ""


def _hung(_number: int, _frame: FrameType | None) -> None:
    raise HungError


def resident_bytes() -> int:
    """Return the resident memory of this process, without what is only garbage."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep logs and warnings of a million bad inputs off the screen."""
    logging.disable(logging.CRITICAL)
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        structlog.configure(**before)
        logging.disable(logging.NOTSET)
