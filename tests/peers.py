"""Peers of our own for the tests: real sockets, and answers that a test chooses."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import uvicorn
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import ThreadedAssociationServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.commitment import INSTANCE, PUSH_MODEL
from dicom_node.domain import (
    ObjectKind,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.outgoing import Outgoing
from dicom_node.peers import Caller, Peer, Right, Via

LOOPBACK = "127.0.0.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

QUICK = Caller(
    connect_timeout_s=2.0, acse_timeout_s=2.0, dimse_timeout_s=2.0, http_timeout_s=2.0
)
"""A caller that loses its patience soon."""

CLASSES = {
    ObjectKind.REPORT: Comprehensive3DSRStorage,
    ObjectKind.CAPTURE: SecondaryCaptureImageStorage,
}


# ── objects to send ─────────────────────────────────────────────────────────


def outgoing(
    folder: Path,
    number: int = 1,
    *,
    kind: ObjectKind = ObjectKind.REPORT,
    study_uid: str = "2.25.1001",
    patient_id: str = "PAT-0001",
) -> Outgoing:
    """Return an object whose file lies in the folder, small and of its own UID."""
    content = object_bytes(number, kind=kind, study_uid=study_uid, patient=patient_id)
    path = folder / f"{kind}-{number}.dcm"
    path.write_bytes(content)
    return Outgoing(
        delivery=number,
        path=path,
        kind=kind,
        study_uid=StudyUid(study_uid),
        sop_class_uid=SopClassUid(str(CLASSES[kind])),
        sop_instance_uid=SopInstanceUid(f"{study_uid}.9.{number}"),
        sha256=Sha256(sha256(content).hexdigest()),
    )


def object_bytes(
    number: int, *, kind: ObjectKind, study_uid: str, patient: str
) -> bytes:
    """Return a Part 10 file, Explicit VR Little Endian."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = CLASSES[kind]
    data.SOPInstanceUID = f"{study_uid}.9.{number}"
    data.StudyDate = "20260101"
    data.Modality = "SR" if kind is ObjectKind.REPORT else "OT"
    data.SeriesDescription = "AI phantoms 1 - RESEARCH, NOT FOR DIAGNOSIS"
    data.PatientName = "Müller^Jörg"
    data.PatientID = patient
    data.StudyInstanceUID = study_uid
    data.SeriesInstanceUID = f"{study_uid}.9"
    data.SeriesNumber = 9001
    data.InstanceNumber = number
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def pictured(folder: Path, number: int = 1) -> Outgoing:
    """Return a capture that has pixels: RGB, with edges, areas and noise."""
    plain = outgoing(folder, number, kind=ObjectKind.CAPTURE)
    pixels = np.zeros((64, 48, 3), np.uint8)
    pixels[10:30, 5:40] = (200, 30, 7)
    pixels[40:] = np.random.default_rng(1).integers(0, 255, (24, 48, 3), np.uint8)
    data = dcmread(plain.path)
    data.SamplesPerPixel = 3
    data.PhotometricInterpretation = "RGB"
    data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB"
    data.save_as(plain.path, enforce_file_format=True)
    digest = sha256(plain.path.read_bytes()).hexdigest()
    return replace(plain, sha256=Sha256(digest))


def data_set_bytes(part10: bytes) -> bytes:
    """Return what follows the File Meta Information: what goes over the network."""
    file = BytesIO(part10)
    file.seek(132)
    group = file.read(12)
    length = int.from_bytes(group[8:12], "little")
    return part10[144 + length :]


# ── a C-STORE and C-FIND SCP ────────────────────────────────────────────────

DROP = -1
"""In a script: abort the association in place of an answer."""
SILENCE = -2
"""In a script: answer much too late."""


@dataclass
class StorePeer:
    """A PACS that answers C-STORE as scripted, and C-FIND from what it holds.

    Parameters
    ----------
    script
        Statuses (or `DROP`, `SILENCE`) for the next requests; then success.
    syntaxes
        Transfer syntaxes that it takes.
    reject
        Result, source and reason with which it rejects associations, or None.
    holds
        What C-FIND returns, at the level whose unique keys match.
    keeps
        Whether C-FIND finds what was stored, too.
    finds
        Whether it takes questions at all.
    commits
        Whether it takes requests for storage commitment, and reports over the
        association on which they come, ``report_s`` later; None: never.
    uncommitted
        SOP Instance UID to Failure Reason: what it does not commit to.
    context
        What it speaks TLS with; None: it does not.
    """

    aet: str = "FAKEPACS"
    script: list[int] = field(default_factory=list)
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    classes: Sequence[str] = tuple(CLASSES.values())
    reject: tuple[int, int, int] | None = None
    holds: list[Dataset] = field(default_factory=list)
    keeps: bool = False
    finds: bool = True
    find_status: int = 0x0000
    commits: bool = False
    report_s: float | None = 0.05
    action_status: int = 0x0000
    uncommitted: dict[str, int] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    silence_s: float = 4.0
    port: int = 0
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    """SOP Instance UID, transfer syntax and data set of what came."""
    callers: list[str] = field(default_factory=list)
    """Calling AE titles of the associations that were requested."""
    transactions: list[Dataset] = field(default_factory=list)
    """What storage commitment was requested for."""
    answers: list[int | None] = field(default_factory=list)
    """Statuses with which the node answered its reports."""

    def peer(self, **changes: object) -> Peer:
        """Return it as an entry of the table of peers."""
        entry: dict[str, object] = {
            "name": "pacs",
            "aet": self.aet,
            "host": LOOPBACK,
            "port": self.port,
            "rights": frozenset({Right.DESTINATION}),
        }
        return Peer(**(entry | changes))  # type: ignore[arg-type]

    @contextmanager
    def running(self) -> Iterator["StorePeer"]:
        """Serve on a free port of loopback until the block ends."""
        ae = AE(ae_title=self.aet)
        ae.require_called_aet = True
        ae.network_timeout = 10
        contexts: list[PresentationContext] = [
            build_context(uid, list(self.syntaxes)) for uid in self.classes
        ]
        if self.finds:
            contexts.append(build_context(STUDY_ROOT_FIND))
        if self.commits:
            contexts.append(build_context(PUSH_MODEL))
        server = ae.make_server(
            (LOOPBACK, self.port),
            contexts=contexts,
            server_class=ThreadedAssociationServer,
            ssl_context=self.context,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_N_ACTION, self._action),
            ],
        )
        ae._servers.append(server)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()

    def _requested(self, event: evt.Event) -> None:
        request = event.assoc.requestor.primitive
        assert request is not None
        self.callers.append(request.calling_ae_title)
        if self.reject is not None:
            event.assoc.acse.send_reject(*self.reject)
            event.assoc.kill()

    def _store(self, event: evt.Event) -> int:
        answer = self.script.pop(0) if self.script else 0x0000
        if answer == DROP:
            event.assoc.abort()
            return 0x0110
        if answer == SILENCE:
            time.sleep(self.silence_s)
            return 0x0000
        if answer == 0x0000 or 0xB000 <= answer < 0xC000:
            request = event.request
            assert isinstance(request, C_STORE)
            assert request.DataSet is not None
            self.received.append(
                (
                    str(request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    request.DataSet.getvalue(),
                )
            )
            if self.keeps:
                self.keep(event.dataset)
        return answer

    def keep(self, data: Dataset) -> None:
        """Let C-FIND find the object from now on."""
        study = Dataset()
        study.QueryRetrieveLevel = "STUDY"
        study.StudyInstanceUID = data.StudyInstanceUID
        study.PatientID = data.PatientID
        image = Dataset()
        image.QueryRetrieveLevel = "IMAGE"
        image.StudyInstanceUID = data.StudyInstanceUID
        image.SeriesInstanceUID = data.SeriesInstanceUID
        image.SOPInstanceUID = data.SOPInstanceUID
        self.holds += [study, image]

    def _action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        if self.action_status:
            return self.action_status, None
        asked = event.action_information
        self.transactions.append(asked)
        if self.report_s is not None:
            later = threading.Timer(self.report_s, self.report, [event.assoc, asked])
            later.start()
        return 0x0000, None

    def report(self, assoc: Association, asked: Dataset) -> None:
        """Send the report of a transaction over an association (PS3.4 J.3.3)."""
        said = Dataset()
        said.TransactionUID = asked.TransactionUID
        said.ReferencedSOPSequence = []
        said.FailedSOPSequence = []
        for item in asked.ReferencedSOPSequence:
            reason = self.uncommitted.get(item.ReferencedSOPInstanceUID)
            if reason is None:
                said.ReferencedSOPSequence.append(item)
            else:
                item.FailureReason = reason
                said.FailedSOPSequence.append(item)
        event_type = 2 if said.FailedSOPSequence else 1
        if event_type == 1:
            del said.FailedSOPSequence
        status, _ = assoc.send_n_event_report(said, event_type, PUSH_MODEL, INSTANCE)
        self.answers.append(status.get("Status"))

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if self.find_status:
            yield self.find_status, None
            return
        question = event.identifier
        for held in self.holds:
            if _answers(held, question):
                answer = Dataset()
                answer.QueryRetrieveLevel = question.QueryRetrieveLevel
                for element in question:
                    if element.keyword in held:
                        setattr(answer, element.keyword, held[element.keyword].value)
                yield 0xFF00, answer
        yield 0x0000, None


def _answers(held: Dataset, question: Dataset) -> bool:
    """Return whether every UID of the question is the held one's."""
    if held.QueryRetrieveLevel != question.QueryRetrieveLevel:
        return False
    asked = [e for e in question if e.VR == "UI" and e.value]
    return all(held.get(e.keyword) == e.value for e in asked)


# ── a STOW-RS and QIDO-RS service ───────────────────────────────────────────


@dataclass
class StowPeer:
    """A DICOMweb service that answers as a test says.

    Parameters
    ----------
    answer
        Gets the SOP Instance UIDs of a request and returns the response; without
        it everything is stored.
    query
        Gets the path below the base URL and returns the response of a GET.
    rest
        Gets the path of any other request, from the root, and returns the response.
    """

    answer: Callable[[list[str]], Response] | None = None
    query: Callable[[str], Response] | None = None
    rest: Callable[[str], Response] | None = None
    certificate: tuple[Path, Path] | None = None
    port: int = 0
    posted: list[list[bytes]] = field(default_factory=list)
    """The files of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request."""

    @property
    def url(self) -> str:
        """Return its base URL."""
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{LOOPBACK}:{self.port}/dicom-web"

    def peer(self, **changes: object) -> Peer:
        """Return it as an entry of the table of peers."""
        entry: dict[str, object] = {
            "name": "web",
            "dicomweb": self.url,
            "via": Via.STOW,
            "rights": frozenset({Right.DESTINATION}),
        }
        return Peer(**(entry | changes))  # type: ignore[arg-type]

    @contextmanager
    def running(self) -> Iterator["StowPeer"]:
        """Serve on a free port of loopback until the block ends."""
        app = Starlette(
            routes=[
                Route("/dicom-web/studies", self._post, methods=["POST"]),
                Route("/dicom-web/{path:path}", self._get, methods=["GET"]),
                Route("/{path:path}", self._rest, methods=["GET", "POST"]),
            ]
        )
        with socket.create_server((LOOPBACK, self.port)) as listening:
            self.port = listening.getsockname()[1]
            own, key = self.certificate or (None, None)
            config = uvicorn.Config(
                app,
                log_level="critical",
                lifespan="off",
                ssl_certfile=own,
                ssl_keyfile=key,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield self
            finally:
                server.should_exit = True
                thread.join()

    async def _post(self, request: Request) -> Response:
        body = await request.body()
        files = split_multipart(body, request.headers["content-type"])
        self.posted.append(files)
        self.headers.append(dict(request.headers))
        uids = instance_uids(files)
        return self.answer(uids) if self.answer else stored(uids)

    async def _get(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        path = request.path_params["path"]
        return self.query(path) if self.query else Response(status_code=204)

    async def _rest(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        path = request.path_params["path"]
        return self.rest(path) if self.rest else Response(status_code=404)


def stored(
    uids: Sequence[str],
    *,
    failed: dict[str, int] | None = None,
    warned: dict[str, int] | None = None,
    status: int | None = None,
) -> Response:
    """Return a STOW-RS response: these stored, those failed, with their reasons."""
    said = Dataset()
    said.ReferencedSOPSequence = []
    for uid in uids:
        item = _reference(uid)
        if warned and uid in warned:
            item.WarningReason = warned[uid]
        said.ReferencedSOPSequence.append(item)
    said.FailedSOPSequence = []
    for uid, reason in (failed or {}).items():
        item = _reference(uid)
        item.FailureReason = reason
        said.FailedSOPSequence.append(item)
    partly = 202 if uids else 409
    code = status or (partly if failed else 200)
    return Response(said.to_json(), code, media_type="application/dicom+json")


def _reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = Comprehensive3DSRStorage
    item.ReferencedSOPInstanceUID = uid
    return item


def instance_uids(files: Sequence[bytes]) -> list[str]:
    """Return the SOP Instance UIDs of these Part 10 files."""
    return [str(dcmread(BytesIO(file)).SOPInstanceUID) for file in files]


def split_multipart(body: bytes, content_type: str) -> list[bytes]:
    """Return the parts of a multipart/related body, as a strict reader would."""
    boundary = content_type.partition('boundary="')[2].partition('"')[0].encode()
    parts = body.split(b"\r\n--" + boundary)
    assert parts[-1].startswith(b"--"), "the closing boundary is missing"
    files = []
    for part in parts[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        assert b"Content-Type: application/dicom" in head
        files.append(content)
    return files
