"""What reads bytes from outside, without a socket: each reader, its seeds, and what it may say.

A reader may raise what our error tree has for its door, and nothing else: whatever
else it raises would be a 0110, a 500, or the end of a thread in a running node.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.data import get_testdata_files
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom.dsutils import decode
from requests.adapters import BaseAdapter
from starlette.applications import Starlette
from starlette.types import ASGIApp

from dicom_node import commitment, expected, spool
from dicom_node.admission import Admission
from dicom_node.config import load_settings
from dicom_node.deliver import stow as stow_delivery
from dicom_node.deliver.orthanc import Client, OrthancDestination
from dicom_node.domain import FrontDoor, Origin, Received, SeriesUid, Sha256
from dicom_node.errors import PacsightError, Rejected, SettingsError
from dicom_node.intake import examine
from dicom_node.ledger import Ledger, arrivals, open_ledger
from dicom_node.multipart import MultipartError, PartBegins, PartsParser
from dicom_node.peers import Peer, Right, Via
from dicom_node.query import Level, Qido
from dicom_node.retrieve import retrieve
from dicom_node.stow import routes
from dicom_node.web.doorman import Doorman, Limits
from dicom_node.web.guard import Guard
from sr_writer.reading import read_report
from tests import builders
from tests.composed import every_object
from tests.fuzz.mutators import Dice, mutated
from tests.peers import QUICK, outgoing
from tests.receiving import (
    BOUNDARY,
    STUDY,
    T0,
    House,
    data_set,
    house,
    multipart,
    part10,
    written,
)

LARGEST_SEED = 48 << 10
"""Larger files are no seeds: most changes would fall into their pixels."""
ORIGIN = Origin(door=FrontDoor.FILE)
FAULT_OF_OURS = b'"00081197":{"vr":"US","Value":[272]}'


class UnfitError(AssertionError):
    """What a door answered although it may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader of bytes from outside.

    Parameters
    ----------
    make
        Returns a case's bytes.
    read
        Reads them; raises where it finds a fault of ours.
    settle
        Raises where something is left behind, now and then.
    """

    make: Callable[[Dice], bytes]
    read: Callable[[bytes], object]
    settle: Callable[[], object] = lambda: None


def corpus(shared: Path | None) -> list[bytes]:
    """Return small DICOM files: pydicom's own, the shared ones, and ours."""
    paths = [Path(str(path)) for path in get_testdata_files()]
    if shared is not None:
        paths += (p for p in (shared / "data" / "dicom").rglob("*") if p.is_file())
    files = [p.read_bytes() for p in sorted(set(paths)) if _is_small(p)]
    files += [part10(), part10(StudyInstanceUID=None), _nested()]
    return sorted({file for file in files if file})


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST_SEED


def _nested() -> bytes:
    item = Dataset()
    item.CodeValue = "1"
    for _ in range(30):
        outer = Dataset()
        outer.ContentSequence = [item]
        outer["ContentSequence"].is_undefined_length = True
        item = outer
    return written(data_set(ContentSequence=[item]))


# ── multipart ───────────────────────────────────────────────────────────────


@contextmanager
def multipart_reader(folder: Path) -> Iterator[Reader]:
    """Yield the parser of multipart/related, fed in pieces."""
    del folder
    seeds = [
        multipart([b"DICM" * 50, b"\r\n--" * 20]),
        multipart([b""]),
        multipart([b"x" * 3000]),
    ]
    words = [
        *(b"\r\n--" + BOUNDARY.encode(), b"--", b"\r", b"\r\n\r\n", b":", b'="', b";"),
        *(b"Content-Type: application/dicom; a=", b"; filename*=utf-8''%ff", b"%"),
    ]

    def read(data: bytes) -> None:
        piece = 1 + (data[0] if data else 0) * 7
        try:
            parser = PartsParser(BOUNDARY)
            for start in range(0, len(data), piece):
                for event in parser.feed(data[start : start + piece]):
                    if isinstance(event, PartBegins):
                        _ = event.media_type
            parser.finish()
        except MultipartError:
            pass

    yield Reader(make=_changed(seeds, words), read=read)


# ── files ───────────────────────────────────────────────────────────────────

_TAGS = [
    *(b"\x08\x00\x18\x00UI", b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"),
    *(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff", b"SQ\0\0\xff\xff\xff\xff", b"UN\0\0"),
    *(b"\x28\x00\x08\x00IS\x0a\x002147483647", b"\x08\x00\x05\x00CS\x0e\0ISO 2022 IR 87"),
    *(b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2\0", b"\x1b$B", b"\x18\x00\x01\xa0SQ"),
]  # fmt: skip


@contextmanager
def file_reader(folder: Path) -> Iterator[Reader]:
    """Yield what every front door does with a file: head, admission, digest."""
    file, admission = folder / "file.dcm", Admission()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        try:
            examine(file, admission, origin=ORIGIN)
        except Rejected as rejected:
            if not 0 < len(rejected.comment) <= 64:
                raise UnfitError(f"comment of {len(rejected.comment)}") from None

    yield Reader(make=_changed(corpus(_shared()), _TAGS), read=read)


@contextmanager
def recorded_reader(folder: Path) -> Iterator[Reader]:
    """Yield the same, and what is taken is written into a ledger."""
    file, admission = folder / "file.dcm", Admission()
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=True)

    def read(data: bytes) -> None:
        file.write_bytes(data)
        try:
            found = examine(file, admission, origin=ORIGIN)
        except Rejected:
            return
        taken = Received(
            header=found.header,
            origin=ORIGIN,
            sha256=found.sha256,
            path=f"{found.sha256}.dcm",
            size=found.size,
            at=T0,
        )
        _record_and_forget(ledger, taken)

    yield Reader(make=_changed(corpus(_shared()), _TAGS), read=read)
    ledger.close()


def _record_and_forget(ledger: Ledger, taken: Received) -> None:
    with ledger.write() as tx:
        before = tx.begin_nested()
        arrivals.record(tx, [taken], encoders=[Sha256("0" * 64)])
        before.rollback()


@contextmanager
def preamble_reader(folder: Path) -> Iterator[Reader]:
    """Yield what reads the sender out of a spooled file's preamble."""
    del folder
    seeds = [
        spool._preamble(Origin(door=door, calling_aet="CT", address="127.0.0.1"))
        for door in FrontDoor
    ]

    def read(data: bytes) -> None:
        spool._origin(data[: spool.PREAMBLE])

    yield Reader(
        make=_changed(seeds, [b"pacsight", b"\n", b"dimse", b"\xff"]), read=read
    )


# ── STOW-RS, without its socket ─────────────────────────────────────────────


def guarded_store(home: House) -> ASGIApp:
    """Return STOW-RS behind the guard of all routes, open to everybody."""
    doorman = Doorman(limits=Limits(requests_per_minute=10**9))
    store = Starlette(routes=routes(home.intake, max_body_bytes=1 << 20))
    return Guard(store, doorman, sessions=lambda _: None, any_host=True)


@contextmanager
def stow_reader(folder: Path) -> Iterator[Reader]:
    """Yield the HTTP application: a case is header lines, an empty line, a body."""
    home = house(folder)
    store = guarded_store(home)
    kind = f'content-type: multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    heads = [kind.encode(), f"{kind}\naccept: application/dicom+json".encode()]
    seeds = [
        head + b"\n\n" + multipart(parts)
        for head in heads
        for parts in ([part10()], [part10(1), part10(2)], [b"no dicom"], [])
    ]
    words = [
        *(
            b"content-encoding: gzip\n",
            b"accept: ",
            b"boundary=",
            b"\r\n--",
            b"; x*=''",
        ),
        *(b"content-length: 4\n", b"transfer-encoding: chunked\n", *_TAGS),
    ]
    with asyncio.Runner() as runner:

        def read(data: bytes) -> None:
            status, body = runner.run(_posted(store, data))
            home.books.received.clear()
            home.books.refused.clear()
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR or FAULT_OF_OURS in body:
                raise UnfitError(f"HTTP {status}: {body[:80]!r}")

        def settle() -> None:
            if home.incoming:
                raise UnfitError(f"{len(home.incoming)} files are left")

        yield Reader(make=_changed(seeds, words), read=read, settle=settle)


async def _posted(store: Any, data: bytes) -> tuple[int, bytes]:
    head, _, body = data.partition(b"\n\n")
    pairs = (line.partition(b":") for line in head.split(b"\n") if line)
    study = f"/{STUDY}" if len(data) % 5 == 0 else ""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/dicom-web/studies{study}",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": [(n.strip().lower(), v.strip()) for n, _, v in pairs],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    whole: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
    coming, said = [whole], []

    async def receive() -> dict[str, Any]:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await store(scope, receive, send)
    return said[0]["status"], b"".join(m.get("body", b"") for m in said)


# ── what peers answer ───────────────────────────────────────────────────────


class Canned(BaseAdapter):
    """Answers every request with the same bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """Return the answer; its first byte chooses the status."""
        answer = requests.Response()
        answer.status_code = 400 if self._data[:1] == b"\xfe" else 200
        answer.headers["Content-Type"] = "application/dicom+json"
        answer.raw = BytesIO(self._data)
        answer.request = request
        answer.url = str(request.url)
        return answer

    def close(self) -> None:
        """Do nothing."""


def _session(data: bytes) -> requests.Session:
    session = requests.Session()
    session.mount("http://", Canned(data))
    return session


_PEER = Peer(
    name="peer",
    via=Via.STOW,
    dicomweb="http://peer/dicom-web",
    orthanc="http://peer",
    rights=frozenset({Right.DESTINATION}),
)
_JSON_WORDS = [
    *(b"[", b"{", b"}", b"]", b":", b",", b"null", b"true", b"1e999", b"-1", b'"\\ud800"'),
    *(b'"vr":"SQ"', b'"vr":"OB"', b'"Value":[', b'"InlineBinary":"!"', b'"BulkDataURI":3'),
    *(b"[" * 3000, b'{"00080018":' * 500, b"9" * 5000, b"\xef\xbb\xbf", b"\xff\xfe"),
]  # fmt: skip


@contextmanager
def qido_reader(folder: Path) -> Iterator[Reader]:
    """Yield what asks an archive by QIDO-RS how many instances there are."""
    del folder
    series = Dataset()
    series.SeriesInstanceUID = "2.25.1"
    series.SeriesNumber = 1
    series.SeriesDescription = "CT"
    series.NumberOfSeriesRelatedInstances = 28
    series.PatientID = "P"
    one = series.to_json_dict()
    answers: tuple[object, ...] = ([one], [one, one], [], {})
    seeds = [json.dumps(said).encode() for said in answers]

    def read(data: bytes) -> None:
        qido = Qido(peer=_PEER, session=_session(data), timeout_s=1)
        for ask in (_counted, _found):
            with suppress(PacsightError):
                ask(qido)

    yield Reader(make=_changed(seeds, _JSON_WORDS), read=read)


def _counted(qido: Qido) -> None:
    expected._count(qido, builders.STUDY_UID, [SeriesUid("2.25.9")])


def _found(qido: Qido) -> None:
    qido.find(Level.STUDY, {"StudyInstanceUID": "2.25.1"}, ["PatientID"])


@contextmanager
def stored_reader(folder: Path) -> Iterator[Reader]:
    """Yield what reads the answers of destinations: STOW-RS, and Orthanc's REST API."""
    parcel = outgoing(folder)
    item = Dataset()
    item.ReferencedSOPInstanceUID = parcel.sop_instance_uid
    item.ReferencedSOPClassUID = parcel.sop_class_uid
    item.WarningReason = 0xB000
    failed = Dataset()
    failed.ReferencedSOPInstanceUID = parcel.sop_instance_uid
    failed.FailureReason = 0xA700
    said = Dataset()
    said.ReferencedSOPSequence = [item]
    said.FailedSOPSequence = [failed]
    seeds = [
        json.dumps(said.to_json_dict()).encode(),
        b'{"Status": "AlreadyStored", "ID": "x"}',
        b'[{"Type": "Instance", "ID": "a"}]',
        b'{"MainDicomTags": {"StudyInstanceUID": "1"}, "PatientMainDicomTags": {}}',
    ]
    destination = OrthancDestination(peer=_PEER, caller=QUICK)

    def read(data: bytes) -> None:
        response = Canned(data).send(requests.Request("GET", "http://peer").prepare())
        stow_delivery._report(response)
        client = Client("http://peer/", _session(data), 1.0)
        destination._send(client, parcel)
        destination._looked_up(client, parcel)

    yield Reader(make=_changed(seeds, _JSON_WORDS), read=read)


@contextmanager
def commitment_reader(folder: Path) -> Iterator[Reader]:
    """Yield what reads reports on storage commitment."""
    del folder
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.3"
    item.ReferencedSOPInstanceUID = "2.25.1"
    item.FailureReason = 0x0112
    said = Dataset()
    said.TransactionUID = "2.25.77"
    said.ReferencedSOPSequence = [item]
    said.FailedSOPSequence = [item]
    seeds = [_encoded(said, implicit=way) for way in (True, False)]

    def read(data: bytes) -> None:
        implicit = data[:1] == seeds[0][:1] and len(data) % 2 == 0
        with suppress(commitment.ReportError):
            said = commitment.decoded(lambda: decode(BytesIO(data), implicit, True))  # noqa: FBT003
            commitment.read_report(2, said)

    yield Reader(make=_changed(seeds, _TAGS), read=read)


def _encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@contextmanager
def report_reader(folder: Path) -> Iterator[Reader]:
    """Yield what reads a report back: a file, whoever wrote it."""
    header = builders.source_header()
    objects = every_object(builders.result([builders.finding()]), header)
    file = folder / "report.dcm"
    seeds = [one.content for one in objects if len(one.content) <= LARGEST_SEED]
    assert any(dcmread(BytesIO(seed)).get("ContentSequence") for seed in seeds)

    def read(data: bytes) -> None:
        file.write_bytes(data)
        try:
            with disable_value_validation():
                read_report(retrieve(str(file), [], timeout_s=1))
        except PacsightError:
            pass

    yield Reader(make=_changed(seeds, _TAGS), read=read)


@contextmanager
def settings_reader(folder: Path) -> Iterator[Reader]:
    """Yield what reads a settings file."""
    file = folder / "pacsight.toml"
    text = (
        'data_dir = "/tmp/x"\n[dicom]\nport = 11112\naet = "A"\n[[peers]]\nname = "p"\n'
        'aet = "P"\nhost = "h"\nport = 104\nrights = ["send"]\n[peers.retry]\ncap_s = 2\n'
        '[[priority_rules]]\ncalling_aet = "E"\npriority = "stat"\n'
    )
    words = [b"[[", b"]]", b'"""', b"=", b"\n", b"1e999", b"nan", b"inf", b"[" * 2000]

    def read(data: bytes) -> None:
        file.write_bytes(data)
        with suppress(SettingsError):
            load_settings(file, {})

    yield Reader(make=_changed([text.encode()], words), read=read)


def _changed(seeds: Sequence[bytes], words: Sequence[bytes]) -> Callable[[Dice], bytes]:
    def make(dice: Dice) -> bytes:
        return mutated(dice.choice(seeds), dice, words=words, others=seeds)

    return make


def _shared() -> Path | None:
    beside = Path(__file__).resolve().parents[3] / "shared"
    return beside if beside.is_dir() else None
