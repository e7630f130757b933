"""The node over HTTP for tests: everything behind its guard, on a real socket."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from dicom_node.access import Role, ServiceToken, digest_of
from dicom_node.domain import AuditEvent
from dicom_node.ledger import Ledger, open_ledger
from dicom_node.stow import routes
from dicom_node.tally import ReceivedTally
from dicom_node.web.doorman import Doorman
from dicom_node.web.server import HttpServer
from dicom_node.web.site import site
from tests.arrivals import T0
from tests.receiving import BOUNDARY, House, house

TOKENS = {role: f"pacsight_{role}-token-of-the-tests" for role in Role}
SERVICE_TOKENS = tuple(
    ServiceToken(name=role.value, sha256=digest_of(token), roles=frozenset({role}))
    for role, token in TOKENS.items()
)
DICOM = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP: no authorities are loaded, each time anew."""
SETTINGS: Mapping[str, object] = {"site": "test"}


@dataclass
class Website:
    """A running site, its ledger, the house behind it, and what the trail was told."""

    url: str
    ledger: Ledger
    home: House
    told: list[AuditEvent] = field(default_factory=list)

    def ask(
        self, method: str, path: str, token: str = "", **options: Any
    ) -> httpx.Response:
        """Return the answer to a request, with this token if there is one."""
        headers = {**options.pop("headers", {})}
        if self.url.startswith("http:"):
            options["verify"] = PLAIN
        if token:
            headers["authorization"] = f"Bearer {token}"
        return httpx.request(
            method, self.url + path, headers=headers, timeout=20, **options
        )


@contextmanager
def website(
    folder: Path,
    *,
    any_host: bool = False,
    context: ssl.SSLContext | None = None,
    trusted_proxies: tuple[str, ...] = (),
    **door: Any,
) -> Iterator[Website]:
    """Run a site; what the doorman takes are further keywords."""
    told: list[AuditEvent] = []
    home = house(folder)
    home.intake.tally = ReceivedTally(told.append, lambda: T0)
    ledger = empty_ledger(folder)
    app = site(
        routes(home.intake),
        ledger,
        Doorman(note=told.append, **door),
        settings=lambda: SETTINGS,
        clock=lambda: T0,
        any_host=any_host,
    )
    server = HttpServer(app, context=context, trusted_proxies=trusted_proxies)
    server.start()
    scheme = "http" if context is None else "https"
    url = f"{scheme}://127.0.0.1:{server.port}"
    try:
        yield Website(url=url, ledger=ledger, home=home, told=told)
    finally:
        server.stop()
        ledger.close()


def empty_ledger(folder: Path) -> Ledger:
    """Return a ledger in that folder, a copy of one whose schema is made once."""
    (folder / "ledger.sqlite").write_bytes(_schema())
    return open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=False)


@cache
def _schema() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        open_ledger(f"sqlite:///{path}", migrate=True).close()
        return path.read_bytes()
