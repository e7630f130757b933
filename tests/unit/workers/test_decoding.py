"""A bad file costs itself: not its neighbours, not the pool, not the worker."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.errors import Transient
from tests.images import PIXELS, image, save
from tests.packs import POLICY
from workers.decode import TOO_LARGE, decode
from workers.decoding import DecodedInput, DecodePool, Failure, FrameInput, Shown
from workers.decoding.process import NOT_USED, SHOWN_PX, answers
from workers.preprocess import channels, display, prepare


def children(of: int) -> set[int]:
    """Return the ids of the processes that a process has started and not yet buried."""
    found: set[int] = set()
    for listed in Path(f"/proc/{of}/task").glob("*/children"):
        found |= {int(pid) for pid in listed.read_text().split()}
    return found


def own(pool: DecodePool) -> set[int]:
    """Return the ids of a pool's processes."""
    return {child._process.pid for child in pool._children}


def gone(pid: int, *, within_s: float = 10) -> bool:
    """Return whether a process is no more, or will soon be."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return five good files, each with its own picture."""
    return [
        save(image(PIXELS + 100 * n, Modality="DX"), tmp_path / f"{n}.dcm")
        for n in range(5)
    ]


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    """Yield a pool of two that a test may harm; nothing of it is left behind."""
    before = children(os.getpid())
    with DecodePool(processes=2, memory_bytes=1 << 30, timeout_s=2) as pool:
        yield pool
    assert children(os.getpid()) <= before


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Path]:
    """Yield a file that never ends and never says anything: a pipe."""
    path = tmp_path / "endless.dcm"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    yield path
    os.close(held)


def test_outcomes_come_in_order(spare_pool: DecodePool, files: list[Path]) -> None:
    """Each is what decoding and preprocessing give in this very process."""
    found = spare_pool.map([FrameInput(path=path) for path in files], POLICY)
    for path, outcome in zip(files, found, strict=True):
        assert isinstance(outcome, DecodedInput)
        here = decode(path)
        np.testing.assert_array_equal(outcome.image, channels(prepare(here, POLICY)))
        assert outcome.digest == here.digest
        assert outcome.image.shape == (3, POLICY.size, POLICY.size)


def test_frames_of_one_file_and_others_in_any_mixture(
    spare_pool: DecodePool, files: list[Path], tmp_path: Path
) -> None:
    """More frames than one request holds, out of order, between other files."""
    frames = np.stack([PIXELS + n for n in range(40)])
    many = save(image(frames, NumberOfFrames=40), tmp_path / "many.dcm")
    wanted = [FrameInput(path=many, frame=n) for n in reversed(range(40))]
    wanted[20:20] = [FrameInput(path=path) for path in files]
    for given, outcome in zip(wanted, spare_pool.map(wanted, POLICY), strict=True):
        assert isinstance(outcome, DecodedInput)
        assert outcome.digest == decode(given.path, given.frame).digest


def test_nothing_asked_nothing_answered(spare_pool: DecodePool) -> None:
    """An empty batch is no reason to wait."""
    assert spare_pool.map([], POLICY) == []


def test_an_unreadable_file_costs_itself(
    spare_pool: DecodePool, files: list[Path], tmp_path: Path
) -> None:
    """Its place holds the reason, its neighbours their pictures."""
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no image at all")
    missing = tmp_path / "missing.dcm"
    wanted = [FrameInput(path=p) for p in (files[0], bad, missing, files[1])]
    wanted.append(FrameInput(path=files[2], frame=7))
    found = spare_pool.map(wanted, POLICY)
    reasons = [o.reason if isinstance(o, Failure) else "" for o in found]
    assert reasons == [
        "",
        "not a DICOM file",
        "the file cannot be read: No such file or directory",
        "",
        "there is no frame 8: it has 1",
    ]
    assert not any(isinstance(o, Failure) and o.transient for o in found)


def test_a_failing_disk_is_transient(tmp_path: Path) -> None:
    """What may go well another time says so."""
    loop = tmp_path / "memory"
    loop.symlink_to("/proc/self/mem")
    ((head, pixels),) = answers(loop, [0], POLICY)
    assert pixels is None
    assert head["transient"] is True


def test_images_to_look_at(spare_pool: DecodePool, tmp_path: Path) -> None:
    """As a viewer shows them, no larger than a screen needs, proportions told."""
    wide = np.tile(PIXELS, (4, 40))
    dataset = image(wide, PixelSpacing=["2", "1"], WindowCenter="900", WindowWidth="99")
    big, small = tmp_path / "big.dcm", tmp_path / "small.dcm"
    save(dataset, big)
    save(image(), small)
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"")
    found = spare_pool.show([FrameInput(path=path) for path in (big, bad, small)])
    assert isinstance(found[0], Shown)
    assert max(found[0].image.shape) == SHOWN_PX
    assert found[0].aspect == 2
    assert found[1] == Failure(reason="not a DICOM file")
    assert isinstance(found[2], Shown)
    np.testing.assert_array_equal(found[2].image, display(decode(small)))


def test_a_file_that_hangs_costs_itself(
    pool: DecodePool, files: list[Path], endless: Path
) -> None:
    """After the time limit its process is replaced and the others are done."""
    paths = [files[0], endless, *files[1:]]
    found = pool.map([FrameInput(path=path) for path in paths], POLICY)
    assert found[1] == Failure(reason="decoding it took longer than 2 s", fatal=True)
    assert all(isinstance(o, DecodedInput) for o in (found[0], *found[2:]))
    again = pool.map([FrameInput(path=path) for path in files], POLICY)
    assert all(isinstance(o, DecodedInput) for o in again)


def test_a_file_that_kills_its_process_costs_itself(
    pool: DecodePool, files: list[Path], endless: Path
) -> None:
    """It is tried twice, because a process may be killed for another's sake."""
    pool.map([FrameInput(path=path) for path in files], POLICY)
    killed: list[int] = []

    def kill_whoever_opens_it() -> None:
        while len(killed) < 2:
            for pid in own(pool) - set(killed):
                if str(endless) in open_files(pid):
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    assassin = threading.Thread(target=kill_whoever_opens_it, daemon=True)
    assassin.start()
    paths = [files[0], endless, *files[1:]]
    found = pool.map([FrameInput(path=path) for path in paths], POLICY)
    assassin.join(10)
    reason = "decoding it ended its process (SIGKILL)"
    assert found[1] == Failure(reason=reason, fatal=True)
    assert all(isinstance(o, DecodedInput) for o in (found[0], *found[2:]))


def open_files(pid: int) -> list[str]:
    """Return what a process has open."""
    try:
        return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def test_a_process_killed_between_two_batches_costs_nothing(
    pool: DecodePool, files: list[Path]
) -> None:
    """Somebody else's kill is nobody's fault."""
    wanted = [FrameInput(path=path) for path in files]
    pool.map(wanted, POLICY)
    for pid in own(pool):
        os.kill(pid, signal.SIGKILL)
    assert all(isinstance(o, DecodedInput) for o in pool.map(wanted, POLICY))


def test_a_file_that_needs_too_much_memory_costs_itself(
    files: list[Path], tmp_path: Path
) -> None:
    """A small compressed file may unfold to more than there is."""
    black = np.zeros((8000, 8000), dtype=np.uint16)
    greedy = image(black)
    greedy.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(greedy, tmp_path / "greedy.dcm")
    del greedy
    paths = [files[0], tmp_path / "greedy.dcm", files[1]]
    with DecodePool(processes=1, memory_bytes=150 << 20, timeout_s=30) as pool:
        found = pool.map([FrameInput(path=path) for path in paths], POLICY)
    assert found[1] == Failure(reason=TOO_LARGE, fatal=True)
    assert isinstance(found[0], DecodedInput)
    assert isinstance(found[2], DecodedInput)


def test_processes_that_cannot_start_are_a_transient_error(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is called unreadable because a Python does not start."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with (
        DecodePool(processes=1, memory_bytes=1 << 30, timeout_s=5) as pool,
        pytest.raises(Transient, match="do not start: exit status 1"),
    ):
        pool.map([FrameInput(path=files[0])], POLICY)


LIAR = """#!{python}
import json, os, sys
from multiprocessing.connection import Connection
worker = Connection(int(sys.argv[6]))
worker.send_bytes(b"ready")
while True:
    worker.recv_bytes()
    head = {{"shape": {shape}, "digest": "", "aspect": 1, "geometry": ""}}
    worker.send_bytes(json.dumps(head).encode())
    os.write(worker.fileno(), bytes(64))
"""


@pytest.mark.parametrize(
    "shape", [[], [64], [-8, -8], [0, 8], [1 << 20, 1 << 20], ["8", 8], "12", None]
)
def test_a_process_that_lies_about_its_pixels_is_not_believed(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: object
) -> None:
    """A hostile file may have taken it over: no such memory is set aside."""
    liar = tmp_path / "liar"
    liar.write_text(LIAR.format(python=sys.executable, shape=shape))
    liar.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(liar))
    with DecodePool(processes=1, memory_bytes=1 << 30, timeout_s=5) as pool:
        (found,) = pool.map([FrameInput(path=files[0])], POLICY)
    assert isinstance(found, Failure)
    assert found.reason.startswith("decoding it ended its process")


def test_several_threads_may_ask_at_once(
    spare_pool: DecodePool, files: list[Path]
) -> None:
    """They are served one after the other, each with its own answers."""
    failures = []

    def ask(path: Path) -> None:
        (found,) = spare_pool.map([FrameInput(path=path)], POLICY)
        if not isinstance(found, DecodedInput) or found.digest != decode(path).digest:
            failures.append(path)

    threads = [threading.Thread(target=ask, args=(path,)) for path in files * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


WORKER = """
import sys, time
from pathlib import Path
from workers.decoding import DecodePool, FrameInput
from workers.policy import policy_from_json
POLICY = policy_from_json(sys.argv.pop(1))
pool = DecodePool(processes=2, memory_bytes=1 << 30, timeout_s=60)
print("started", flush=True)
pool.map([FrameInput(path=Path(name)) for name in sys.argv[1:]], POLICY)
print("idle", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_worker(
    files: list[Path], how: signal.Signals
) -> None:
    """Interrupted, terminated or killed: nothing is left running."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, POLICY.to_json(), *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        assert worker.stdout.readline() == "idle\n"
        decoders = children(worker.pid)
        assert len(decoders) == 2
        worker.send_signal(how)
        worker.wait(10)
    assert all(gone(decoder) for decoder in decoders)


def test_decode_processes_are_light(spare_pool: DecodePool, files: list[Path]) -> None:
    """They start without torch, pydantic or the ledger's libraries."""
    spare_pool.map([FrameInput(path=files[0])], POLICY)
    code = (
        "import sys, workers.decoding.process; "
        "print([m for m in ('torch', 'pydantic', 'sqlalchemy', 'celery', 'highdicom',"
        " 'pynetdicom') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_frames_that_a_policy_does_not_use_are_not_decoded(
    pool: DecodePool, tmp_path: Path
) -> None:
    """The first frame of a multi-frame image, and a stated reason for the others."""
    path = save(image(np.stack([PIXELS] * 3), NumberOfFrames=3), tmp_path / "3.dcm")
    tasks = [FrameInput(path=path, frame=frame) for frame in range(3)]
    first, *others = pool.map(tasks, replace(POLICY, frames="first"))
    assert isinstance(first, DecodedInput)
    assert others == [Failure(reason=NOT_USED)] * 2
    assert all(isinstance(each, DecodedInput) for each in pool.map(tasks, POLICY))
