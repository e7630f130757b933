"""Everything of a run: nodes, worker, Redis, PostgreSQL and a PACS, all real."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.broker import await_broker, broker_command, broker_url
from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger, open_ledger
from tests.chaos.clock import Clock
from tests.chaos.disk import Disk, disk
from tests.chaos.plan import Chaos, Point
from tests.chaos.processes import Process
from tests.chaos.senders import Door
from tests.delivery.archives import UnrulyOrthanc, orthanc_binary
from tests.integration.conftest import free_port
from tests.postgres import Cluster, binaries
from tests.running import PACSIGHT

INSIDE = Path(__file__).with_name("inside")
DISK_MIB = 512
MIB_OF_A_STUDY = 0.25
"""On the disk: instances, a report, and slack."""
DURABLE = {"synchronous_commit": "on"}
"""What is committed is with the kernel, and so outlasts a kill of every process."""


@dataclass
class Points:
    """Where processes are to be killed: see ``inside/sitecustomize.py``."""

    folder: Path

    def arm(self, point: Point) -> None:
        """Let the next process that comes by that point be killed there."""
        (self.folder / point).touch()

    def is_armed(self, point: Point) -> bool:
        """Return whether nobody has come by yet."""
        return (self.folder / point).exists()

    def disarm(self) -> None:
        """Let nobody be killed any more."""
        for point in Point:
            (self.folder / point).unlink(missing_ok=True)

    def fired(self) -> dict[Point, int]:
        """Return how many processes were killed at each point."""
        return {p: len(list(self.folder.glob(f"{p}.*"))) for p in Point}


@dataclass
class Scene:
    """What runs, and where it lies.

    Parameters
    ----------
    database
        None where the ledger is SQLite.
    ledger
        For looking at it; the processes have their own.
    """

    chaos: Chaos
    folder: Path
    disk: Disk
    clock: Clock
    points: Points
    broker: Process
    nodes: Sequence[Process]
    worker: Process
    pacs: UnrulyOrthanc
    doors: Sequence[Door]
    database: Cluster | None
    url: str
    ledger: Ledger = field(init=False)

    @property
    def data(self) -> Path:
        """Return the data folder that the nodes and the worker share."""
        return self.disk.folder / "data"

    @property
    def outbox(self) -> Path:
        """Return where the reports lie that are sent."""
        return self.data / "outbox"

    @property
    def socket(self) -> Path:
        """Return where Redis listens."""
        return self.folder / "broker.sock"

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return all that is kept running."""
        return (self.broker, *self.nodes, self.worker)

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the processes that write to the disk."""
        return tuple(p.pid for p in (*self.nodes, self.worker) if p.is_running())


@contextmanager
def scene(chaos: Chaos, folder: Path) -> Iterator[Scene]:
    """Yield everything, running; nothing of it is left in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    mib = DISK_MIB + int(MIB_OF_A_STUDY * chaos.studies)
    with ExitStack() as stack:
        place = stack.enter_context(disk(folder, mib=mib))
        clock = Clock(folder / "clock")
        clock.make()
        points = Points(folder / "points")
        points.folder.mkdir()
        database = None
        if chaos.nodes > 1:
            database = stack.enter_context(Cluster(binaries(), settings=DURABLE))
        made = _made(
            chaos,
            folder,
            _Ground(disk=place, clock=clock, points=points, database=database),
        )
        stack.callback(made.pacs.kill)
        for process in made.processes:
            stack.callback(process.put_away)
        _start(made)
        stack.callback(made.ledger.close)
        yield made


def _start(made: Scene) -> None:
    made.broker.start()
    assert made.broker._process is not None
    await_broker(made.socket, made.broker._process)
    made.pacs.start()
    made.data.mkdir(mode=0o700, exist_ok=True)
    made.ledger = open_ledger(made.url, migrate=True)
    for process in (*made.nodes, made.worker):
        process.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What all processes stand on."""

    disk: Disk
    clock: Clock
    points: Points
    database: Cluster | None


def _made(chaos: Chaos, folder: Path, ground: _Ground) -> Scene:
    doors = [Door(free_port(), free_port()) for _ in range(chaos.nodes)]
    pacs = UnrulyOrthanc(
        binary=orthanc_binary() or "",
        folder=folder / "pacs",
        modalities={"PACSIGHT": doors[0].dicom_port},
        seed=chaos.seed,
    )
    data = ground.disk.folder / "data"
    url = f"sqlite:///{data}/ledger.sqlite"
    if ground.database is not None:
        url = ground.database.url(ground.database.database())
    socket = folder / "broker.sock"
    config = folder / "pacsight.toml"
    config.write_text(_settings(chaos, data, url, socket, pacs))
    environ = {
        **os.environ,  # noqa: TID251 - handed on to the children, not read
        **ground.clock.environ,
        "PYTHONPATH": f"{INSIDE}:{INSIDE.parents[2]}",  # this checkout, none other
        "CHAOS_POINTS": str(ground.points.folder),
    }

    def process(name: str, what: str, more: Mapping[str, str]) -> Process:
        command = [str(PACSIGHT), what, "--config", str(config)]
        return Process(name, command, environ | dict(more), folder / f"{name}.log")

    return Scene(
        chaos=chaos,
        folder=folder,
        disk=ground.disk,
        clock=ground.clock,
        points=ground.points,
        broker=Process("redis", broker_command(socket), environ, folder / "redis.log"),
        nodes=[
            process(f"node-{number}", "node", _ports(door))
            for number, door in enumerate(doors, start=1)
        ],
        worker=process("worker", "worker", {}),
        pacs=pacs,
        doors=doors,
        database=ground.database,
        url=url,
    )


def _ports(door: Door) -> Mapping[str, str]:
    return {
        "PACSIGHT_DICOM__PORT": str(door.dicom_port),
        "PACSIGHT_HTTP__PORT": str(door.http_port),
    }


def _settings(
    chaos: Chaos, data: Path, url: str, socket: Path, pacs: UnrulyOrthanc
) -> str:
    return (
        f'data_dir = "{data}"\nledger_url = "{url}"\n'
        f'broker_url = "{broker_url(socket)}"\n'
        "[spool]\nmin_free_bytes = 16777216\nmin_free_inodes = 100\n"
        "[dicom]\nconnect_timeout_s = 2.0\nacse_timeout_s = 4.0\n"
        "dimse_timeout_s = 6.0\nnetwork_timeout_s = 20.0\n"
        "[study]\nquiet_period_s = 1.0\nexpected_quiet_period_s = 1.0\n"
        "minimum_revision_interval_s = 1.0\n"
        f"[work]\nlease_s = {chaos.lease_s}\n"
        '[worker]\ndevice = "cpu"\nthreads = 1\ndecode_processes = 1\n'
        "[delivery]\nverify_age_s = 30.0\n"
        '[[peers]]\nname = "pacs"\naet = "ORTHANC"\nhost = "127.0.0.1"\n'
        f'port = {pacs.dicom_port}\nrights = ["destination"]\n'
        f'objects = ["{ObjectKind.REPORT}"]\n'
        "[peers.retry]\nfirst_s = 0.2\ncap_s = 3.0\n"
    )
