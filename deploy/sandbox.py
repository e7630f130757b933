"""Everything on one machine: a PACS, a modality, and pacsight between them.

Starts Orthanc, ``pacsight up`` and a viewer, sends twelve studies to the first two as a
modality would, waits for the reports, checks that each study has its own in Orthanc,
shows a table in order of urgency, and stays up until Ctrl-C. ``make sandbox`` runs it.

Exit status: 0 if every study has exactly one current Structured Report and one
secondary capture a pack; 1 if not, or if something did not work; 130 if it was
interrupted before it knew.
"""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from orthanc_api_client import OrthancApiClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sandbox_check import faults, in_folder, in_orthanc, viewer_faults
from sandbox_sending import DCMSEND, Receiver, send
from sandbox_services import (
    HOST,
    Ports,
    SandboxError,
    Service,
    choose_ports,
    find_orthanc,
    lock,
    orthanc_answers,
    pacsight_answers,
    start_orthanc,
    start_pacsight,
    start_viewer,
)
from sandbox_settings import write_settings
from sandbox_studies import Study, names, write_study
from sandbox_table import study_table
from sandbox_viewer import address, await_viewer, introduction, study_address

from dicom_node.config import load_settings
from dicom_node.domain import StudyUid
from dicom_node.ledger import open_ledger
from dicom_node.ledger.overview import StudyLine
from dicom_node.ledger.overview import studies as ledger_studies
from dicom_node.lifecycle import State

FOLDER = Path(__file__).resolve().parent.parent / ".sandbox"
OURS = ("data", "orthanc", "results", "sent", "studies", "viewer")
"""The folders below it that every run begins with anew."""
PATIENCE_S = 180.0
"""How long nothing may happen before the sandbox gives up."""
SETTLED = (
    State.DONE,
    State.NOT_ANALYSED,
    State.HELD,
    State.FAILED,
    State.UNDELIVERED,
)
INTERRUPTED = 130
WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What runs, and where.

    Parameters
    ----------
    orthanc
        None where there is no Orthanc: reports then go to a folder.
    viewer
        None where there is no Orthanc for it to show, or it is not wanted.
    """

    folder: Path
    ports: Ports
    orthanc: Service | None
    pacsight: Service
    viewer: Service | None
    with_dcmsend: bool

    @property
    def config(self) -> Path:
        """Return the settings file."""
        return self.folder / "pacsight.toml"

    @property
    def services(self) -> tuple[Service, ...]:
        """Return what has to be alive."""
        return (self.pacsight,) + ((self.orthanc,) if self.orthanc else ())

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """Return whom the modality sends to: the PACS first, as it is the archive."""
        node = Receiver(aet="PACSIGHT", port=self.ports.node_dicom)
        pacs = Receiver(aet="ORTHANC", port=self.ports.orthanc_dicom)
        return (pacs, node) if self.orthanc else (node,)

    @property
    def orthanc_url(self) -> str:
        """Return the address of Orthanc's HTTP server."""
        return f"http://{HOST}:{self.ports.orthanc_http}"

    def check(self) -> None:
        """Raise if a service has ended."""
        for service in self.services:
            service.check()


def main() -> int:
    """Run the sandbox and return its exit status."""
    arguments = _arguments()
    console = Console(width=WIDTH, highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    done: list[int] = []
    with ExitStack() as stack:
        try:
            sandbox = _start(arguments, console, stack)
            stack.callback(_end, sandbox, console)
            done.append(_run(sandbox, console))
            if not arguments.exit:
                _stay(sandbox, console)
        except KeyboardInterrupt:
            done.append(INTERRUPTED)
        except SandboxError as error:
            console.print(f"\n[bold red]sandbox:[/] {error}", soft_wrap=True)
            done.append(1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C changes nothing
    return done[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="pacsight's sandbox")
    parser.add_argument("--exit", action="store_true", help="end after the table")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where everything is kept"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["orthanc", "dcmtk", "viewer"],
        help="go on as if that were not installed",
    )
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _end(sandbox: Sandbox, console: Console) -> None:
    """Ask all at once to end; the exit stack then waits for each."""
    console.print("\nending what was started ...")
    for service in (*sandbox.services, *([sandbox.viewer] if sandbox.viewer else [])):
        service.ask_to_end()


# ── starting ────────────────────────────────────────────────────────────────


def _start(
    arguments: argparse.Namespace, console: Console, stack: ExitStack
) -> Sandbox:
    """Return the sandbox with its services started, not yet ready."""
    folder: Path = arguments.folder.absolute()
    held = stack.enter_context(lock(folder))
    for name in OURS:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "sent").mkdir()
    ports = choose_ports()
    found = None if "orthanc" in arguments.without else find_orthanc()
    with_dcmsend = DCMSEND.exists() and "dcmtk" not in arguments.without
    orthanc = viewer = None
    if found is not None:
        orthanc = start_orthanc(found, folder, ports, held)
        stack.callback(orthanc.stop)
    config = write_settings(folder, ports, with_orthanc=orthanc is not None)
    pacsight = start_pacsight(config, folder, held)
    stack.callback(pacsight.stop)
    if orthanc and "viewer" not in arguments.without:
        viewer = start_viewer(folder, ports, held)
        stack.callback(viewer.stop)
    sandbox = Sandbox(
        folder=folder,
        ports=ports,
        orthanc=orthanc,
        pacsight=pacsight,
        viewer=viewer,
        with_dcmsend=with_dcmsend,
    )
    _introduce(sandbox, console)
    return sandbox


def _introduce(sandbox: Sandbox, console: Console) -> None:
    ports = sandbox.ports
    console.print("[bold]pacsight sandbox[/]: a PACS, a modality, and pacsight\n")
    if sandbox.orthanc:
        console.print(
            f"  PACS      Orthanc, DICOM port {ports.orthanc_dicom}, "
            f"{sandbox.orthanc_url}\n"
            "            Orthanc listens on every address of this machine, and is set\n"
            "            to refuse whoever is not on it."
        )
    else:
        console.print(
            "  PACS      [yellow]none[/]: Orthanc or its DICOMweb plugin is not"
            " installed.\n"
            "            As root: apt-get install orthanc orthanc-dicomweb\n"
            f"            Until then reports go to {_short(sandbox.folder)}/results"
        )
    console.print(
        f"  pacsight  PACSIGHT at {HOST}:{ports.node_dicom},"
        f" http://{HOST}:{ports.node_http}"
    )
    if sandbox.viewer:
        console.print(f"  viewer    {introduction(ports)}")
    if sandbox.with_dcmsend:
        console.print("  modality  DCMTK's dcmsend\n")
    else:
        console.print(
            "  modality  pynetdicom's storescu; [yellow]dcmsend[/] is not installed.\n"
            "            As root: apt-get install dcmtk\n"
        )


# ── the main job ────────────────────────────────────────────────────────────


def _run(sandbox: Sandbox, console: Console) -> int:
    """Return the exit status, once every study is settled and the table is shown."""
    columns = (
        TextColumn("  {task.description:<26}"),
        BarColumn(bar_width=34),
        MofNCompleteColumn(),
    )
    with Progress(*columns, console=console) as bars:
        studies = _make(sandbox, bars)
        _await_services(sandbox, bars)
        lines = _send_and_watch(sandbox, studies, bars)
        no_viewer = _await_viewer(sandbox, bars)
    console.print()
    console.print(study_table(studies, lines, width=console.width))
    found = _faults(sandbox, studies)
    most_urgent = lines[0].study_uid
    with_viewer = sandbox.viewer is not None and no_viewer is None
    if with_viewer:
        found += viewer_faults(address(sandbox.ports), most_urgent)
    console.print(_judge(sandbox, studies, found), soft_wrap=True)
    if no_viewer:
        console.print(f"\n[yellow]There is no viewer:[/] {no_viewer}.", soft_wrap=True)
    rows = _addresses(sandbox, most_urgent, with_viewer=with_viewer)
    console.print(f"\n{rows}", soft_wrap=True)
    return 1 if found else 0


def _make(sandbox: Sandbox, bars: Progress) -> list[Study]:
    made = bars.add_task("studies made", total=len(names()))
    studies = []
    for name in names():
        studies.append(write_study(name, sandbox.folder / "studies"))
        bars.advance(made)
        sandbox.check()
    return studies


def _await_services(sandbox: Sandbox, bars: Progress) -> None:
    pacsight, orthanc, ports = sandbox.pacsight, sandbox.orthanc, sandbox.ports
    ready = bars.add_task("services ready", total=len(sandbox.services))
    if orthanc:
        orthanc.await_ready(lambda: orthanc_answers(ports))
        bars.advance(ready)
    pacsight.await_ready(lambda: pacsight_answers(ports, pacsight.log))
    bars.advance(ready)


def _await_viewer(sandbox: Sandbox, bars: Progress) -> str | None:
    """Return None once the viewer answers or was not wanted; else why there is none."""
    if sandbox.viewer is None:
        return None
    ready = bars.add_task("viewer ready", total=1)
    reason = await_viewer(sandbox.viewer, sandbox.ports)
    bars.update(ready, completed=0 if reason else 1)
    return reason


def _send_and_watch(
    sandbox: Sandbox, studies: Sequence[Study], bars: Progress
) -> list[StudyLine]:
    """Return what the ledger says, once every study is settled."""
    sent = bars.add_task("sent by the modality", total=len(studies))
    reported = bars.add_task("reported back", total=len(studies))
    ledger = open_ledger(
        load_settings(sandbox.config, {}).ledger_address, migrate=False
    )
    uids = {study.study_uid for study in studies}

    def look() -> list[StudyLine]:
        sandbox.check()
        with ledger.read() as tx:
            lines = [line for line in ledger_studies(tx) if line.study_uid in uids]
        settled = {line.study_uid for line in lines if line.state in SETTLED}
        bars.update(reported, completed=len(settled))
        return lines

    try:
        for study in studies:
            for to in sandbox.receivers:
                report = sandbox.folder / "sent" / f"{study.name}-{to.aet}.txt"
                send(study.files, to, report=report, with_dcmsend=sandbox.with_dcmsend)
            bars.advance(sent)
            look()
        return _await_settled(sandbox, studies, look)
    finally:
        ledger.close()


def _await_settled(
    sandbox: Sandbox, studies: Sequence[Study], look: Callable[[], list[StudyLine]]
) -> list[StudyLine]:
    before: list[tuple[StudyUid, State]] = []
    deadline = 0.0
    while True:
        lines = look()
        now = [(line.study_uid, line.state) for line in lines]
        if {uid for uid, state in now if state in SETTLED} == {
            study.study_uid for study in studies
        }:
            return lines
        if now != before:
            before, deadline = now, time.monotonic() + PATIENCE_S
        if time.monotonic() > deadline:
            raise SandboxError(
                f"nothing has happened for {PATIENCE_S:g} s: see {sandbox.pacsight.log}"
            )
        time.sleep(0.25)


# ── what came of it ─────────────────────────────────────────────────────────


def _faults(sandbox: Sandbox, studies: Sequence[Study]) -> list[str]:
    packs = len(load_settings(sandbox.config, {}).packs)
    if sandbox.orthanc:
        fetch = in_orthanc(OrthancApiClient(sandbox.orthanc_url))
    else:
        fetch = in_folder(sandbox.folder / "results")
    return faults(studies, fetch, packs=packs)


def _judge(sandbox: Sandbox, studies: Sequence[Study], found: Sequence[str]) -> str:
    """Return what the figures mean, and whether everything is there."""
    where = "Orthanc" if sandbox.orthanc else f"{_short(sandbox.folder)}/results"
    legend = (
        f"[dim]s: seconds from the last image to the last object in {where}, the\n"
        "quiet period included. The scores are those of a demonstration pack, trained\n"
        "on synthetic phantoms only.[/]"
    )
    if not found:
        return (
            f"\n{legend}\n\n[green]{where} has one current SR and one secondary capture"
            f" for each of {len(studies)} studies.[/]"
        )
    faults = "\n".join(f"  {fault}" for fault in found)
    return (
        f"\n{legend}\n\n[bold red]{where} does not have what it should:[/]\n{faults}\n"
        f"See {sandbox.pacsight.log}"
    )


def _addresses(sandbox: Sandbox, most_urgent: StudyUid, *, with_viewer: bool) -> str:
    """Return where to look at what came of it, the best last."""
    folder = _short(sandbox.folder)
    pacsight = _short(Path(sys.executable).with_name("pacsight"))
    rows = [
        ("the ledger", f"{pacsight} studies --config {_short(sandbox.config)}"),
        ("what was said", f"{folder}/*.log"),
    ]
    if sandbox.orthanc:
        page = f"{sandbox.orthanc_url}/app/explorer.html"
        study = OrthancApiClient(sandbox.orthanc_url).studies.lookup(most_urgent)
        rows += [
            ("in Orthanc", page),
            ("the most urgent", f"{page}#study?uuid={study}"),
        ]
    else:
        rows.append(("the reports", f"{folder}/results"))
    if with_viewer:
        shown = study_address(sandbox.ports, most_urgent)
        rows += [("in OHIF", address(sandbox.ports)), ("the most urgent", shown)]
    return "\n".join(f"  {name:<16} {value}" for name, value in rows)


def _stay(sandbox: Sandbox, console: Console) -> None:
    """Stay up until Ctrl-C."""
    console.print("\nCtrl-C ends everything.")
    while True:
        sandbox.check()
        time.sleep(0.5)


def _short(path: Path) -> str:
    """Return the path as it is typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    sys.exit(main())
