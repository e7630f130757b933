"""A queue that a test can look into, and a worker that takes from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dicom_node.dispatch import BrokerDownError, Holding
from dicom_node.domain import Priority

Kind = Literal["embed", "conclude"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a broker would carry: a kind and a key."""

    kind: Kind
    key: int
    priority: Priority


@dataclass
class RecordingDispatcher:
    """Keeps what is sent, in order; can be down.

    The same as a broker with priority queues: `take` gives the most urgent message,
    the oldest first.
    """

    down: bool = False
    forgot: bool = False
    waits: bool = True
    messages: list[Message] = field(default_factory=list)

    def holding(self) -> Holding:
        """Return what the test says."""
        if self.down:
            raise BrokerDownError("the broker is not available")
        return Holding(forgot=self.forgot, waits=self.waits)

    def mark(self) -> None:
        """Be known again."""
        self.forgot = False

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Keep a message about a batch."""
        self._keep(Message(kind="embed", key=batch_id, priority=priority))

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Keep a message about a job."""
        self._keep(Message(kind="conclude", key=job_id, priority=priority))

    def take(self) -> Message | None:
        """Return the next message and forget it; None if there is none."""
        if not self.messages:
            return None
        first = min(self.messages, key=lambda m: m.priority)
        self.messages.remove(first)
        return first

    def take_all(self) -> Sequence[Message]:
        """Return what is on the queue, and forget it."""
        taken, self.messages = self.messages, []
        return taken

    def _keep(self, message: Message) -> None:
        if self.down:
            raise BrokerDownError("the broker is not available")
        self.messages.append(message)
