"""Whose a signed token is: OpenID Connect, as a resource server sees it.

OpenID Connect Discovery 1.0, RFC 7517 (keys), RFC 7519 (JWT) and RFC 8725 (its best
practices): only signatures with a public key, only of this issuer, only for us. Its
keys are looked up when an unknown one is named, seldom enough that nobody can make us
ask in a loop; while the issuer is away, those that we have go on.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from time import monotonic
from urllib.parse import urlsplit

import jwt
import requests
import structlog
from anyio import CapacityLimiter, to_thread
from jwt import PyJWK

from dicom_node.access import Identity, Issuer, Role, is_loopback
from dicom_node.web.doorman import RefusedError

CONFIGURATION = "/.well-known/openid-configuration"
FRESH_S = 3600.0
"""Keys are looked up again after so long, so that one that was withdrawn is dropped."""
PAUSE_S = 10.0
"""At least so long between two look-ups, whatever tokens name and however they end."""
KEPT_S = 86_400.0
"""Keys of an issuer that is away are good for so long."""
TIMEOUT_S = 5.0
LONGEST_ANSWER = 1 << 20
LOOKUPS = 4
"""Threads that may wait for the issuer: nobody else waits with them."""

Json = Mapping[str, object]

log = structlog.get_logger(__name__)


class IssuerAwayError(Exception):
    """The issuer does not answer, or not with its keys."""


class SignedTokens:
    """Tells whose a signed token is.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(
        self, issuer: Issuer, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._issuer = issuer
        self._keys = Keys(lambda: fetch_keys(issuer), clock=clock)
        self._threads = CapacityLimiter(LOOKUPS)

    async def identify(self, token: str) -> Identity | None:
        """Return whose token it is, or None for nobody's.

        Raises
        ------
        RefusedError
            503 while the issuer is away and its keys are not known.
        """
        return await to_thread.run_sync(self._identify, token, limiter=self._threads)

    def _identify(self, token: str) -> Identity | None:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):  # nobody's: its header can be anything
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._issuer.algorithms:
            return None
        try:
            key = self._keys.find(kid, algorithm)
        except IssuerAwayError as error:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the issuer of tokens cannot be reached",
                retry_after_s=int(PAUSE_S),
            ) from error
        return None if key is None else self._verified(token, key, algorithm)

    def _verified(self, token: str, key: PyJWK, algorithm: str) -> Identity | None:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer.issuer,
                audience=self._issuer.audience,
                leeway=self._issuer.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            log.info("token_not_valid", error_type=type(error).__name__)
            return None
        return identity_of(claims, self._issuer)


def identity_of(claims: Json, issuer: Issuer) -> Identity | None:
    """Return who a token with these claims is for; None if it names nobody."""
    name = _at(claims, issuer.username_claim)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return None
    said = _at(claims, issuer.roles_claim)
    words = said.split() if isinstance(said, str) else said
    if not isinstance(words, Sequence):
        words = ()
    ours = {
        word.removeprefix(issuer.role_prefix)
        for word in words
        if isinstance(word, str) and word.startswith(issuer.role_prefix)
    }
    roles = frozenset(role for role in Role if role.value in ours)
    expires = claims.get("exp")
    expires_at = float(expires) if isinstance(expires, int | float) else None
    return Identity(name=name[:64], roles=roles, expires_at=expires_at)


class Keys:
    """An issuer's keys, as far as we know them."""

    def __init__(
        self,
        fetch: Callable[[], Sequence[Json]],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: tuple[Json, ...] = ()
        self._fetched_at: float | None = None
        self._asked_at: float | None = None

    def find(self, kid: object, algorithm: str) -> PyJWK | None:
        """Return the key of that name for that algorithm, or None.

        Raises
        ------
        IssuerAwayError
            If no key is known, and the issuer does not tell.
        """
        with self._lock:
            if self._age() > FRESH_S:
                self._look_up()
            if self._age() > KEPT_S:
                raise IssuerAwayError
            found = self._named(kid, algorithm)
            if found is None and self._look_up():
                found = self._named(kid, algorithm)
        return found

    def _age(self) -> float:
        if self._fetched_at is None:
            return float("inf")
        return self._clock() - self._fetched_at

    def _look_up(self) -> bool:
        """Return whether there are new keys; the former ones stay if there are none."""
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < PAUSE_S:
            return False
        try:
            self._keys = tuple(self._fetch())
        except (requests.RequestException, ValueError) as error:
            log.warning("issuer_away", error_type=type(error).__name__)
            return False
        else:
            self._fetched_at = self._clock()
            return True
        finally:
            self._asked_at = self._clock()

    def _named(self, kid: object, algorithm: str) -> PyJWK | None:
        fitting = [
            key
            for key in self._keys
            if key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and (kid is None or key.get("kid") == kid)
        ]
        if kid is None and len(self._keys) > 1:
            return None  # RFC 7515 4.1.4: a name is left out where there is no choice
        for key in fitting:
            try:
                return PyJWK.from_dict(dict(key), algorithm=algorithm)
            except jwt.PyJWTError:
                continue
        return None


def fetch_keys(issuer: Issuer) -> Sequence[Json]:
    """Return the issuer's keys, of the place that its configuration names.

    Raises
    ------
    requests.RequestException, ValueError
        If it does not answer, or with something else.
    """
    told = _get(issuer.issuer.rstrip("/") + CONFIGURATION, issuer)
    if told.get("issuer") != issuer.issuer:
        raise ValueError("the configuration is another issuer's")
    place = told.get("jwks_uri")
    if not isinstance(place, str) or not _is_safe(place):
        raise ValueError("the configuration names no place of keys")
    keys = _get(place, issuer).get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError("there are no keys")
    return keys


def _get(url: str, issuer: Issuer) -> Json:
    """Return the JSON object at an address, of limited size and without detours."""
    verify = True if issuer.ca is None else str(issuer.ca)
    with requests.get(
        url, timeout=TIMEOUT_S, verify=verify, allow_redirects=False, stream=True
    ) as response:
        response.raise_for_status()
        content = bytearray()
        for chunk in response.iter_content(1 << 16):
            content += chunk
            if len(content) > LONGEST_ANSWER:
                raise ValueError("the answer is too long")
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError("the answer is no object")  # noqa: TRY004 - as json's own
    return told


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    )


def _at(claims: Json, path: str) -> object:
    """Return the claim of that name, else the one that dots lead to."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found
