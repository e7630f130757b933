"""How often somebody may ask: a bucket of tokens for each name or address.

The generic cell rate algorithm of ATM Forum TM 4.1, as a bucket that fills at a steady
rate: one number and one time for each caller, and no more callers than fit.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

MINUTE_S = 60.0
MOST_CALLERS = 10_000
"""Of more callers those are forgotten that have been silent longest: theirs are full."""
NETWORK_BITS = 64
"""An IPv6 customer has at least so much (RFC 6177): its addresses count as one."""


class Budget:
    """Lets each caller do so much a minute, all of it at once if they like.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(
        self, per_minute: int, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._most = float(per_minute)
        self._rate = per_minute / MINUTE_S
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int:
        """Return 0 and count one, or the seconds until there is one again."""
        now = self._clock()
        left, at = self._left.pop(caller, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        allowed = left >= 1
        self._left[caller] = (left - 1 if allowed else left, now)
        if len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) / self._rate)


def caller_at(address: str) -> str:
    """Return by what an address is counted: itself, or its IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, NETWORK_BITS), strict=False))
