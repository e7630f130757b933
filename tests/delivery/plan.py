"""What goes wrong, and when: the storm, drawn from a seed before it begins.

Values and pure functions. Processes are ended when so large a share of the deliveries
has been made, so that a quick machine and a slow one see the same storm; what happens
to a single connection or instance is drawn when it comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle, islice
from random import Random
from signal import SIGKILL, SIGSTOP, SIGTERM, Signals

ENDS = (SIGKILL, SIGTERM, SIGSTOP)


class Target(StrEnum):
    """What can be ended and started again."""

    NODE = "node"
    ARCHIVE = "archive"
    """Orthanc, which is sent to by C-STORE."""
    WEB = "web"
    """Orthanc, which is sent to by STOW-RS."""
    REST = "rest"
    """Orthanc, which is sent reports alone, by its REST API."""


ARCHIVES = (Target.ARCHIVE, Target.WEB, Target.REST)


class Fate(StrEnum):
    """What befalls one connection."""

    LATE = "a pause in the middle"
    DEAF = "stalled: nothing is read any more"
    MUTE = "stalled: nothing is answered any more"
    CUT = "cut while something was sent"
    ANSWER_LOST = "cut before the answer came through"
    REFUSED = "refused by HTTP: 503, 429, 409"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A process that is ended or frozen (SIGSTOP), and goes on after a while.

    Parameters
    ----------
    at
        Share of the deliveries that are made by then.
    """

    at: float
    target: Target
    how: Signals
    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """How bad it gets.

    Parameters
    ----------
    node_kills, archive_stops
        How often the node is killed, and each Orthanc stopped, killed or frozen.
    longest_down_s
        How long a process is gone at most; four times as long where it is frozen.
    retry_cap_s
        How long the node waits at most before it tries again.
    fates
        How many of all connections meet each fate; the rest goes through.
    verify_age_s
        How long an archive may fail to find what it called stored, or to answer.
    refused, lost
        How many instances Orthanc refuses by a status of C-STORE; how many it drops
        although it says that they are stored.
    forgetful
        Which archives do that.
    """

    seed: int
    node_kills: int = 4
    archive_stops: int = 9
    longest_down_s: float = 3.0
    retry_cap_s: float = 2.0
    verify_age_s: float = 60.0
    fates: Mapping[Fate, float] = field(
        default_factory=lambda: {
            Fate.LATE: 0.15,
            Fate.DEAF: 0.02,
            Fate.MUTE: 0.02,
            Fate.CUT: 0.10,
            Fate.ANSWER_LOST: 0.08,
            Fate.REFUSED: 0.12,
        }
    )
    refused: float = 0.06
    lost: float = 0.04
    forgetful: tuple[Target, ...] = ARCHIVES

    def blows(self) -> tuple[Blow, ...]:
        """Return which processes are ended, in order."""
        random = Random(self.seed)  # noqa: S311 - a test's own dice
        kills = [SIGKILL] * self.node_kills
        blows = self._spread(random, Target.NODE, kills)
        for target in ARCHIVES:
            ends = list(islice(cycle(ENDS), self.archive_stops))
            random.shuffle(ends)
            blows += self._spread(random, target, ends)
        return tuple(sorted(blows, key=lambda blow: blow.at))

    def _spread(
        self, random: Random, target: Target, ends: Sequence[Signals]
    ) -> list[Blow]:
        """Return the blows against one target, each in a stretch of its own."""
        return [
            Blow(
                at=(number + random.uniform(0.1, 0.9)) / len(ends),
                target=target,
                how=how,
                down_s=random.uniform(0.1, self.longest_down_s)
                * (4 if how is SIGSTOP else 1),
            )
            for number, how in enumerate(ends)
        ]
