"""Who is there, and whether they may come in: decides, keeps count, tells the trail.

Whatever is refused is refused here, with its HTTP status, and never with a word of
the token that was shown.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Protocol

import structlog

from dicom_node.access import ANYBODY, TOKEN_PREFIX, Identity, Role, ServiceToken
from dicom_node.domain import Alarm, Note, SecurityAlert, UserAuthenticated
from dicom_node.web import tokens
from dicom_node.web.budget import Budget, caller_at
from dicom_node.web.rules import Rule

LONGEST_TOKEN = 16_384
"""Characters. Signed tokens with many groups come near half of it."""
GREETED_S = 600.0
"""Somebody who comes again within that time is not told to the trail again."""
GREETED_MOST = 4096

log = structlog.get_logger(__name__)


class RefusedError(Exception):
    """A request that is not let in: what it is answered.

    Parameters
    ----------
    retry_after_s
        When it may come again, 0 where that would not help.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, *, retry_after_s: int = 0
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


class Verifier(Protocol):
    """Tells whose signed token it is."""

    async def identify(self, token: str) -> Identity | None:
        """Return whose it is, or None for nobody's.

        Raises
        ------
        RefusedError
            503 where that cannot be told now.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often somebody may ask, and how often in vain, a minute."""

    requests_per_minute: int = 30_000
    failures_per_minute: int = 30


class Doorman:
    """Lets requests in, or not.

    Parameters
    ----------
    service_tokens, issuer
        How somebody may show who they are. Where both are missing, nobody is asked.
    clock
        Seconds that never go back.
    """

    def __init__(
        self,
        *,
        service_tokens: Sequence[ServiceToken] = (),
        issuer: Verifier | None = None,
        limits: Limits | None = None,
        note: Note = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        limits = limits or Limits()
        self._tokens = tuple(service_tokens)
        self._issuer = issuer
        self._note = note
        self._clock = clock
        self._requests = Budget(limits.requests_per_minute, clock=clock)
        self._failures = Budget(limits.failures_per_minute, clock=clock)
        self._greeted: OrderedDict[tuple[str, str], float] = OrderedDict()

    @property
    def asks(self) -> bool:
        """Return whether somebody has to show who they are."""
        return bool(self._tokens) or self._issuer is not None

    async def identify(self, token: str, address: str) -> Identity:
        """Return whose token it is.

        Raises
        ------
        RefusedError
            401 if it is nobody's, 429 after too many of those, 503 if an issuer
            cannot be asked.
        """
        found = await self._whose(token)
        if found is None:
            self._fail(address)
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "the token is not accepted")
        self._greet(found.name, address)
        return found

    def count(self, identity: Identity | None, address: str) -> None:
        """Count a request.

        Raises
        ------
        RefusedError
            429 if there were too many of that name, or of that address.
        """
        named = identity is not None and identity.name
        caller = f"name {named}" if named else f"address {caller_at(address)}"
        wait_s = self._requests.take(caller)
        if wait_s:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many requests",
                retry_after_s=wait_s,
            )

    def admit(
        self, rule: Rule | None, identity: Identity | None, address: str
    ) -> Identity | None:
        """Return who comes in: None where everybody may.

        Raises
        ------
        RefusedError
            401 for nobody, 403 for somebody without the role.
        """
        if not self.asks:
            return ANYBODY
        if rule is not None and rule.role is None:
            return identity
        if identity is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")
        if rule is not None and rule.role is not None:
            self._check_role(rule, rule.role, identity, address)
        return identity

    async def _whose(self, token: str) -> Identity | None:
        if not token or len(token) > LONGEST_TOKEN:
            return None
        if self._issuer is None or token.startswith(TOKEN_PREFIX):
            return tokens.identify(token, self._tokens)
        return await self._issuer.identify(token)

    def _fail(self, address: str) -> None:
        wait_s = self._failures.take(caller_at(address))
        if wait_s:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many tokens that are not accepted",
                retry_after_s=wait_s,
            )
        log.warning("token_refused", address=address)
        self._note(UserAuthenticated(user="", address=address, accepted=False))

    def _greet(self, name: str, address: str) -> None:
        now = self._clock()
        key = (name, address)
        at = self._greeted.pop(key, None)
        known = at is not None and now - at < GREETED_S
        self._greeted[key] = at if known and at is not None else now
        if len(self._greeted) > GREETED_MOST:
            self._greeted.popitem(last=False)
        if not known:
            self._note(UserAuthenticated(user=name, address=address, accepted=True))

    def _check_role(
        self, rule: Rule, role: Role, identity: Identity, address: str
    ) -> None:
        if identity.may(role):
            return
        reason = f"{rule.method} {rule.path} needs the role {role}"
        log.warning("role_missing", address=address, reason=reason)
        self._note(
            SecurityAlert(
                alarm=Alarm.USE_OF_RESTRICTED_FUNCTION,
                reason=reason,
                who=identity.name,
                address=address,
            )
        )
        raise RefusedError(HTTPStatus.FORBIDDEN, f"this needs the role {role}")
