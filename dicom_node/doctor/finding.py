"""What a question to one hop of the flow led to."""

from dataclasses import dataclass
from enum import StrEnum


class Hop(StrEnum):
    """A station of the flow, in its order."""

    SETTINGS = "settings"
    FOLDERS = "folders"
    LEDGER = "ledger"
    BROKER = "broker"
    WORKERS = "workers"
    PACKS = "packs"
    DOORS = "doors"
    PEERS = "peers"


class Mark(StrEnum):
    """How much it matters."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """It could not be asked, because of something that is broken elsewhere."""


class Ailment(StrEnum):
    """What can be wrong. Scripts may rely on these words."""

    SETTINGS = "settings"
    FOLDER = "folder"
    DISK_NEARLY_FULL = "disk-nearly-full"
    DISK_FILLING = "disk-filling"
    LEDGER_MISSING = "ledger-missing"
    LEDGER_GONE = "ledger-gone"
    LEDGER_LOCKED = "ledger-locked"
    LEDGER_OUTDATED = "ledger-outdated"
    BROKER_GONE = "broker-gone"
    NO_WORKER = "no-worker"
    NO_GPU = "no-gpu"
    PACK = "pack-does-not-verify"
    NODE_DOWN = "node-down"
    PORT_CLOSED = "port-closed"
    NO_ANSWER = "no-answer"
    HOST_UNKNOWN = "host-unknown"
    TLS_MISMATCH = "tls-mismatch"
    TITLE_REJECTED = "title-rejected"
    BUSY = "busy"
    NO_COMMON_SYNTAX = "no-common-syntax"
    WRONG_TOKEN = "wrong-token"  # noqa: S105 - a name
    NOT_A_SERVICE = "not-a-service"
    LOSES_OBJECTS = "loses-objects"
    GIVEN_UP = "given-up"
    NOT_STORED = "not-stored"
    UNASKED = "unasked"
    SLOW = "slow"
    CHECK = "check-failed"


WARNINGS = frozenset({Ailment.DISK_FILLING, Ailment.GIVEN_UP, Ailment.BUSY})
"""The flow goes on; somebody should look all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found at a hop.

    Parameters
    ----------
    who
        The part of the hop: a folder, a pack's or peer's name; empty for all of it.
    said
        One sentence, without patient data and secrets.
    ailment
        What is wrong; None for nothing.
    """

    hop: Hop
    said: str
    who: str = ""
    ailment: Ailment | None = None

    @property
    def mark(self) -> Mark:
        """Return how much it matters."""
        if self.ailment is None:
            return Mark.OK
        if self.ailment is Ailment.UNASKED:
            return Mark.UNKNOWN
        return Mark.WARNING if self.ailment in WARNINGS else Mark.BROKEN
