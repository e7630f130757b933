"""The DICOMweb front door, from the wire: STOW-RS over real sockets."""

import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.domain import FrontDoor, Origin
from dicom_node.errors import CANNOT_UNDERSTAND, DATASET_MISMATCH, OUT_OF_RESOURCES
from tests.receiving import (
    BOUNDARY,
    STUDY,
    House,
    bundled,
    data_set_of,
    house,
    multipart,
    part10,
    running,
    stow_server,
)

CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
BROKEN = b"%PDF-1.4" * 40


@pytest.fixture
def home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


@pytest.fixture
def url(home: House) -> Iterator[str]:
    """Return the address of a running service before the intake."""
    with running(stow_server(home.intake, max_body_bytes=4 << 20)) as server:
        yield f"http://127.0.0.1:{server.port}/dicom-web/studies"


def post(url: str, body: Any, **headers: str) -> httpx.Response:
    """Return the response to a Store request with this body."""
    stated = {"content-type": CONTENT_TYPE, "accept": "application/dicom+json"}
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, content=body, headers=stated | changed, timeout=60)


def answer(response: httpx.Response) -> Dataset:
    """Return the Store Instances Response."""
    assert response.headers["content-type"] == "application/dicom+json"
    return Dataset.from_json(response.text)


def reasons(response: httpx.Response) -> list[tuple[str, int]]:
    """Return SOP Instance UID and reason of each failure; '' where none is known."""
    told = answer(response)
    failures = [
        *told.get("FailedSOPSequence", []),
        *told.get("OtherFailuresSequence", []),
    ]
    return [(f.get("ReferencedSOPInstanceUID", ""), f.FailureReason) for f in failures]


def stored(response: httpx.Response) -> list[str]:
    """Return the SOP Instance UIDs that were stored."""
    sequence = answer(response).get("ReferencedSOPSequence", [])
    return [item.ReferencedSOPInstanceUID for item in sequence]


def test_all_stored(home: House, url: str) -> None:
    """200, each instance named, each data set as it was sent."""
    names = ["CT_small.dcm", "JPEG2000.dcm", "test-SR.dcm", "image_dfl.dcm"]
    contents = [bundled(name).read_bytes() for name in names]
    response = post(url, multipart(contents))
    assert response.status_code == 200
    uids = [pydicom.dcmread(bundled(name)).SOPInstanceUID for name in names]
    assert uids == stored(response)
    kept = [home.spool.path(r.path).read_bytes() for r in home.books.received]
    assert [data_set_of(c) for c in contents] == [data_set_of(k) for k in kept]
    assert home.books.received[0].origin == Origin(
        door=FrontDoor.STOW, address="127.0.0.1"
    )
    assert (home.incoming, home.intake.open_studies()) == ([], frozenset())


def test_some_stored(home: House, url: str) -> None:
    """202, and what failed is told with the code that C-STORE would give."""
    parts = [part10(1), BROKEN, part10(2), part10(3)[:-40]]
    response = post(url, multipart(parts))
    assert response.status_code == 202
    assert stored(response) == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    assert reasons(response) == [("", CANNOT_UNDERSTAND)] * 2
    assert home.books.statuses == [CANNOT_UNDERSTAND, CANNOT_UNDERSTAND]
    assert home.incoming == []


def test_none_stored(home: House, url: str) -> None:
    """409 where nothing could be stored."""
    response = post(url, multipart([BROKEN]))
    assert response.status_code == 409
    assert reasons(response) == [("", CANNOT_UNDERSTAND)]
    assert home.kept == []


def test_the_study_of_the_address(home: House, url: str) -> None:
    """An instance of another study is refused with 0xA900, and named."""
    other = part10(2, StudyInstanceUID="1.2.3")
    both = post(f"{url}/{STUDY}", multipart([part10(1), other]))
    assert both.status_code == 202
    assert reasons(both) == [(f"{STUDY}.1.2", DATASET_MISMATCH)]
    alone = post(f"{url}/{STUDY}", multipart([other]))
    assert alone.status_code == 409
    assert len(home.kept) == 1


def test_the_same_again(home: House, url: str) -> None:
    """The same bytes twice: 200 both times, one file."""
    for _ in range(2):
        assert post(url, multipart([part10()])).status_code == 200
    assert len(home.kept) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/dicom"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        (
            {
                "content_type": "multipart/related; boundary=x;"
                ' type="application/dicom+json"'
            },
            415,
        ),
        ({"content_encoding": "gzip"}, 415),
        ({"accept": "application/dicom+xml"}, 406),
        ({"accept": "text/html, application/dicom+json;q=0.5"}, 200),
        ({"accept": "*/*"}, 200),
        ({"content_type": 'multipart/related; type="application/dicom"'}, 400),
        ({"content_type": "multipart/related; boundary=other"}, 400),
    ],
)
def test_what_is_spoken(
    home: House, url: str, headers: dict[str, str], status: int
) -> None:
    """Media types that the service does not speak, and messages that are none."""
    assert status == post(url, multipart([part10()]), **headers).status_code
    assert (len(home.kept) == 1) == (status == 200)


@pytest.mark.parametrize("body", [b"", multipart([]), b"no multipart message"])
def test_a_message_without_parts(url: str, body: bytes) -> None:
    """400: there is nothing to store."""
    assert post(url, body).status_code == 400


def test_a_message_cut_off(home: House, url: str) -> None:
    """400; what came complete before is kept, the rest dropped."""
    body = multipart([part10(1), part10(2)])
    assert post(url, body[:-200]).status_code == 400
    assert len(home.kept) == 1
    assert home.incoming == []


def test_a_part_of_another_type(home: House, url: str) -> None:
    """A part that is no DICOM is refused, whatever it holds."""
    response = post(url, multipart([part10()], media_type="image/png"))
    assert response.status_code == 409
    assert home.kept == []


def test_too_large(home: House, url: str) -> None:
    """413, whether the length is stated or found out."""
    body = multipart([part10(), bytes(8 << 20)])
    assert post(url, body).status_code == 413
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    assert post(url, chunks).status_code == 413
    assert home.incoming == []


def test_no_room(tmp_path: Path) -> None:
    """503, and when to come again."""
    home = house(tmp_path, min_free_bytes=1 << 60)
    with running(stow_server(home.intake)) as server:
        url = f"http://127.0.0.1:{server.port}/dicom-web/studies"
        response = post(url, multipart([part10()]))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


def test_a_ledger_that_does_not_keep_up(home: House, url: str) -> None:
    """503 where every instance was out of resources, each told so."""
    home.books.full = True
    response = post(url, multipart([part10()]))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert reasons(response) == [("", OUT_OF_RESOURCES)]


def test_only_post(url: str) -> None:
    """What the service does not do, it says."""
    assert httpx.get(url).status_code == 405


def test_a_client_that_vanishes_leaves_nothing(home: House, url: str) -> None:
    """A request that breaks off leaves its complete instances and nothing else."""

    def cut_off() -> Iterator[bytes]:
        yield multipart([part10(1), part10(2)])[:-200] + bytes(2 << 20)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        post(url, cut_off())
    deadline = threading.Event()
    for _ in range(200):
        if len(home.kept) == 1 and not home.incoming:
            break
        deadline.wait(0.05)
    assert (len(home.kept), home.incoming) == (1, [])


def test_requests_side_by_side(home: House, url: str) -> None:
    """Many senders at once: all is stored, each gets its own answer."""
    results: list[tuple[list[str], httpx.Response]] = []

    def send(sender: int) -> None:
        numbers = range(100 * sender, 100 * sender + 8)
        response = post(url, multipart([part10(number) for number in numbers]))
        results.append(([f"{STUDY}.1.{number}" for number in numbers], response))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for expected, response in results:
        assert expected == stored(response)
    assert len(home.kept) == 32


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.parametrize(
    "size", [96 << 20, pytest.param(512 << 20, marks=pytest.mark.slow)]
)
def test_a_long_part_in_little_memory(home: House, size: int) -> None:
    """A part of 512 MB is streamed: the process grows by less than 50 MB."""
    head, _, tail = multipart([part10(PixelData=b"")]).partition(b"\xe0\x7f\x10\x00OW")
    chunk = bytes(1 << 20)
    most = 0
    before = resident()

    def body() -> Iterator[bytes]:
        nonlocal most
        yield head + b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little")
        for _ in range(size >> 20):
            yield chunk
            most = max(most, resident() - before)
        yield tail[6:]

    with running(stow_server(home.intake)) as server:
        url = f"http://127.0.0.1:{server.port}/dicom-web/studies"
        response = post(url, body())
    assert response.status_code == 200
    assert home.books.received[0].size > size
    assert most < 50 << 20
