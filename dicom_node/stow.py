"""The DICOMweb front door: STOW-RS, streamed part by part to the spool.

PS3.18 10.5 (Store transaction) and Annex I.2 (its response). The event loop only
passes bytes on: parsing, writing, fsync and intake happen in worker threads, a
mebibyte at a time, so that memory stays bounded whatever the size of a part.
"""

import json
import os
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dicom_node.access import user_of
from dicom_node.admission import RejectedInstance
from dicom_node.domain import FrontDoor, Header, Origin, Received, StudyUid
from dicom_node.errors import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Rejected
from dicom_node.intake import Intake
from dicom_node.multipart import (
    MultipartError,
    PartBegins,
    PartData,
    PartEnds,
    PartsParser,
    media_type,
)

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
ANSWERS = frozenset({"*/*", "application/*", "application/json", DICOM_JSON})
GATHER_BYTES = 1 << 20
MAX_BODY_BYTES = 16 << 30
RETRY_AFTER_S = 60
PROCESSING_FAILURE = 0x0110
"""PS3.7 C.5.14: something went wrong that is not the data set's fault."""

log = structlog.get_logger(__name__)


def routes(intake: Intake, *, max_body_bytes: int = MAX_BODY_BYTES) -> list[Route]:
    """Return the service: POST ``/dicom-web/studies`` and ``/dicom-web/studies/{study}``.

    Longer requests are answered 413.
    """
    post = _Store(intake).post
    return [
        Route(path, post, methods=["POST"], max_body_size=max_body_bytes)
        for path in ("/dicom-web/studies", "/dicom-web/studies/{study}")
    ]


@dataclass(frozen=True, slots=True)
class Failure:
    """A part that was not stored, and why.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        Empty where the part does not say.
    """

    status: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(slots=True)
class Outcome:
    """What became of each part of a request."""

    stored: list[Received] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def status(self) -> HTTPStatus:
        """Return the status of the whole (PS3.18 Table 10.5.3-1)."""
        if not self.failed:
            return HTTPStatus.OK if self.stored else HTTPStatus.BAD_REQUEST
        if self.stored:
            return HTTPStatus.ACCEPTED
        if all(failure.status == OUT_OF_RESOURCES for failure in self.failed):
            return HTTPStatus.SERVICE_UNAVAILABLE
        return HTTPStatus.CONFLICT

    def to_json(self) -> bytes:
        """Return the Store Instances Response (PS3.18 Table I.2-1), PS3.18 F."""
        known = [f for f in self.failed if f.sop_instance_uid]
        unknown = [f for f in self.failed if not f.sop_instance_uid]
        sequences = {
            "00081198": [_reference(f) | _reason(f) for f in known],
            "0008119A": [_reason(f) for f in unknown],
            "00081199": [
                _reference(r.header) | {"00081190": {"vr": "UR"}} for r in self.stored
            ],
        }
        answer: dict[str, object] = {"00081190": {"vr": "UR"}}
        for tag, items in sequences.items():
            if items:
                answer[tag] = {"vr": "SQ", "Value": items}
        return json.dumps(answer, separators=(",", ":")).encode()


class Upload:
    """One request's body on its way into the spool. Not for the event loop."""

    def __init__(
        self,
        intake: Intake,
        boundary: str,
        *,
        origin: Origin,
        study_uid: StudyUid | None,
    ) -> None:
        self.outcome = Outcome()
        self._intake = intake
        self._origin = origin
        self._study_uid = study_uid
        self._parser = PartsParser(boundary)
        self._file = -1
        self._path = Path()

    def feed(self, chunk: bytes) -> None:
        """Take more of the body.

        Raises
        ------
        MultipartError
            If it is no multipart message.
        """
        for event in self._parser.feed(chunk):
            match event:
                case PartBegins():
                    self._begin(event)
                case PartData(content):
                    self._write(content)
                case PartEnds():
                    self._end()

    def finish(self) -> None:
        """Raise `MultipartError` unless the body came to its end."""
        self._parser.finish()

    def close(self) -> None:
        """Drop a part that did not come to its end."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)

    def _begin(self, part: PartBegins) -> None:
        if part.media_type not in ("", DICOM):
            self.outcome.failed.append(Failure(CANNOT_UNDERSTAND))
            return
        try:
            self._intake.spool.room(urgent=True)
            self._file, self._path = self._intake.spool.new_file()
        except Rejected as rejected:
            self.outcome.failed.append(Failure(rejected.status))

    def _write(self, content: bytes) -> None:
        if self._file < 0:
            return
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            log.exception("store_failed", door=FrontDoor.STOW)
            self.close()
            self.outcome.failed.append(Failure(OUT_OF_RESOURCES))

    def _end(self) -> None:
        if self._file < 0:
            return
        os.close(self._file)
        self._file = -1
        try:
            received = self._intake.take(
                self._path, self._origin, session=self, study_uid=self._study_uid
            )
        except RejectedInstance as rejected:
            self._reject(rejected, rejected.sop_class_uid, rejected.sop_instance_uid)
        except Rejected as rejected:
            self._reject(rejected, "", "")
        except Exception:
            log.exception("store_failed", door=FrontDoor.STOW)
            self._path.unlink(missing_ok=True)
            self.outcome.failed.append(Failure(PROCESSING_FAILURE))
        else:
            self.outcome.stored.append(received)

    def _reject(self, rejected: Rejected, class_uid: str, instance_uid: str) -> None:
        log.warning(
            "instance_rejected",
            door=FrontDoor.STOW,
            address=self._origin.address,
            sop_instance_uid=instance_uid,
            status=f"0x{rejected.status:04X}",
            reason=rejected.comment,
        )
        failure = Failure(rejected.status, class_uid, instance_uid)
        self.outcome.failed.append(failure)


class _Store:
    """The Store transaction."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def post(self, request: Request) -> Response:
        """Return what became of the instances in the request."""
        try:
            boundary = _boundary(request)
            self._intake.spool.more(urgent=True)
            upload = Upload(
                self._intake,
                boundary,
                origin=_origin(request),
                study_uid=_study_uid(request),
            )
        except HTTPException as refused:
            return _problem(refused.status_code, refused.detail)
        except MultipartError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        except Rejected as rejected:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, rejected.comment)
        self._intake.opened(upload, user=user_of(request.scope))
        try:
            await _receive(request, upload)
        except (MultipartError, ClientDisconnect) as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        finally:
            upload.close()
            self._intake.closed(upload)
        return _answer(upload.outcome)


async def _receive(request: Request, upload: Upload) -> None:
    """Pass the body on, in pieces worth a change of threads."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= GATHER_BYTES:
            await run_in_threadpool(upload.feed, bytes(pending))
            pending.clear()
    await run_in_threadpool(upload.feed, bytes(pending))
    upload.finish()


def _boundary(request: Request) -> str:
    """Return the boundary of a request that is one of ours.

    Raises
    ------
    HTTPException
        406 or 415 if we do not speak what it asks for, or what it brings.
    """
    accepted = request.headers.get("accept", "*/*")
    if ANSWERS.isdisjoint(media_type(one)[0] for one in accepted.split(",")):
        raise HTTPException(
            HTTPStatus.NOT_ACCEPTABLE, f"the answer would be {DICOM_JSON}"
        )
    name, options = media_type(request.headers.get("content-type", ""))
    inner = media_type(options.get("type", DICOM))[0]
    encoded = request.headers.get("content-encoding", "identity") != "identity"
    if name != "multipart/related" or inner != DICOM or encoded:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f'send multipart/related; type="{DICOM}", not compressed',
        )
    return options.get("boundary", "")


def _study_uid(request: Request) -> StudyUid | None:
    study = request.path_params.get("study")
    return None if study is None else StudyUid(study)


def _origin(request: Request) -> Origin:
    address = request.client.host if request.client else ""
    return Origin(door=FrontDoor.STOW, address=address)


def _answer(outcome: Outcome) -> Response:
    status = outcome.status()
    if status is HTTPStatus.BAD_REQUEST:
        return _problem(status, "the message has no parts")
    return Response(
        outcome.to_json(), status, headers=_retry(status), media_type=DICOM_JSON
    )


def _problem(status: int, detail: str) -> Response:
    return PlainTextResponse(f"{detail}\n", status, headers=_retry(status))


def _retry(status: int) -> dict[str, str]:
    busy = status == HTTPStatus.SERVICE_UNAVAILABLE
    return {"Retry-After": str(RETRY_AFTER_S)} if busy else {}


def _reference(of: Failure | Header) -> dict[str, object]:
    """Return the attributes that name an instance, as DICOM JSON."""
    return {
        "00081150": {"vr": "UI", "Value": [of.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [of.sop_instance_uid]},
    }


def _reason(failure: Failure) -> dict[str, object]:
    return {"00081197": {"vr": "US", "Value": [failure.status]}}
