"""Everything that the node serves over HTTP, behind one guard."""

from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from dicom_node.errors import PacsightError
from dicom_node.ledger import Ledger
from dicom_node.web.api import Api, problem
from dicom_node.web.doorman import Doorman
from dicom_node.web.guard import Guard
from dicom_node.web.page import Page
from dicom_node.web.sessions import Sessions


def site(
    doors: list[Route],
    ledger: Ledger,
    doorman: Doorman,
    *,
    settings: Callable[[], Mapping[str, object]],
    clock: Callable[[], datetime],
    any_host: bool = False,
) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    doors
        Where instances come in: STOW-RS.
    settings
        Gives the settings, every secret masked.
    any_host
        Whether it answers under every host name, even if it asks nobody for a token.
    """
    sessions = Sessions()
    api = Api(ledger, settings=settings, clock=clock)
    page = Page(ledger, doorman, sessions, clock=clock)
    app = Starlette(
        routes=[*doors, *api.routes(), *page.routes()],
        exception_handlers={PacsightError: problem},
    )
    return Guard(app, doorman, sessions=sessions.identity, any_host=any_host)
