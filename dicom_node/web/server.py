"""Serves an ASGI application with uvicorn, over TLS where that is set."""

import socket
import ssl
import threading

import uvicorn
from starlette.types import ASGIApp

from dicom_node.crowd import Crowd


class HttpServer:
    """Serves `app` with uvicorn in a thread of its own, from `start` to `stop`.

    Parameters
    ----------
    port
        0 takes a free one.
    context
        What connections are protected with; None for plain HTTP.
    trusted_proxies
        Addresses and networks whose ``X-Forwarded-For`` counts.
    crowd
        How many are served at once, and how slow they may be.
    grace_s
        How long `stop` waits for requests to end by themselves.
    """

    def __init__(  # noqa: PLR0913 - how an application is reached
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        context: ssl.SSLContext | None = None,
        trusted_proxies: tuple[str, ...] = (),
        crowd: Crowd | None = None,
        grace_s: int = 2,
    ) -> None:
        self._address = (host, port)
        crowd = crowd or Crowd()
        config = uvicorn.Config(
            crowd.bounded(app),
            http=crowd.protocol(),
            access_log=False,
            lifespan="off",
            log_config=None,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            server_header=False,
            ssl_context_factory=None if context is None else lambda *_: context,
            timeout_graceful_shutdown=grace_s,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Listen."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.create_server(self._address, family=family)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that the node listens on, 0 if it does not."""
        return int(self._socket.getsockname()[1]) if self._socket else 0

    def stop(self) -> None:
        """Listen no more; requests may end by themselves, then are cut off."""
        if self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._socket = None

    def _run(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])
