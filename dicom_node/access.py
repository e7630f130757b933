"""Who may do what over HTTP: roles, and how somebody shows who they are.

Values only: the settings make them, `dicom_node.web` applies them. A role says what
its bearer may do; which request needs which role stands in `dicom_node.web.rules`.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dicom_node.errors import SettingsError

TOKEN_PREFIX = "pacsight_"  # noqa: S105 - by which a token is known, e.g. to scanners
SHA256_DIGITS = 64
SIGNATURES = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
"""JWA's signatures with a public key (RFC 7518 3.1, RFC 8037): none that shares a secret."""
USER = "pacsight.user"
"""Where a request's scope says who sent it."""

_STRICT: Mapping[str, object] = {"extra": "forbid"}


class Role(StrEnum):
    """What somebody may do over HTTP."""

    SEND = "send"
    """Send instances."""
    VIEW = "view"
    """See studies, their journals and deliveries."""
    OPERATE = "operate"
    """Say that a study is complete, try again, conclude again; and view."""
    ADMINISTER = "administer"
    """See the settings; and operate."""


INCLUDED = {
    Role.SEND: frozenset({Role.SEND}),
    Role.VIEW: frozenset({Role.VIEW}),
    Role.OPERATE: frozenset({Role.OPERATE, Role.VIEW}),
    Role.ADMINISTER: frozenset({Role.ADMINISTER, Role.OPERATE, Role.VIEW}),
}
"""What a role includes: who may do more may also look, but not send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who showed who they are, or an open door's caller, who did not.

    Parameters
    ----------
    name
        A token's name or an issuer's user; empty where nobody is asked.
    expires_at
        Unix time until which that is so; None for a token without an end.
    """

    name: str
    roles: frozenset[Role]
    expires_at: float | None = None

    def may(self, role: Role) -> bool:
        """Return whether one of the roles includes this one."""
        return any(role in INCLUDED[own] for own in self.roles)


ANYBODY = Identity(name="", roles=frozenset(Role))
"""The caller of a door that asks nobody."""


def user_of(scope: MutableMapping[str, Any]) -> str:
    """Return who sent a request, of its ASGI scope; empty where nobody is asked."""
    user = scope.get(USER)
    return user.name if isinstance(user, Identity) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceToken:
    """A token that a service identifies itself with, known by its digest alone.

    A token is made at random (`pacsight token new`), 256 bits of it, so that its plain
    SHA-256 gives nothing away: there is no list of likely ones to try.

    Parameters
    ----------
    name
        Who comes with it, for logs and the audit trail.
    sha256
        SHA-256 of the token, 64 digits.
    """

    __pydantic_config__ = _STRICT

    name: str
    sha256: str
    roles: frozenset[Role]

    def __post_init__(self) -> None:
        _require(
            0 < len(self.name) <= SHA256_DIGITS and self.name.isprintable(),
            "a token's name has one to 64 plain characters",
        )
        digits = set(self.sha256) <= set("0123456789abcdef")
        _require(
            len(self.sha256) == SHA256_DIGITS and digits,
            f"the token {self.name!r} needs the 64 digits of its SHA-256, 0-9 and a-f:"
            " `pacsight token new` prints them",
        )
        _require(bool(self.roles), f"the token {self.name!r} has no roles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An OpenID Connect issuer whose signed tokens are accepted.

    Parameters
    ----------
    audience
        What its tokens have to name as ``aud``.
    roles_claim, username_claim
        Where a token says them; dots lead into objects (``realm_access.roles``).
    role_prefix
        What stands before our roles there, e.g. ``pacsight-``.
    algorithms
        Signatures that are accepted, of `SIGNATURES`.
    leeway_s
        How far its clock may be off ours.
    ca
        Authorities that may have signed its certificate, PEM; None for those that
        the system trusts.
    """

    issuer: str
    audience: str
    roles_claim: str = "roles"
    role_prefix: str = ""
    username_claim: str = "sub"
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    leeway_s: float = 30.0
    ca: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        _require(
            bool(parts.hostname) and (parts.scheme == "https" or plain),
            "http.oidc.issuer has to be an https address",
        )
        _require(bool(self.audience), "http.oidc.audience must not be empty")
        _require(
            bool(self.algorithms) and SIGNATURES.issuperset(self.algorithms),
            f"http.oidc.algorithms can be {', '.join(sorted(SIGNATURES))}",
        )
        most = 300
        _require(
            0 <= self.leeway_s <= most, f"http.oidc.leeway_s is 0 to {most} seconds"
        )


def digest_of(token: str) -> str:
    """Return what the settings hold of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def check_tokens(tokens: Iterable[ServiceToken]) -> None:
    """Raise if two tokens have one name, or are the same."""
    seen: set[str] = set()
    for token in tokens:
        _require(token.name not in seen, f"two tokens are called {token.name!r}")
        _require(
            token.sha256 not in seen,
            f"the token {token.name!r} has the digest of another",
        )
        seen |= {token.name, token.sha256}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - a check
    if not condition:
        raise SettingsError(message)
