"""What stands before every route: who is there, may they, and what browsers are told.

RFC 6750 (bearer tokens), RFC 6585 4 (429), and the headers that OWASP's HTTP Headers
Cheat Sheet asks for. ASGI, so that bodies stream through untouched.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.access import USER, Identity, is_loopback
from dicom_node.web.doorman import Doorman, RefusedError
from dicom_node.web.rules import Rule, rule_for

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none, browsers leave the origin out of forms, too
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer says, unless its route says it otherwise."""
STRICT_TRANSPORT = "max-age=31536000"
"""RFC 6797: a browser that came by TLS comes by TLS for a year."""


class Guard:
    """An ASGI application that lets requests through to another, or answers them.

    Parameters
    ----------
    sessions
        Tells of a request's cookies whose browser it is.
    any_host
        Whether a door that asks nobody answers under every host name. If not, it does
        so only as ``localhost`` or a loopback address, so that no page of another site
        can make a browser on this machine ask in its name (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        doorman: Doorman,
        *,
        sessions: Callable[[HTTPConnection], Identity | None],
        any_host: bool = False,
    ) -> None:
        self._app = app
        self._doorman = doorman
        self._sessions = sessions
        self._any_host = any_host or doorman.asks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return  # no lifespan, no web sockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = STRICT_TRANSPORT
            await send(message)

        try:
            scope[USER] = await self._admit(scope)
        except RefusedError as refused:
            await _answer(scope, refused, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    async def _admit(self, scope: Scope) -> Identity | None:
        """Return who sent a request that may come in."""
        request = HTTPConnection(scope)
        headers = request.headers
        address = request.client.host if request.client else ""
        rule = rule_for(scope["method"], scope["path"])
        if rule is None or rule.role is not None or rule.by_session:
            self._check_host(headers)
        if scope["method"] in UNSAFE:
            _check_origin(headers)
        identity = await self._identify(request, rule, address)
        self._doorman.count(identity, address)
        return self._doorman.admit(rule, identity, address)

    async def _identify(
        self, request: HTTPConnection, rule: Rule | None, address: str
    ) -> Identity | None:
        """Return whose token a request has, else whose session."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not self._doorman.asks:
            return None
        if scheme:
            shown = token.strip() if scheme.lower() == "bearer" else ""
            return await self._doorman.identify(shown, address)
        if rule is not None and rule.by_session:
            return self._sessions(request)
        return None

    def _check_host(self, headers: Headers) -> None:
        if self._any_host or is_loopback(_host_name(headers.get("host", ""))):
            return
        raise RefusedError(
            HTTPStatus.MISDIRECTED_REQUEST,
            "without tokens the node answers as localhost alone: set http.tokens or"
            " http.oidc, or say http.insecure = true",
        )


def _check_origin(headers: Headers) -> None:
    """Raise if a browser sends something in the name of another site's page."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    own = origin is None or origin.partition("://")[2] == headers.get("host", "")
    if not own or site not in {"none", "same-origin"}:
        raise RefusedError(HTTPStatus.FORBIDDEN, "another site's page asked for this")


def _host_name(host: str) -> str:
    """Return the host of ``host:port``, without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


async def _answer(scope: Scope, refused: RefusedError, send: Send) -> None:
    """Answer a request that was refused, as RFC 9457 describes problems.

    A browser whose session has ended is sent to the page, which asks for a token.
    """
    rule = rule_for(scope["method"], scope["path"])
    unknown = refused.status is HTTPStatus.UNAUTHORIZED
    if unknown and rule is not None and rule.by_session:
        await _send(send, HTTPStatus.SEE_OTHER, {"Location": "/"})
        return
    body = json.dumps({"status": refused.status, "detail": refused.detail}).encode()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        **_challenge(refused),
    }
    if refused.retry_after_s:
        headers["Retry-After"] = str(refused.retry_after_s)
    await _send(send, refused.status, headers, body)


async def _send(
    send: Send, status: int, headers: Mapping[str, str], body: bytes = b""
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": int(status),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _challenge(refused: RefusedError) -> Mapping[str, str]:
    if refused.status is not HTTPStatus.UNAUTHORIZED:
        return {}
    return {"WWW-Authenticate": 'Bearer realm="pacsight"'}
