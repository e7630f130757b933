"""Ask everything at once, and no longer than each question may take."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dicom_node.doctor.finding import Ailment, Finding, Hop

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question to one hop.

    Parameters
    ----------
    who
        The part of the hop that is asked, as `Finding.who`.
    ask
        Returns what was found, in the order in which it is to be told.
    limit_s
        After so long the answer is that there is none.
    """

    hop: Hop
    who: str = ""
    ask: Callable[[], Sequence[Finding]]
    limit_s: float = LIMIT_S


@dataclass(slots=True)
class _Running:
    """A question on its way, in a thread that nobody waits for at the end."""

    check: Check
    found: Sequence[Finding] = ()
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            self.found = self.check.ask()
        except Exception as error:  # noqa: BLE001 - one question never costs another
            said = f"the question ended with {type(error).__name__}"
            self.found = [self._fault(said, Ailment.CHECK)]
        self.done.set()

    def result(self, deadline: float) -> Sequence[Finding]:
        """Return what was found by then."""
        if self.done.wait(max(0.0, deadline - time.monotonic())):
            return self.found
        said = f"it did not answer within {self.check.limit_s:.0f} s"
        return [self._fault(said, Ailment.SLOW)]

    def _fault(self, said: str, ailment: Ailment) -> Finding:
        hop, who = self.check.hop, self.check.who
        return Finding(hop=hop, who=who, said=said, ailment=ailment)


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Yield what is found, in the order of the checks, as soon as it is known."""
    running = [_Running(check) for check in checks]
    began = time.monotonic()
    for one in running:
        threading.Thread(target=one.run, daemon=True).start()
    for one in running:
        yield from one.result(began + one.check.limit_s)
