"""How many HTTP clients are served at once, and how long slow ones are waited for.

uvicorn knows neither: a client that sends a header byte by byte, a body that never ends,
or one that does not read its answer costs a connection for ever, and its own limit of
concurrency answers without Retry-After (RFC 9110 10.2.3, 15.5.9, 15.6.4).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import h11
import structlog
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from dicom_node.slowness import Slowness

LOOK_S = 1.0
"""So often it is looked whether a client is too slow, at most."""
RETRY_AFTER_S = 10
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
    b"Retry-After: %d\r\nContent-Length: 0\r\n\r\n" % RETRY_AFTER_S
)

LEAST = Slowness(patience_s=30.0, bytes_per_s=1000.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many clients are served, and what is expected of them.

    Parameters
    ----------
    max_connections, max_requests
        At the same time; more are answered 503 with Retry-After.
    slowness
        What a client has to send of a body, or to read of an answer. A request's
        header has to be there within its patience.
    """

    max_connections: int = 256
    max_requests: int = 64
    slowness: Slowness = LEAST

    def bounded(self, app: ASGIApp) -> ASGIApp:
        """Return the application, which answers only so many requests at once."""
        return _Bounded(app, self.max_requests)

    def protocol(self) -> type[asyncio.Protocol]:
        """Return what uvicorn takes as its `http`."""
        made: Callable[..., asyncio.Protocol] = partial(PatientProtocol, crowd=self)
        return cast("type[asyncio.Protocol]", made)


class _Bounded:
    """Answers 503 where too many requests are being answered."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._count >= self._most:
            log.warning("request_refused", reason="too many requests at once")
            headers = {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"}
            answer = PlainTextResponse("too many requests at once\n", 503, headers)
            await answer(scope, receive, send)
            return
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, whose patience with a client has an end."""

    def __init__(self, *args: Any, crowd: Crowd, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crowd = crowd
        self._began = self.loop.time()
        self._received = 0
        self._unread_since: float | None = None
        self._unread = 0
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._crowd.max_connections:
            self._end("too many connections", BUSY)
            return
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no longer."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes; a body has its own time, and so has the next request."""
        if self.transport.is_closing():
            return
        before = self.conn.their_state
        self._received += len(data)
        super().data_received(data)
        if self.conn.their_state is not before:
            self._begin()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._begin()
        super().on_response_complete()

    def _begin(self) -> None:
        self._began, self._received = self.loop.time(), 0

    def _look(self) -> None:
        """End the connection of a client that is too slow, else look again later."""
        if reason := self._slow():
            answered = self._request is not None and self._request.response_started
            self._end(reason, b"" if answered else TOO_SLOW)
            return
        after_s = min(LOOK_S, self._crowd.slowness.patience_s / 4)
        self._watch = self.loop.call_later(after_s, self._look)

    def _slow(self) -> str:
        now = self.loop.time()
        least = self._crowd.slowness
        if self._is_unread(now):
            return "it does not read the answer"
        if self.flow.read_paused:
            self._began = now - self._received / least.bytes_per_s
            return ""  # it is we who are slow
        if self.conn.their_state is h11.IDLE:  # uvicorn ends it after an answer
            waiting = self._request is None or self._received
            late = now - self._began > least.patience_s
            return "no request came" if waiting and late else ""
        if self.conn.their_state is h11.SEND_BODY:
            slow = least.is_reached(now - self._began, self._received)
            return "its request does not end" if slow else ""
        return ""

    def _is_unread(self, now: float) -> bool:
        """Return whether what was written has been waiting to be read for too long."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unread_since, self._unread = None, 0
            return False
        if self._unread_since is None:
            self._unread_since = now
        self._unread = max(self._unread, size)
        return self._crowd.slowness.is_reached(now - self._unread_since, self._unread)

    def _end(self, reason: str, last: bytes) -> None:
        log.warning("client_cut_off", door="http", address=self._address, reason=reason)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        self.transport.write(last)
        self.transport.close()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def _request(self) -> RequestResponseCycle | None:
        """Return the request that is answered, or was last."""
        return self.cycle
