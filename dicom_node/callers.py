"""Who calls: an AE title, the address it calls from, the certificate it showed.

An AE title is a claim that anybody can make (PS3.8 7.1.1.3 carries it in the clear);
an address narrows it, a certificate proves it (PS3.15 B.12). Values only: how they
were learnt of a connection is not known here.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FINGERPRINT = re.compile(r"(?:sha-?256[:=])?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})")
"""SHA-256 as ``openssl x509 -fingerprint -sha256`` writes it, with or without colons."""
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The certificate that a caller showed, signed by an authority that we trust.

    Parameters
    ----------
    fingerprint
        SHA-256 of it, 64 hexadecimal digits in lower case.
    names
        The DNS names of its Subject Alternative Name, and its Common Name.
    """

    fingerprint: str
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a caller with a certain AE title has to have, too.

    Parameters
    ----------
    networks
        Where it calls from; empty for anywhere.
    certificates
        Fingerprints or names, one of which its certificate has to carry; empty for
        any certificate, or none.
    """

    networks: tuple[Network, ...] = ()
    certificates: frozenset[str] = field(default_factory=frozenset)

    def objection(self, address: str, shown: Shown | None) -> str:
        """Return in words why this is not the one, empty if it is."""
        if self.networks and not _within(address, self.networks):
            return "it calls from an address that is not among this peer's addresses"
        if not self.certificates:
            return ""
        if shown is None:
            return "this peer has to show a certificate, over TLS"
        if self.certificates.isdisjoint({shown.fingerprint, *shown.names}):
            return "its certificate is not among this peer's certificates"
        return ""


def identities(
    titles: Iterable[tuple[str, Identity]],
) -> Mapping[str, tuple[Identity, ...]]:
    """Return what each title needs; a title that two peers share, either's."""
    found: dict[str, tuple[Identity, ...]] = {}
    for title, identity in titles:
        if identity.networks or identity.certificates:
            found[title] = (*found.get(title, ()), identity)
    return found


def network(text: str) -> Network:
    """Return an address, or a network in CIDR notation.

    Raises
    ------
    ValueError
        If it is neither.
    """
    return ipaddress.ip_network(text.strip())


def certificate_mark(text: str) -> str:
    """Return a fingerprint as 64 digits, or a host name, in lower case.

    Raises
    ------
    ValueError
        If it is neither.
    """
    plain = text.strip().lower()
    if found := FINGERPRINT.fullmatch(plain):
        return found.group(1).replace(":", "")
    if HOST_NAME.fullmatch(plain):
        return plain
    raise ValueError("neither a SHA-256 fingerprint nor a name")


def names_of(certificate: Mapping[str, Any]) -> frozenset[str]:
    """Return the names in a certificate as `ssl.SSLSocket.getpeercert` tells it."""
    told = [
        name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"
    ]
    for part in certificate.get("subject", ()):
        told += [value for key, value in part if key == "commonName"]
    return frozenset(name.lower() for name in told)


def _within(address: str, networks: Iterable[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # ::ffff:10.0.0.1
    return any((mapped or parsed) in one for one in networks)
