"""When somebody who sends, or reads, is too slow to be waited for. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowness:
    """The least that is expected.

    Parameters
    ----------
    patience_s
        How long it may take in any case.
    bytes_per_s
        What has to be sent afterwards, on average.
    """

    patience_s: float
    bytes_per_s: float

    def is_reached(self, seconds: float, done: int) -> bool:
        """Return whether it took too long to send, or to read, so many bytes."""
        return seconds > self.patience_s + done / self.bytes_per_s
