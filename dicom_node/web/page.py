"""One page for a browser: the studies, where they stand, and what can be done.

Rendered here, escaped throughout (Jinja2's autoescape), without scripts and without
anything from elsewhere: what a sender wrote is text, whatever it says. Forms carry the
session's token, besides its cookie and the guard's look at their origin (OWASP CSRF
Prevention Cheat Sheet).
"""

import hmac
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from dicom_node import operations
from dicom_node.access import ANYBODY, Role
from dicom_node.domain import Flag
from dicom_node.ledger import Ledger
from dicom_node.ledger.overview import StudyLine, studies
from dicom_node.lifecycle import State
from dicom_node.web.api import find
from dicom_node.web.doorman import Doorman, RefusedError
from dicom_node.web.sessions import Session, Sessions

FORM_MOST = 64 << 10
"""Bytes of a form: a signed token, and room."""
SHOWN = 100
TO_RETRY = frozenset({State.FAILED, State.UNDELIVERED})

Act = Callable[[str], object]
"""Does something to the study with that UID."""


class Page:
    """The page and its forms."""

    def __init__(
        self,
        ledger: Ledger,
        doorman: Doorman,
        sessions: Sessions,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._doorman = doorman
        self._sessions = sessions
        self._clock = clock
        environment = Environment(
            loader=PackageLoader("dicom_node.web"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = environment.get_template("page.html.j2")
        self._style = Markup(environment.get_template("page.css").render())  # noqa: S704 - ours
        self._headers = {"Content-Security-Policy": content_policy(self._style)}

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [
            Route("/", self.show),
            _form("/login", self.login),
            _form("/logout", self.logout),
            _form("/page/{study}/complete", self.complete),
            _form("/page/{study}/retry", self.retry),
        ]

    async def show(self, request: Request) -> Response:
        """Return the studies, or a form that asks for a token."""
        session = self._sessions.of(request)
        if session is None and self._doorman.asks:
            return self._ask()
        session = session or self._sessions.open(ANYBODY)
        if not session.identity.may(Role.VIEW):
            response = self._ask(NO_ROLE, HTTPStatus.FORBIDDEN)
            self._sessions.close(session, request, response)
            return response
        lines = await run_in_threadpool(self._lines)
        response = self._render(lines=lines, session=session)
        self._sessions.tell(session, request, response)
        return response

    async def login(self, request: Request) -> Response:
        """Open a session for whoever has a token."""
        form = await request.form(max_files=0, max_fields=4)
        token = str(form.get("token", "")).strip()
        address = request.client.host if request.client else ""
        try:
            identity = await self._doorman.identify(token, address)
        except RefusedError as refused:
            return self._ask(refused.detail, refused.status)
        response = _back()
        self._sessions.tell(self._sessions.open(identity), request, response)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        session = await self._session_of_form(request)
        if session is None:
            return self._ask(FORGED, HTTPStatus.FORBIDDEN)
        response = _back()
        self._sessions.close(session, request, response)
        return response

    async def complete(self, request: Request) -> Response:
        """Conclude a study without waiting any longer, then show them all."""
        return await self._act(request, self._complete)

    async def retry(self, request: Request) -> Response:
        """Try again what failed of a study, then show them all."""
        return await self._act(request, self._retry)

    async def _act(self, request: Request, act: Act) -> Response:
        if await self._session_of_form(request) is None:
            return self._ask(FORGED, HTTPStatus.FORBIDDEN)
        await run_in_threadpool(act, request.path_params["study"])
        return _back()

    def _complete(self, study: str) -> None:
        with self._ledger.write() as tx:
            operations.complete(tx, find(tx, study).study_uid)

    def _retry(self, study: str) -> None:
        with self._ledger.write() as tx:
            operations.retry(tx, find(tx, study), self._clock())

    def _lines(self) -> list[StudyLine]:
        with self._ledger.read() as tx:
            return studies(tx, limit=SHOWN)

    async def _session_of_form(self, request: Request) -> Session | None:
        """Return the session whose page a form stands on; None for a forged one."""
        session = self._sessions.of(request)
        form = await request.form(max_files=0, max_fields=4)
        said = str(form.get("csrf", "")).encode()
        if session is None or not hmac.compare_digest(said, session.csrf.encode()):
            return None
        return session

    def _ask(self, why: str = "", status: int = HTTPStatus.OK) -> HTMLResponse:
        """Return a form that asks for a token, and why the last one would not do."""
        return self._render(why=why, status=status)

    def _render(
        self,
        *,
        lines: Sequence[StudyLine] = (),
        session: Session | None = None,
        why: str = "",
        status: int = HTTPStatus.OK,
    ) -> HTMLResponse:
        text = self._template.render(
            style=self._style,
            lines=lines,
            session=session,
            why=why,
            asks=self._doorman.asks,
            operates=session is not None and session.identity.may(Role.OPERATE),
            now=self._clock(),
            most=SHOWN,
            state=State,
            flag=Flag,
            to_retry=TO_RETRY,
        )
        return HTMLResponse(text, status, headers=self._headers)


FORGED = "that form was not of this page, or the page was too old: log in again"
NO_ROLE = "that token has no role to view studies"


def content_policy(style: str) -> str:
    """Return what the page may load: its own style sheet, and nothing from anywhere."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )


def _form(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, endpoint, methods=["POST"], max_body_size=FORM_MOST)


def _back() -> Response:
    """Send the browser to the page: to load that again does nothing twice."""
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)
