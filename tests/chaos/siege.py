"""Strikes when its time has come, mends what it struck, keeps everything running."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.plan import Armed, Blow, Fault, Point
from tests.chaos.recovery import Recovery, snapshot
from tests.chaos.scene import Scene

WORKER_STARTS_S = 5.0
NODE_STARTS_S = 2.5
"""What was killed is let alone for so long."""
REFUSED = 0.5
EVERYTHING = "everything"

PLACES = {
    Fault.WORKER_KILLED: "worker",
    Fault.WORKER_HANGS: "worker",
    Fault.FIRST_KILLED: "first",
    Fault.SECOND_KILLED: "second",
    Fault.BROKER_KILLED: "broker",
    Fault.BROKER_FLUSHED: "broker",
    Fault.BROKER_PAUSED: "broker",
    Fault.PACS_STOPPED: "pacs",
    Fault.PACS_REFUSES: "pacs",
    Fault.PACS_STALLED: "pacs",
    Fault.DISK_FULL: "disk",
    Fault.CLOCK_AHEAD: "clock",
    Fault.CLOCK_BEHIND: "clock",
    Fault.DATABASE_KILLED: "database",
    Fault.DATABASE_RESTARTED: "database",
    Fault.EVERYTHING_KILLED: EVERYTHING,
}


@dataclass(frozen=True, slots=True)
class Wound:
    """What was struck, and how it is mended."""

    until: float
    mend: Callable[[], None]


class Siege:
    """What goes wrong on purpose; everything of it happens in the calling thread."""

    def __init__(self, scene: Scene, last_acknowledged: Callable[[], float]) -> None:
        self.struck: Counter[str] = Counter()
        self.recoveries: list[Recovery] = []
        self._scene = scene
        self._last_acknowledged = last_acknowledged
        self._blows: list[Blow] = list(scene.chaos.blows())
        self._armed: list[Armed] = list(scene.chaos.armed())
        self._wounds: dict[str, Wound] = {}
        self._began = time.monotonic()

    @property
    def left(self) -> int:
        """Return how many faults are to come, or not over yet."""
        armed = sum(self._scene.points.is_armed(point) for point in Point)
        return len(self._blows) + len(self._armed) + len(self._wounds) + armed

    @property
    def is_unanswered(self) -> bool:
        """Return whether everything was killed, and no sender was answered since."""
        return self._is_recovering and self.recoveries[-1].accepted_s is None

    @property
    def _is_recovering(self) -> bool:
        """Return whether everything was killed, and nothing else may go wrong yet."""
        return bool(self.recoveries) and not self.recoveries[-1].is_over

    def go_on(self, share: float) -> None:
        """Do what is due, now that so large a share of the studies is acknowledged."""
        self._mend()
        self._arm(share)
        blow = self._due(share)
        if blow is not None:
            self._note(f"{blow.fault}, {blow.held_s:.1f} s, {blow.by:+.0f} s")
            self._blows.remove(blow)
            self.struck[blow.fault] += 1
            self._strike(blow)
        self._let_work()
        for process in self._scene.processes:
            if process.keep():
                self._note(f"{process.name} started again")
        for recovery in self.recoveries:
            recovery.look()

    def faults(self) -> dict[str, int]:
        """Return what went wrong on purpose, and how often."""
        fired = self._scene.points.fired()
        killed = {f"killed {point.value}": n for point, n in fired.items()}
        return {**dict(sorted(self.struck.items())), **killed}

    def relent(self) -> None:
        """Let all that is struck go on."""
        self._scene.points.disarm()
        self._blows, self._armed = [], []
        for place in list(self._wounds):
            self._wounds.pop(place).mend()

    def _note(self, what: str) -> None:
        """Write into the run's folder what was done, and when."""
        with (self._scene.folder / "faults.log").open("a") as log:
            log.write(f"{time.monotonic() - self._began:8.2f} {what}\n")

    def _mend(self) -> None:
        for place, wound in list(self._wounds.items()):
            if wound.until <= time.monotonic():
                del self._wounds[place]
                self._note(f"{place} mended")
                wound.mend()

    def _arm(self, share: float) -> None:
        """Arm the next point that is due; each point is armed once at a time."""
        if self._is_recovering:
            return
        for armed in self._armed:
            if armed.at > share:
                return
            if not self._scene.points.is_armed(armed.point):
                self._note(f"armed {armed.point}")
                self._scene.points.arm(armed.point)
                self._armed.remove(armed)
                return

    def _due(self, share: float) -> Blow | None:
        """Return the next blow that is due and whose place is whole."""
        if self._is_recovering:
            return None
        for blow in self._blows:
            if blow.at > share:
                return None
            if blow.fault is Fault.EVERYTHING_KILLED:
                return None if self._wounds else blow
            if PLACES[blow.fault] not in self._wounds:
                return blow
        return None

    def _strike(self, blow: Blow) -> None:
        """Strike, and note when and how it is mended."""
        place = PLACES[blow.fault]
        match place:
            case "pacs":
                rest_s, mend = blow.held_s, self._strike_pacs(blow.fault)
            case "worker" | "first" | "second" | "broker":
                rest_s, mend = self._strike_process(blow)
            case _:
                rest_s, mend = self._strike_ground(blow)
        self._wounds[place] = Wound(time.monotonic() + rest_s, mend)

    def _strike_process(self, blow: Blow) -> tuple[float, Callable[[], None]]:
        scene, fault = self._scene, blow.fault
        rest_s, mend = blow.held_s, _nothing
        match fault:
            case Fault.WORKER_KILLED:
                scene.worker.end(down_s=blow.held_s)
                rest_s += WORKER_STARTS_S * scene.chaos.longest
            case Fault.FIRST_KILLED | Fault.SECOND_KILLED:
                scene.nodes[fault is Fault.SECOND_KILLED].end(down_s=blow.held_s)
                rest_s += NODE_STARTS_S * scene.chaos.longest
            case Fault.BROKER_KILLED:
                scene.broker.end(down_s=blow.held_s)
            case Fault.BROKER_FLUSHED:
                self._flush()
            case Fault.BROKER_PAUSED:
                scene.broker.freeze()
                mend = scene.broker.thaw
            case _:
                scene.worker.freeze()
                mend = scene.worker.thaw
        return rest_s, mend

    def _strike_pacs(self, fault: Fault) -> Callable[[], None]:
        pacs = self._scene.pacs
        match fault:
            case Fault.PACS_STALLED:
                pacs.send_signal(signal.SIGSTOP)
                return self._thaw_pacs
            case Fault.PACS_STOPPED:
                pacs.stop()
                return pacs.start
            case _:
                self._restart_pacs(REFUSED)
                return self._calm_pacs

    def _strike_ground(self, blow: Blow) -> tuple[float, Callable[[], None]]:
        """Strike what all stand on: the disk, the clock, the database, or everything."""
        scene = self._scene
        match blow.fault:
            case Fault.DISK_FULL:
                scene.disk.fill(scene.pids)
                return blow.held_s, lambda: scene.disk.clear(scene.pids)
            case Fault.CLOCK_AHEAD | Fault.CLOCK_BEHIND:
                scene.clock.jump(blow.by)
                return blow.held_s, lambda: scene.clock.jump(0.0)
            case Fault.EVERYTHING_KILLED:
                self._kill_everything()
                return 0.0, _nothing
            case _:
                assert scene.database is not None
                killed = blow.fault is Fault.DATABASE_KILLED
                scene.database.end(signal.SIGKILL if killed else signal.SIGINT)
                return blow.held_s, scene.database.start

    def _kill_everything(self) -> None:
        """Kill all that is ours and all that it needs; start it again at once."""
        scene = self._scene
        found = snapshot(scene.ledger)
        if scene.database is not None:
            scene.database.end(signal.SIGKILL)
        for process in scene.processes:
            process.end()
        began = time.monotonic()
        if scene.database is not None:
            scene.database.start()
        for process in (scene.broker, *scene.nodes):
            process.start()
        scene.worker.held = True  # what receives is started first: see `_let_work`
        self.recoveries.append(
            Recovery(
                scene.doors,
                scene.ledger,
                found,
                began=began,
                last_acknowledged=self._last_acknowledged,
            )
        )

    def _let_work(self) -> None:
        """Let the worker start once the nodes receive again, as an init system orders."""
        if self.recoveries and self.recoveries[-1].is_receiving:
            self._scene.worker.held = False

    def _flush(self) -> None:
        try:
            with Redis(
                unix_socket_path=str(self._scene.socket), socket_timeout=2
            ) as it:
                it.flushall()
        except RedisError:
            self.struck[Fault.BROKER_FLUSHED] -= 1

    def _thaw_pacs(self) -> None:
        self._scene.pacs.send_signal(signal.SIGCONT)

    def _restart_pacs(self, refused: float) -> None:
        self._scene.pacs.kill()
        self._scene.pacs.refused = refused
        self._scene.pacs.start()

    def _calm_pacs(self) -> None:
        self._restart_pacs(0.0)


def _nothing() -> None:
    """Do nothing: it mends itself."""
