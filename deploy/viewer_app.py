"""OHIF and what it asks of Orthanc, under one origin: an ASGI application.

Pages are files; ``/dicom-web`` and ``/wado`` (PS3.18) are passed on to Orthanc, read
only. It is for one machine: it answers loopback names alone, so that no page from
elsewhere reaches Orthanc through it, and tells the browser to load from nowhere else.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # cross-origin isolation, which OHIF's decoders want
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # nothing of what is shown leaves this machine
    "Content-Security-Policy": "default-src 'self' blob: data: 'unsafe-inline' 'unsafe-eval'",
    "Referrer-Policy": "no-referrer",
}
OF_THIS_CONNECTION = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Headers that are not passed on: RFC 9110, 7.6.1."""
TIMEOUT_S = 60.0


def viewer_app(pages: Path, config: Path, orthanc: str) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    pages
        OHIF's ``dist`` folder.
    config
        What it gets as its ``app-config.js``.
    orthanc
        Orthanc's address, without a slash at the end.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=orthanc, timeout=TIMEOUT_S) as client:
            app.state.orthanc = client
            yield

    app = Starlette(
        routes=[
            Route("/app-config.js", lambda _: FileResponse(config)),
            Route("/dicom-web/{path:path}", _pass_on),
            Route("/wado", _pass_on),
            Mount("/", _Pages(directory=pages, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        ],
        lifespan=lifespan,
    )
    return _with_headers(app, HEADERS)


async def _pass_on(request: Request) -> Response:
    """Return Orthanc's answer, as it comes.

    The Host header is passed on, too: the addresses of bulk data follow from it.
    """
    client: httpx.AsyncClient = request.app.state.orthanc
    url = httpx.URL(
        path=request.url.path, query=repeated_fields(request.url.query).encode()
    )
    # httpx would ask for gzip on behalf of a browser that does not
    headers = {"accept-encoding": "identity", **_kept(request.headers)}
    asked = client.build_request(request.method, url, headers=headers)
    try:
        answer = await client.send(asked, stream=True)
    except httpx.TransportError as error:
        return PlainTextResponse(f"Orthanc does not answer: {error!r}\n", 502)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await answer.aclose()

    return StreamingResponse(body(), answer.status_code, _kept(answer.headers))


def repeated_fields(query: str) -> str:
    """Return the query with ``includefield=a,b`` as ``includefield=a&includefield=b``.

    PS3.18, 8.3.4.3 allows both; Orthanc 1.10 reads the second only.
    """
    if "includefield" not in query:
        return query
    fields = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        values = value.split(",") if name == "includefield" else [value]
        fields += [(name, one) for one in values]
    return urlencode(fields)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k.lower() not in OF_THIS_CONNECTION}


class _Pages(StaticFiles):
    """Files, and for every address of OHIF's own router its one page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or Path(path).suffix:  # noqa: PLR2004
                raise
            return await super().get_response("index.html", scope)


def _with_headers(app: ASGIApp, headers: Mapping[str, str]) -> ASGIApp:
    """Return the application with these headers in every answer."""
    added = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await app(scope, receive, send_with)

    return wrapped
