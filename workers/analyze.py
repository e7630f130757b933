"""Files in, reports out: the whole pipeline in one process, without any network.

The same intake, ledger, handover, pipeline and delivery as the node's, on a ledger and
a spool that live as long as the command; only the queue is missing, because there is
nobody to share the work with.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dicom_node.config import Settings
from dicom_node.deliver import destination
from dicom_node.dispatch import Holding
from dicom_node.domain import FrontDoor, Origin, Priority
from dicom_node.drain import Drain
from dicom_node.errors import Permanent, Rejected
from dicom_node.handover import Handover
from dicom_node.intake import Intake
from dicom_node.ledger import Ledger, motion, open_ledger, work
from dicom_node.ledger.overview import StudyLine, studies
from dicom_node.lifecycle import State
from dicom_node.objects import ObjectStore
from dicom_node.peers import Peer, Right, Via
from dicom_node.recorder import LedgerRecorder
from dicom_node.wiring import addresses, now, open_spool, pace, pack_rules
from workers.app import bench
from workers.inforce import packs_in_force
from workers.listing import files_in
from workers.pipeline import Bench, conclude_study, embed_batch

OUT = "out"
IN_MOTION = (
    State.RECEIVING,
    State.EMBEDDING,
    State.CONCLUDING,
    State.DELIVERING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """What became of the files.

    Parameters
    ----------
    refused
        Files that could not be taken in, and why.
    """

    studies: tuple[StudyLine, ...]
    refused: tuple[tuple[Path, str], ...]


def analyze_files(
    paths: Sequence[Path], out: Path, *, settings: Settings, console: Console
) -> Analysed:
    """Write the reports of every study among the files into a folder.

    Parameters
    ----------
    paths
        Files, or folders that are searched to the bottom.
    out
        Gets a folder for each study; made where it does not exist.
    console
        Where progress is shown.

    Raises
    ------
    Permanent
        If there is no file, or none of them could be taken in.
    """
    files = list(files_in(paths))
    if not files:
        raise Permanent(f"there is no file in {', '.join(map(str, paths))}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pacsight-") as scratch, ExitStack() as at:
        own = _scratch_settings(settings, Path(scratch), out)
        ledger = open_ledger(own.ledger_address, migrate=True)
        at.callback(ledger.close)
        ready = at.enter_context(bench(own, packs_in_force(settings)))
        progress = at.enter_context(_progress(console))
        refused = _take_in(files, own, ledger, ready, progress)
        _work(own, ledger, ready, progress)
        with ledger.read() as tx:
            lines = tuple(studies(tx))
    if not lines:
        first, why = refused[0]
        raise Permanent(f"none of the {len(files)} files is usable; {first}: {why}")
    return Analysed(studies=lines, refused=tuple(refused))


class _Inline:
    """A dispatcher that does the work at once."""

    def __init__(self, ready: Bench, show: Callable[[], None]) -> None:
        self._bench = ready
        self._show = show

    def holding(self) -> Holding:
        """Return that nothing is lost: nothing is ever kept."""
        return Holding(forgot=False, waits=False)

    def mark(self) -> None:
        """Do nothing: it is not forgotten."""

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Embed the batch."""
        del priority
        embed_batch(batch_id, self._bench)
        self._show()

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Conclude the study; where it cannot be, the ledger says why."""
        del priority
        with suppress(Permanent):
            conclude_study(job_id, self._bench)


def _scratch_settings(settings: Settings, scratch: Path, out: Path) -> Settings:
    """Return the settings for a node that ends with the command."""
    folder = Peer(
        name=OUT,
        rights=frozenset({Right.DESTINATION}),
        via=Via.FOLDER,
        folder=out.absolute(),
    )
    spool = settings.spool.model_copy(update={"folder": None, "min_free_bytes": 0})
    return settings.model_copy(
        update={
            "data_dir": scratch,
            "ledger_url": "",
            "peers": (folder,),
            "spool": spool,
        }
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
    )


def _take_in(
    files: Sequence[Path],
    settings: Settings,
    ledger: Ledger,
    ready: Bench,
    progress: Progress,
) -> list[tuple[Path, str]]:
    encoders = tuple({e.pack.encoder_key.digest for e in ready.packs.values()})
    cards = [equipped.pack.card for equipped in ready.packs.values()]
    rules = pack_rules(settings, cards)
    recorder = LedgerRecorder(ledger, encoders=encoders, wake=lambda: None)
    recorder.start()
    spool = open_spool(settings)
    intake = Intake(
        spool=spool, recorder=recorder, rules=(), clock=now, pack_rules=rules
    )
    refused = []
    try:
        for file in progress.track(files, description="reading"):
            handle, copy = spool.new_file()
            with file.open("rb") as source, os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(source, target)
            try:
                intake.take(copy, Origin(door=FrontDoor.FILE), session=None)
            except Rejected as error:
                refused.append((file, error.comment))
    finally:
        recorder.stop()
    return refused


def _work(settings: Settings, ledger: Ledger, ready: Bench, progress: Progress) -> None:
    """Let every study go through to its end."""
    bar = progress.add_task("embedding")

    def show() -> None:
        with ledger.read() as tx:
            done, total = work.frames_done(tx)
        progress.update(bar, completed=done, total=total)

    show()
    (peer,) = settings.peers
    drain = Drain(
        peer,
        destination(peer, settings.caller),
        ledger=ledger,
        objects=ObjectStore(settings.outbox_dir),
        batch_size=settings.delivery.batch_size,
        clock=now,
    )
    handover = Handover(
        ledger=ledger,
        dispatcher=_Inline(ready, show),
        packs=[e.pack.card for e in ready.packs.values()],
        addresses=addresses(settings.peers),
        pace=pace(settings),
        open_studies=tuple,
        clock=now,
    )
    with ledger.write() as tx:
        for one in motion.arriving(tx):
            motion.ask(tx, one.key)
    while _in_motion(ledger):
        handover.tick()
        while drain.drain():
            pass


def _in_motion(ledger: Ledger) -> bool:
    with ledger.read() as tx:
        return motion.any_in(tx, IN_MOTION)
