"""What the node tells and takes over HTTP as JSON: the command line's commands.

The answers are those that the commands print with ``--json``. `dicom_node.web.openapi`
describes them. No patient data: the ledger has none.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicom_node import operations
from dicom_node.errors import Permanent, Transient
from dicom_node.ledger import Ledger, Tx, motion
from dicom_node.ledger.deliveries import deliveries
from dicom_node.ledger.motion import UnknownStudyError
from dicom_node.ledger.overview import journal, studies
from dicom_node.lines import delivery_json, journal_json, study_json
from dicom_node.web.openapi import LIMIT_DEFAULT, LIMIT_MOST, described

UID = re.compile(r"[0-9.]{1,64}")
"""PS3.5 9.1, as far as a path is judged."""
BODY_MOST = 4096
"""Bytes that a request may have that needs none."""
RETRY_AFTER_S = 5


class Api:
    """The routes.

    Parameters
    ----------
    settings
        Gives the settings, every secret masked.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        settings: Callable[[], Mapping[str, object]],
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return what is served."""
        study = "/api/studies/{study}"
        return [
            Route("/health", health),
            Route("/api/studies", self.studies),
            Route(f"{study}/journal", self.journal),
            _post(f"{study}/complete", self.complete),
            _post(f"{study}/retry", self.retry),
            _post(f"{study}/conclude", self.conclude),
            Route("/api/deliveries", self.deliveries),
            Route("/api/settings", self.settings),
            Route("/api/openapi.json", openapi),
        ]

    def studies(self, request: Request) -> Response:
        """Return the studies in triage order."""
        limit = _limit(_query(request, "limit"))
        with self._ledger.read() as tx:
            lines = studies(tx, limit=limit)
        return JSONResponse([study_json(line) for line in lines])

    def journal(self, request: Request) -> Response:
        """Return what happened to a study, newest first."""
        limit = _limit(_query(request, "limit"))
        with self._ledger.read() as tx:
            uid = find(tx, request.path_params["study"]).study_uid
            lines = journal(tx, uid, limit=limit)
        return JSONResponse([journal_json(line) for line in lines])

    def deliveries(self, request: Request) -> Response:
        """Return where each object stands at each destination."""
        query = _query(request, "study", "limit")
        named, limit = query.get("study"), _limit(query)
        with self._ledger.read() as tx:
            uid = None if named is None else find(tx, named).study_uid
            lines = deliveries(tx, study_uid=uid, limit=limit)
        return JSONResponse([delivery_json(line) for line in lines])

    def complete(self, request: Request) -> Response:
        """Conclude a study without waiting any longer."""
        with self._ledger.write() as tx:
            uid = find(tx, request.path_params["study"]).study_uid
            found = operations.complete(tx, uid)
        return _state(found.study_uid, found.state)

    def retry(self, request: Request) -> Response:
        """Try again what failed of a study."""
        with self._ledger.write() as tx:
            found = find(tx, request.path_params["study"])
            uid, state = operations.retry(tx, found, self._clock())
        return _state(uid, state)

    def conclude(self, request: Request) -> Response:
        """Conclude a study again with the packs in use now."""
        with self._ledger.read() as tx:
            found = find(tx, request.path_params["study"])
        operations.conclude_again(self._ledger, found.key, self._clock())
        with self._ledger.read() as tx:
            found = find(tx, found.study_uid)
        return _state(found.study_uid, found.state)

    def settings(self, _: Request) -> Response:
        """Return the settings, every secret masked."""
        return JSONResponse(self._settings())


def health(_: Request) -> Response:
    """Say that the node answers, and nothing else."""
    return PlainTextResponse("ok\n")


def openapi(_: Request) -> Response:
    """Describe the interface (OpenAPI 3.1)."""
    return JSONResponse(described())


def find(tx: Tx, study: str) -> motion.Found:
    """Return the study with exactly this Study Instance UID.

    Raises
    ------
    UnknownStudyError
        If there is none.
    """
    if UID.fullmatch(study) is None:
        raise UnknownStudyError("that is no Study Instance UID")
    found = motion.find(tx, study)
    if found.study_uid != study:
        raise UnknownStudyError(f"no study {study} is in the ledger")
    return found


def problem(_: Request, error: Exception) -> Response:
    """Answer an error of ours, as RFC 9457 describes problems."""
    status = HTTPStatus.BAD_REQUEST
    headers = {}
    if isinstance(error, UnknownStudyError):
        status = HTTPStatus.NOT_FOUND
    elif isinstance(error, Transient):
        status = HTTPStatus.SERVICE_UNAVAILABLE
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse(
        {"status": status, "detail": str(error)},
        status,
        headers=headers,
        media_type="application/problem+json",
    )


def _query(request: Request, *known: str) -> Mapping[str, str]:
    """Return the parameters of a request: each once, and no other than these."""
    said = request.query_params.multi_items()
    names = [name for name, _ in said]
    if not set(names) <= set(known) or len(names) > len(set(names)):
        expected = ", ".join(known)
        raise Permanent(f"known parameters: {expected}; each once at most")
    return dict(said)


def _limit(query: Mapping[str, str]) -> int:
    """Return how many lines are asked for."""
    said = query.get("limit", str(LIMIT_DEFAULT))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", said) or int(said) > LIMIT_MOST:
        raise Permanent(f"limit is a whole number, 1 to {LIMIT_MOST}")
    return int(said)


def _post(path: str, endpoint: Callable[[Request], Response]) -> Route:
    return Route(path, endpoint, methods=["POST"], max_body_size=BODY_MOST)


def _state(uid: str, state: str) -> Response:
    return JSONResponse({"study_uid": uid, "state": state})
