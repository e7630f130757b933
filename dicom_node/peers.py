"""The other systems: who they are, where they are, and what they may do.

One table says it all: the front doors ask it who may send, priorities and
completeness ask it how urgent and how many, and the outbox asks it where results
go. Values only; nothing here opens a connection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from dicom_node.callers import Identity, certificate_mark, network
from dicom_node.domain import ALWAYS_COMPOSED, ObjectKind, Priority
from dicom_node.errors import SettingsError

AET_LENGTH = 16
"""An AE title has at most 16 characters (PS3.5 6.2, VR AE)."""

PORT_MAX = 65535

_STRICT: Mapping[str, object] = {"extra": "forbid"}

_NEITHER = {
    "addresses": "neither an IP address nor a network (10.1.2.0/24)",
    "certificates": "neither a SHA-256 fingerprint nor a name",
}


class Right(StrEnum):
    """What a peer may do."""

    SEND = "send"
    """Send instances to the node."""
    QUERY = "query"
    """Ask the node what it has."""
    DESTINATION = "destination"
    """Be sent results."""


class Via(StrEnum):
    """How results reach a destination."""

    DIMSE = "dimse"
    STOW = "stow"
    ORTHANC = "orthanc"
    FOLDER = "folder"


class Syntax(StrEnum):
    """A transfer syntax that results may be sent in."""

    EXPLICIT = "explicit"
    IMPLICIT = "implicit"
    RLE = "rle"


class Verify(StrEnum):
    """How a destination is asked whether it has what it said it stored."""

    AUTO = "auto"
    """By storage commitment where it is offered, else by a query, else not at all."""
    COMMITMENT = "commitment"
    QUERY = "query"
    NONE = "none"


class Inquiry(StrEnum):
    """How a peer is asked for the number of instances of a study."""

    QIDO = "qido"
    CFIND = "cfind"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a delivery that failed is tried again, and when it is given up.

    The n-th retry waits ``first_s * factor**(n - 1)`` seconds, at most ``cap_s``,
    more or less by the fraction ``jitter``.

    Parameters
    ----------
    max_attempts, max_age_s
        A delivery is given up after so many attempts, or when it has waited so
        long; None means no such limit, but one of them is needed.
    """

    __pydantic_config__ = _STRICT

    first_s: float = 5.0
    factor: float = 2.0
    cap_s: float = 900.0
    jitter: float = 0.2
    max_attempts: int | None = None
    max_age_s: float | None = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        _require(self.first_s > 0, "retry.first_s has to be above 0 seconds")
        _require(self.factor >= 1, "retry.factor has to be at least 1")
        _require(self.cap_s >= self.first_s, "retry.cap_s is below retry.first_s")
        _require(0 <= self.jitter < 1, "retry.jitter has to lie in [0, 1)")
        _require(
            self.max_attempts is None or self.max_attempts >= 1,
            "retry.max_attempts has to be at least 1",
        )
        _require(
            self.max_age_s is None or self.max_age_s > 0,
            "retry.max_age_s has to be above 0 seconds",
        )
        _require(
            not (self.max_attempts is None and self.max_age_s is None),
            "retry needs max_attempts or max_age_s, else nothing is ever given up",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How the node identifies itself to a peer's DICOMweb service.

    Either a user name with a password (HTTP Basic) or a bearer token.
    """

    __pydantic_config__ = _STRICT

    username: str = ""
    password: SecretStr | None = None
    token: SecretStr | None = None

    def __post_init__(self) -> None:
        basic = bool(self.username) and self.password is not None
        stray = bool(self.username) != (self.password is not None)
        _require(not stray, "credentials need both username and password")
        _require(
            basic != (self.token is not None),
            "credentials need either username and password, or a token",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a connection to a peer is protected, and how the node identifies itself.

    Parameters
    ----------
    ca
        Certificates of the authorities that may have signed the peer's, PEM; None
        for those that the system trusts.
    certificate, key
        The node's own, PEM, where the peer asks for one. Without ``key`` the
        certificate's file holds the key, too.
    """

    __pydantic_config__ = _STRICT

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        lone = self.key is not None and self.certificate is None
        _require(not lone, "tls.key is of no use without tls.certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who the node is when it calls a peer, and how patient it is.

    Parameters
    ----------
    aet
        Its title, unless the peer is to be called under another one.
    """

    aet: str = "PACSIGHT"
    connect_timeout_s: float = 10.0
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0
    http_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A system that the node knows: a modality, a PACS, a folder.

    Parameters
    ----------
    name
        What the ledger, the logs and the pages call it; unique.
    aet
        Its Application Entity title.
    called_aets
        The node's titles that it may call; empty for any of them.
    addresses
        Where it calls from: addresses, or networks in CIDR notation; empty for
        anywhere.
    certificates
        SHA-256 fingerprints, or names, one of which the certificate that it calls
        with has to carry; empty for any, or none.
    host, port
        Where it listens for DIMSE; ``host`` alone is the address it sends from.
    dicomweb
        Base URL of its DICOMweb service, e.g. ``http://pacs:8042/dicom-web``.
    orthanc
        Base URL of Orthanc's REST API, with ``via`` ``orthanc``.
    folder
        Where results are written, with ``via`` ``folder``.
    tls
        How its connections are protected; for DIMSE, None is plain TCP.
    priority
        How urgent everything is that it sends; None leaves it to the rules.
    via
        How results reach it, if it is a destination.
    objects
        The kinds of object that it wants. Rejection notes are among them unless
        told otherwise: they exist only where something was withdrawn.
    transfer_syntaxes
        In which it takes them, best first.
    verify
        How it is asked whether it has them.
    calling_aet
        The title under which the node calls it; empty for the node's own.
    expected
        How it can be asked for the number of instances of a study, or None.

    Raises
    ------
    SettingsError
        If what is said contradicts itself or is not enough.
    """

    __pydantic_config__ = _STRICT

    name: str
    aet: str = ""
    called_aets: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()
    host: str = ""
    port: int | None = None
    dicomweb: str = ""
    orthanc: str = ""
    folder: Path | None = None
    tls: Tls | None = None
    rights: frozenset[Right] = frozenset({Right.SEND})
    priority: Priority | None = None
    via: Via = Via.DIMSE
    objects: frozenset[ObjectKind] = frozenset({*ALWAYS_COMPOSED, ObjectKind.REJECTION})
    transfer_syntaxes: tuple[Syntax, ...] = (Syntax.EXPLICIT, Syntax.IMPLICIT)
    verify: Verify = Verify.AUTO
    calling_aet: str = ""
    credentials: Credentials | None = None
    expected: Inquiry | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        _require(bool(self.name.strip()), "a peer needs a name")
        self._check_titles()
        self._check_addresses()
        self._check_identity()
        if Right.SEND in self.rights:
            self._needs("the right to send", "aet", present=self.aet)
        if Right.QUERY in self.rights:
            self._needs("the right to query", "aet", present=self.aet)
        if self.is_destination:
            self._check_destination()
        if self.expected is Inquiry.QIDO:
            self._needs('expected = "qido"', "dicomweb", present=self.dicomweb)
        if self.expected is Inquiry.CFIND:
            self._needs_dimse('expected = "cfind"')

    @property
    def is_destination(self) -> bool:
        """Return whether results are sent to it."""
        return Right.DESTINATION in self.rights

    @property
    def may_commit(self) -> bool:
        """Return whether it may be asked for storage commitment, and report on it."""
        asked = self.verify in {Verify.AUTO, Verify.COMMITMENT}
        return self.is_destination and self.via is Via.DIMSE and asked

    @property
    def identity(self) -> Identity:
        """Return what a caller with its title has to have, too."""
        return Identity(
            networks=tuple(network(text) for text in sorted(self.addresses)),
            certificates=frozenset(map(certificate_mark, self.certificates)),
        )

    def wants(self, kind: ObjectKind) -> bool:
        """Return whether objects of this kind are sent to it."""
        return self.is_destination and kind in self.objects

    def _check_titles(self) -> None:
        for title in (self.aet, self.calling_aet, *sorted(self.called_aets)):
            if title:
                check_aet(title, f"of peer {self.name!r}")

    def _check_addresses(self) -> None:
        if self.port is not None:
            self._holds(0 < self.port <= PORT_MAX, "port has to lie in 1 to 65535")
        for key, address in (("dicomweb", self.dicomweb), ("orthanc", self.orthanc)):
            if address:
                self._check_url(key, address)

    def _check_identity(self) -> None:
        for key, parse in (("addresses", network), ("certificates", certificate_mark)):
            for text in sorted(getattr(self, key)):
                try:
                    parse(text)
                except ValueError:
                    self._holds(False, f"{key}: {text!r} is {_NEITHER[key]}")  # noqa: FBT003

    def _check_url(self, key: str, address: str) -> None:
        url = urlsplit(address)
        web = url.scheme in {"http", "https"} and bool(url.hostname)
        self._holds(web, f"{key} has to be an http or https URL")
        bare = url.username is None and not url.query and not url.fragment
        self._holds(bare, f"{key} is a bare URL: secrets belong into credentials")

    def _check_destination(self) -> None:
        self._holds(bool(self.objects), "a destination has to want some objects")
        once = len(set(self.transfer_syntaxes)) == len(self.transfer_syntaxes) > 0
        self._holds(once, "transfer_syntaxes needs one or more, each once")
        match self.via:
            case Via.DIMSE:
                self._needs_dimse('via = "dimse"')
            case Via.STOW:
                self._needs('via = "stow"', "dicomweb", present=self.dicomweb)
                self._check_protected("dicomweb", self.dicomweb)
            case Via.ORTHANC:
                self._needs('via = "orthanc"', "orthanc", present=self.orthanc)
                self._check_protected("orthanc", self.orthanc)
            case Via.FOLDER:
                folder = str(self.folder or "")
                self._needs('via = "folder"', "folder", present=folder)
        able = self.verify is not Verify.COMMITMENT or self.via is Via.DIMSE
        self._holds(able, 'verify = "commitment" needs via = "dimse"')

    def _check_protected(self, key: str, address: str) -> None:
        plain = self.tls is not None and urlsplit(address).scheme != "https"
        self._holds(not plain, f"tls needs an https address in {key}")

    def _needs_dimse(self, what: str) -> None:
        self._needs(what, "aet", present=self.aet)
        self._needs(what, "host", present=self.host)
        self._needs(what, "port", present=str(self.port or ""))

    def _needs(self, what: str, key: str, *, present: str) -> None:
        self._holds(bool(present), f"{what} needs {key}")

    def _holds(self, condition: bool, message: str) -> None:  # noqa: FBT001 - a check
        _require(condition, f"peer {self.name!r}: {message}")


def check_aet(title: str, where: str) -> None:
    """Raise unless the title is one that an association request can carry.

    PS3.5 6.2: at most 16 characters of the default repertoire, no backslash, no
    control characters; leading and trailing spaces do not count, so they would
    only mislead.
    """
    fits = 0 < len(title) <= AET_LENGTH and title == title.strip()
    plain = title.isascii() and title.isprintable() and "\\" not in title
    _require(
        fits and plain,
        f"the AE title {title!r} {where} is not one to 16 plain ASCII characters",
    )


def check_peers(peers: Iterable[Peer]) -> None:
    """Raise if two peers have one name, or one AE title under which they send."""
    names: set[str] = set()
    senders: dict[str, str] = {}
    for peer in peers:
        _require(peer.name not in names, f"two peers are called {peer.name!r}")
        names.add(peer.name)
        if Right.SEND not in peer.rights:
            continue
        other = senders.setdefault(peer.aet, peer.name)
        _require(
            other == peer.name,
            f"peers {other!r} and {peer.name!r} both send as {peer.aet!r}",
        )


def sender(peers: Iterable[Peer], aet: str) -> Peer | None:
    """Return the peer that may send under this AE title, or None."""
    return next((p for p in peers if p.aet == aet and Right.SEND in p.rights), None)


def destinations(peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Return the peers that results are sent to, in the table's order."""
    return tuple(peer for peer in peers if peer.is_destination)


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - a check
    if not condition:
        raise SettingsError(message)
