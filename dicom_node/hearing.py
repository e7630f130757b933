"""Where the node listens for associations, to which titles it answers, whom it hears.

PS3.8 9.3.4 (A-ASSOCIATE-RJ): who is not heard gets the reason that the Standard has for
it; the words are for the log. Values only: no connection is known here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dicom_node.callers import Identity, Shown
from dicom_node.tls import ServerTls

CALLING_AET_UNKNOWN, CALLED_AET_UNKNOWN = 0x03, 0x07
"""Diagnostics of a rejection by the service user (PS3.8 Table 9-21)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why somebody is not heard: in the Standard's code, and in words."""

    diagnostic: int
    reason: str


UNKNOWN = Objection(
    diagnostic=CALLING_AET_UNKNOWN, reason="no peer that may call has this AE title"
)
ANOTHER_TITLE = Objection(
    diagnostic=CALLED_AET_UNKNOWN, reason="it calls a title that it may not call"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where the node listens, to which titles it answers, and whom it hears.

    Parameters
    ----------
    port
        0 takes a free one; None: no plain associations.
    tls
        How associations over TLS are protected; None: there are none. Its host and
        port are `tls_host` and `tls_port`.
    called_aets
        The node's titles; empty for any.
    callers
        Who may send: the titles that each AE title may call, empty for all of
        them. None: anybody may send.
    reporters
        Who may report on storage commitment, and nothing else unless among those
        who may send: the titles that each AE title may call.
    askers
        Who may ask what the node has: the titles that each may call, empty for all.
    identities
        What callers with these titles have to have, too.
    stat_associations
        How many more are served at once of those that are urgent.
    is_urgent
        Tells of a calling and a called title whether what comes is urgent.
    min_bytes_per_s
        What a sender has to send, once `acse_timeout_s` have passed.
    grace_s
        How long `StorageScp.stop` waits for associations to end by themselves.
    """

    host: str = "127.0.0.1"
    port: int | None = 0
    tls: ServerTls | None = None
    tls_host: str = "127.0.0.1"
    tls_port: int = 0
    aet: str = "PACSIGHT"
    called_aets: frozenset[str] = frozenset()
    callers: Mapping[str, frozenset[str]] | None = None
    reporters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    askers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    identities: Mapping[str, tuple[Identity, ...]] = field(default_factory=dict)
    max_associations: int = 32
    stat_associations: int = 4
    is_urgent: Callable[[str, str], bool] = lambda _calling, _called: False
    min_bytes_per_s: float = 1000.0
    max_pdu_bytes: int = 256 * 1024
    acse_timeout_s: float = 30.0
    network_timeout_s: float = 60.0
    grace_s: float = 2.0

    def titles_for(self, calling: str) -> frozenset[str]:
        """Return the titles that this caller may call; empty for any."""
        granted = (self.callers or {}, self.askers, self.reporters)
        found = [one[calling] or self.called_aets for one in granted if calling in one]
        if not found:
            return self.called_aets
        return frozenset().union(*found) if all(found) else frozenset()

    def objection(
        self, calling: str, called: str, address: str, shown: Shown | None
    ) -> Objection | None:
        """Return why somebody is not heard, None where he is.

        Parameters
        ----------
        shown
            The certificate that he showed, if any.
        """
        callable_aets = self.called_aets
        if self.callers is not None:
            if calling not in {*self.callers, *self.askers, *self.reporters}:
                return UNKNOWN
            callable_aets = self.titles_for(calling)
        if needed := self.identities.get(calling):
            objections = [one.objection(address, shown) for one in needed]
            if all(objections):
                return Objection(diagnostic=CALLING_AET_UNKNOWN, reason=objections[0])
        if callable_aets and called not in callable_aets:
            return ANOTHER_TITLE
        return None
