"""What goes wrong, and when: drawn from a seed before anything begins.

Values and pure functions. A fault falls when so large a share of the studies is
acknowledged, so that a quick machine and a slow one see the same run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """A kind of fault."""

    WORKER_KILLED = "worker killed"
    FIRST_KILLED = "first node killed"
    SECOND_KILLED = "second node killed"
    BROKER_KILLED = "Redis killed"
    EVERYTHING_KILLED = "everything killed at once"
    BROKER_FLUSHED = "Redis flushed"
    BROKER_PAUSED = "Redis paused"
    PACS_STOPPED = "PACS stopped"
    PACS_REFUSES = "PACS refuses half"
    PACS_STALLED = "PACS stalled"
    DISK_FULL = "disk full"
    CLOCK_AHEAD = "clock jumps ahead, and back"
    CLOCK_BEHIND = "clock jumps back, and ahead"
    WORKER_HANGS = "worker hangs"
    DATABASE_KILLED = "PostgreSQL killed"
    DATABASE_RESTARTED = "PostgreSQL restarted"


class Point(StrEnum):
    """A place in the code at which a process is killed."""

    AFTER_RENAME = "after-rename"
    BEFORE_ROW = "before-row"
    BEFORE_COMMIT = "before-commit"
    BEFORE_RESPONSE = "before-response"
    AFTER_PUBLISHING = "after-publishing"
    AFTER_COMPOSING = "after-composing"
    AFTER_RESULT = "after-result"
    AFTER_SENDING = "after-sending"


FEW_POINTS = (
    Point.AFTER_RENAME,
    Point.BEFORE_RESPONSE,
    Point.AFTER_COMPOSING,
    Point.AFTER_SENDING,
)
"""Those of a short run: each kill costs the start of a process."""
OF_POSTGRESQL = (Fault.DATABASE_KILLED, Fault.DATABASE_RESTARTED)
OF_TWO_NODES = (Fault.SECOND_KILLED,)

HELD_S: Mapping[Fault, tuple[float, float]] = {
    Fault.WORKER_KILLED: (0.0, 0.5),
    Fault.FIRST_KILLED: (0.0, 2.0),
    Fault.SECOND_KILLED: (0.0, 2.0),
    Fault.BROKER_KILLED: (0.0, 2.0),
    Fault.EVERYTHING_KILLED: (0.0, 0.0),
    Fault.BROKER_FLUSHED: (0.0, 0.0),
    Fault.BROKER_PAUSED: (0.5, 6.0),
    Fault.PACS_STOPPED: (0.5, 6.0),
    Fault.PACS_REFUSES: (1.0, 6.0),
    Fault.PACS_STALLED: (0.5, 12.0),
    Fault.DISK_FULL: (1.0, 6.0),
    Fault.CLOCK_AHEAD: (1.0, 5.0),
    Fault.CLOCK_BEHIND: (1.0, 5.0),
    Fault.WORKER_HANGS: (1.2, 1.6),
    Fault.DATABASE_KILLED: (0.0, 1.0),
    Fault.DATABASE_RESTARTED: (0.0, 1.0),
}
"""How long each lasts, shortest and longest; a hanging worker: in leases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault that falls once so large a share of the studies is acknowledged.

    Parameters
    ----------
    held_s
        How long it lasts.
    by
        How far a clock jumps, in seconds.
    """

    at: float
    fault: Fault
    held_s: float
    by: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """A point that is armed once so large a share of the studies is acknowledged."""

    at: float
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """A run, all of it drawn from the seed.

    Parameters
    ----------
    faults, kills
        How many faults of each kind there are, and kills at each point.
    nodes
        Two, or one where the ledger is SQLite.
    lease_s
        After how long a silent worker loses its work.
    longest
        Share of the drawn durations that faults last: a short run has short ones.
    """

    seed: int
    studies: int
    faults: int = 14
    kills: int = 20
    points: Sequence[Point] = tuple(Point)
    nodes: int = 2
    lease_s: float = 15.0
    longest: float = 1.0

    def kinds(self) -> tuple[Fault, ...]:
        """Return the kinds of fault that this run can have."""
        missing = () if self.nodes > 1 else (*OF_POSTGRESQL, *OF_TWO_NODES)
        return tuple(kind for kind in Fault if kind not in missing)

    def blows(self) -> Sequence[Blow]:
        """Return the faults, in their order."""
        random = Random(f"blows {self.seed}")  # noqa: S311 - a test's own dice
        kinds = [kind for kind in self.kinds() for _ in range(self.faults)]
        random.shuffle(kinds)
        return [
            self._blow(kind, _place(number, len(kinds), random), random)
            for number, kind in enumerate(kinds)
        ]

    def armed(self) -> Sequence[Armed]:
        """Return the points at which processes are killed, in their order."""
        random = Random(f"points {self.seed}")  # noqa: S311 - a test's own dice
        points = [point for point in self.points for _ in range(self.kills)]
        random.shuffle(points)
        return [
            Armed(at=_place(number, len(points), random), point=point)
            for number, point in enumerate(points)
        ]

    def planned(self) -> Counter[str]:
        """Return how often each kind of fault, and each point, is to come."""
        return Counter(
            [b.fault.value for b in self.blows()]
            + [a.point.value for a in self.armed()]
        )

    def _blow(self, fault: Fault, at: float, random: Random) -> Blow:
        least, most = HELD_S[fault]
        held_s = random.uniform(least, most) * self.longest
        by = 0.0
        if fault is Fault.WORKER_HANGS:
            held_s = random.uniform(least, most) * self.lease_s
        elif fault is Fault.CLOCK_AHEAD:
            by = random.choice([20.0, 300.0, 3600.0, 86400.0])
        elif fault is Fault.CLOCK_BEHIND:
            by = -random.choice([20.0, 300.0, 3600.0])
        return Blow(at=at, fault=fault, held_s=held_s, by=by)


def _place(number: int, count: int, random: Random) -> float:
    """Return where in the run it falls: each has a stretch of its own."""
    return 0.02 + 0.94 * (number + random.uniform(0.1, 0.9)) / count
