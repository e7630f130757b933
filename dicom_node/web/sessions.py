"""Browsers that somebody logged in with: a cookie each, in memory, not for long.

OWASP Session Management Cheat Sheet: 256 random bits, ``HttpOnly``, ``SameSite=Strict``,
``Secure`` and the ``__Host-`` prefix under TLS, our own or that of a proxy which the
settings name. A node that starts again knows none.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import time

from starlette.requests import HTTPConnection
from starlette.responses import Response

from dicom_node.access import Identity

IDLE_S = 1800.0
LONGEST_S = 8 * 3600.0
"""A shift."""
MOST = 1000
COOKIE = "pacsight"
SECURE_COOKIE = f"__Host-{COOKIE}"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser, and whose it is.

    Parameters
    ----------
    csrf
        What every form of its pages carries, and no other site knows.
    until
        Unix time when it ends, whatever is done with it.
    """

    key: str
    identity: Identity
    csrf: str
    until: float


class Sessions:
    """The browsers that somebody logged in with.

    Parameters
    ----------
    clock
        Unix time: a signed token's end is told in it.
    """

    def __init__(self, *, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[Session, float]] = OrderedDict()

    def open(self, identity: Identity) -> Session:
        """Return a new session."""
        now = self._clock()
        until = min(now + LONGEST_S, identity.expires_at or now + LONGEST_S)
        session = Session(
            key=secrets.token_urlsafe(KEY_BYTES),
            identity=identity,
            csrf=secrets.token_urlsafe(KEY_BYTES),
            until=until,
        )
        self._known[session.key] = (session, now)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return session

    def tell(
        self, session: Session, request: HTTPConnection, response: Response
    ) -> None:
        """Give the browser the session's cookie."""
        response.set_cookie(
            _cookie(request),
            session.key,
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def of(self, request: HTTPConnection) -> Session | None:
        """Return the session that a request's cookie names, if it goes on."""
        key = request.cookies.get(_cookie(request), "")
        session, seen = self._known.pop(key, (None, 0.0))
        now = self._clock()
        if session is None or now >= session.until or now - seen >= IDLE_S:
            return None
        self._known[key] = (session, now)
        return session

    def identity(self, request: HTTPConnection) -> Identity | None:
        """Return whose browser sent a request."""
        session = self.of(request)
        return session.identity if session else None

    def close(
        self, session: Session, request: HTTPConnection, response: Response
    ) -> None:
        """End a session, and take its cookie back."""
        self._known.pop(session.key, None)
        response.delete_cookie(
            _cookie(request),
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )


def is_secure(request: HTTPConnection) -> bool:
    """Return whether a request came over TLS, as far as we can know."""
    return bool(request.scope.get("scheme") == "https")


def _cookie(request: HTTPConnection) -> str:
    return SECURE_COOKIE if is_secure(request) else COOKIE
