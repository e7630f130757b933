"""Files that nobody sends in good faith: what each door answers, and what is recorded."""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.filereader import read_file_meta_info
from pynetdicom import _config
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicom_node.admission import MOST_FRAMES
from dicom_node.domain import Analysis, FrontDoor, Header, Origin
from dicom_node.errors import CANNOT_UNDERSTAND
from dicom_node.hearing import Listener
from dicom_node.ledger import arrivals, open_ledger, work
from dicom_node.scp import StorageScp
from dicom_node.web.server import HttpServer
from tests import hostile
from tests.arrivals import ENCODER
from tests.integration.test_scp import associate
from tests.receiving import BOUNDARY as MARK
from tests.receiving import (
    House,
    bundled,
    house,
    multipart,
    part10,
    running,
    stow_server,
)

CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={MARK}'
REFUSED, TAKEN, KEPT = "refused", "taken", "kept, not analysed"
QUICK_S = 10.0
"""Processor time of both doors and of the sender together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """A file, and what becomes of it at each door."""

    make: Callable[[], bytes]
    outcome: str
    because: str = ""


FILES = {
    "1,000 sequences in each other": Hostile(
        make=lambda: hostile.nested(1000),
        outcome=REFUSED,
        because="its sequences are nested too deep",
    ),
    "100,000 sequences in each other": Hostile(
        make=lambda: hostile.nested(100_000),
        outcome=REFUSED,
        because="its sequences are nested too deep",
    ),
    "100,000 in each other, by length": Hostile(
        make=lambda: hostile.nested_by_length(100_000), outcome=TAKEN
    ),
    "an element of 4 GB": Hostile(
        make=lambda: hostile.lying(0xFFFFFFF0),
        outcome=REFUSED,
        because="truncated: it ends within an element",
    ),
    "an element past the end": Hostile(
        make=lambda: hostile.lying(4096),
        outcome=REFUSED,
        because="truncated: it ends within an element",
    ),
    "a sequence never closed": Hostile(
        make=hostile.never_closed, outcome=REFUSED, because="a sequence is damaged"
    ),
    "1,100,000 items": Hostile(
        make=lambda: hostile.items(1_100_000),
        outcome=KEPT,
        because="it has more than 1000000 elements",
    ),
    "1,100,000 elements": Hostile(
        make=lambda: hostile.elements(1_100_000),
        outcome=KEPT,
        because="it has more than 1000000 elements",
    ),
    "private values of 60 MB": Hostile(make=lambda: hostile.private(60), outcome=TAKEN),
    "2,147,483,647 frames": Hostile(
        make=lambda: part10(NumberOfFrames=2_147_483_647),
        outcome=KEPT,
        because="it says that it has more than 20000 frames",
    ),
    "a JPEG 2000 of 60,000 x 60,000": Hostile(
        make=hostile.vast_jpeg2000, outcome=TAKEN
    ),
    "a JPEG of 65,500 x 65,500": Hostile(make=hostile.vast_jpeg, outcome=TAKEN),
    "deflated: 512 MB of zeros": Hostile(
        make=lambda: hostile.deflated(512 << 20), outcome=TAKEN
    ),
    "a path for a UID": Hostile(
        make=lambda: hostile.named("../../../etc/cron.d"),
        outcome=REFUSED,
        because="Study UID is not a UID",
    ),
    "another path for a UID": Hostile(
        make=lambda: hostile.named("/tmp/1.2.3"),  # noqa: S108 - what an attacker writes
        outcome=REFUSED,
        because="Study UID is not a UID",
    ),
    "NUL in a UID": Hostile(
        make=lambda: hostile.named("1.2\0.3.4.5"),
        outcome=REFUSED,
        because="Study UID is not a UID",
    ),
    "a UID of 4,096 digits": Hostile(
        make=lambda: hostile.named("1." * 2048),
        outcome=REFUSED,
        because="Study UID is not a UID",
    ),
    "script in a name": Hostile(
        make=lambda: part10(PatientName="<script>alert(1)</script>^<img src=x>"),
        outcome=TAKEN,
    ),
    "a character set that is none": Hostile(
        make=lambda: hostile.charset(
            b"ISO 2022 IR 87\\../\\x\0", b"\x1b$B\xff\xfe\x1b"
        ),
        outcome=TAKEN,
    ),
    "escapes without end": Hostile(
        make=lambda: hostile.charset(b"\\ISO 2022 IR 87 ", b"\x1b$B" * 5000),
        outcome=TAKEN,
    ),
}


@pytest.fixture
def home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


@pytest.fixture
def doors(home: House) -> Iterator[tuple[StorageScp, HttpServer]]:
    """Return both front doors before one intake, running."""
    with (
        running(StorageScp(Listener(), home.intake)) as scp,
        running(stow_server(home.intake, max_body_bytes=1 << 30)) as stow,
    ):
        yield scp, stow


def stored(scp: StorageScp, content: bytes, folder: Path) -> int:
    """Return the status of a C-STORE of these bytes, as they are."""
    file = folder / "sent.dcm"
    file.write_bytes(content)
    syntax = read_file_meta_info(file).TransferSyntaxUID
    association = associate(scp, (CTImageStorage, [syntax]))
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
        answer = association.send_c_store(file)
    association.release()
    return int(answer.Status)


LARGE = {
    "1,100,000 items",
    "1,100,000 elements",
    "private values of 60 MB",
    "deflated: 512 MB of zeros",
    "100,000 in each other, by length",
}
"""These take seconds, of which most go into sending."""


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on character sets
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in FILES],
)
def test_both_doors_say_the_same(
    home: House, doors: tuple[StorageScp, HttpServer], name: str, tmp_path: Path
) -> None:
    """In a moment, and in little memory; what is refused leaves no file."""
    scp, stow = doors
    file = FILES[name]
    content = file.make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    status = stored(scp, content, tmp_path)
    answer = httpx.post(
        f"http://127.0.0.1:{stow.port}/dicom-web/studies",
        content=multipart([content]),
        headers={"content-type": CONTENT_TYPE},
        timeout=60,
    )
    took_s = time.process_time() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if file.outcome == REFUSED:
        assert (status, answer.status_code) == (CANNOT_UNDERSTAND, 409)
        assert {one.comment for one in home.books.refused} == {file.because}
        assert home.kept == []
    else:
        assert (status, answer.status_code) == (0x0000, 200)
        headers = [one.header for one in home.books.received]
        assert [_said(header) for header in headers] == [
            (file.outcome, file.because)
        ] * 2
    assert home.incoming == []
    assert took_s < QUICK_S
    assert grown < 6 * len(content) + (64 << 20)  # what the test itself sends counts


def _said(header: Header) -> tuple[str, str]:
    analysed = header.analysis is Analysis.IMAGE
    return (TAKEN if analysed else KEPT), header.reason


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"NumberOfFrames": MOST_FRAMES}, 37),  # 1.2 kB, 256 bits a frame
        ({"NumberOfFrames": MOST_FRAMES, "Rows": 65535, "Columns": 65535}, 1),
        ({"NumberOfFrames": -5}, 1),
    ],
)
def test_frames_that_cannot_be_there_get_no_row(
    home: House, tmp_path: Path, changes: dict[str, Any], rows: int
) -> None:
    """However many the header claims: the bytes tell how many there can be at most."""
    origin = Origin(door=FrontDoor.FILE)
    taken = home.intake.take(home.put(part10(**changes)), origin, session=None)
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", migrate=True)
    with ledger.write() as tx:
        arrivals.record(tx, [taken], encoders=[ENCODER.digest])
        _, frames = work.frames_done(tx)
    ledger.close()
    assert frames == pytest.approx(rows, abs=3)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"X-Header: " + b"y" * (10 << 20) + b"\r\n\r\n", {}, 400),
        (b"X: y\r\n" * 1_500_000 + b"\r\n", {}, 400),
        (b"x", {"content-encoding": "gzip"}, 415),
        (b"x", {"content-encoding": "deflate, gzip"}, 415),
        (b"x", {"content-type": CONTENT_TYPE + "; x=" + "y" * 60_000}, 400),
        (b"x", {"x-header": "y" * 200_000}, 400),
    ],
)
def test_headers_without_end(
    doors: tuple[StorageScp, HttpServer],
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    """Of a part, or of the request; and what is compressed is not inflated."""
    _, stow = doors
    begun = time.process_time()
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{stow.port}/dicom-web/studies",
            content=f"--{MARK}\r\n".encode() + body,
            headers={"content-type": CONTENT_TYPE} | headers,
            timeout=60,
        )
        assert answer.status_code == status
    except httpx.NetworkError:
        pass  # the node had heard enough, and closed the connection
    assert time.process_time() - begun < QUICK_S


@pytest.mark.slow
def test_a_message_of_100000_parts(
    home: House, doors: tuple[StorageScp, HttpServer]
) -> None:
    """It is refused once there are more than a message may have."""
    _, stow = doors
    answer = httpx.post(
        f"http://127.0.0.1:{stow.port}/dicom-web/studies",
        content=multipart([b""] * 100_000, media_type="image/png"),
        headers={"content-type": CONTENT_TYPE},
        timeout=60,
    )
    assert answer.status_code == 400
    assert answer.text == "the message has more than 20000 parts\n"
    assert home.incoming == []


def test_a_good_file_is_taken_all_the_same(
    home: House, doors: tuple[StorageScp, HttpServer], tmp_path: Path
) -> None:
    """So that these tests are about what is wrong with the others."""
    scp, _ = doors
    content = bundled("CT_small.dcm").read_bytes()
    assert stored(scp, content, tmp_path) == 0x0000
    assert _said(home.books.received[0].header) == (TAKEN, "")
