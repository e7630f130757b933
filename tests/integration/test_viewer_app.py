"""What serves OHIF: its pages, and Orthanc behind them, read only, for this machine."""

import importlib
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset, dcmwrite
from pydicom.uid import EncapsulatedPDFStorage

from tests.integration.conftest import Orthanc, free_port
from workers.phantoms import datasets, phantom

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "orthanc" / "ohif-config.js"
PDF = b"%PDF-1.7 not much of one"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like OHIF's."""
    folder = tmp_path_factory.mktemp("dist")
    (folder / "index.html").write_text("<title>OHIF</title>")
    (folder / "decoder.wasm").write_bytes(b"\0asm")
    return folder


@pytest.fixture(scope="module")
def viewer(orthanc: Orthanc, pages: Path) -> Iterator[httpx.Client]:
    """Return a client of what is served beside Orthanc."""
    with _serving(pages, orthanc.url) as client:
        yield client


@pytest.fixture(scope="module")
def image(orthanc: Orthanc) -> Dataset:
    """Return a radiograph that Orthanc has."""
    (one,) = datasets(phantom("chest_normal", 31), size=64)
    _upload(orthanc, one)
    return one


@pytest.mark.parametrize(
    "path", ["/", "/viewer?StudyInstanceUIDs=1.2", "/viewer/dicomweb"]
)
def test_every_address_of_its_router_is_its_page(
    viewer: httpx.Client, path: str
) -> None:
    """OHIF reads the address itself."""
    assert viewer.get(path).text == "<title>OHIF</title>"


def test_a_missing_file_is_missing(viewer: httpx.Client) -> None:
    """A script that is not there is no page."""
    assert viewer.get("/gone.bundle.js").status_code == httpx.codes.NOT_FOUND


def test_decoders_have_their_type(viewer: httpx.Client) -> None:
    """Browsers compile WebAssembly as it comes only under its own type."""
    assert viewer.get("/decoder.wasm").headers["content-type"] == "application/wasm"


def test_the_configuration_is_ours(viewer: httpx.Client) -> None:
    """Not the one of OHIF's package, which names a public server."""
    assert viewer.get("/app-config.js").text == CONFIG.read_text()


@pytest.mark.parametrize("path", ["/", "/app-config.js", "/dicom-web/studies"])
def test_the_browser_is_isolated(viewer: httpx.Client, path: str) -> None:
    """Every answer says so, and that nothing is loaded from elsewhere."""
    headers = viewer.get(path).headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["content-security-policy"].startswith("default-src 'self' ")


def test_a_list_of_fields_is_asked_for(viewer: httpx.Client, image: Dataset) -> None:
    """Orthanc leaves out what is asked for with a comma, as OHIF does."""
    fields = "includefield=00081030,00201208&limit=101&offset=0"
    query = f"StudyInstanceUID={image.StudyInstanceUID}&{fields}"
    (study,) = viewer.get(f"/dicom-web/studies?{query}").json()
    assert study["00081030"]["Value"] == [image.StudyDescription]
    assert study["00201208"]["Value"] == [1]


def test_frames_come_through(viewer: httpx.Client, image: Dataset) -> None:
    """The pixels, as Orthanc has them."""
    answer = viewer.get(f"{_instance(image)}/frames/1")
    assert answer.headers["content-type"].startswith("multipart/related")
    assert image.PixelData in answer.content


def test_bulk_data_is_found_at_its_address(
    viewer: httpx.Client, orthanc: Orthanc, image: Dataset
) -> None:
    """Orthanc makes the address from the Host header that the browser sent."""
    document = Dataset()
    document.PatientID = image.PatientID
    document.StudyInstanceUID = image.StudyInstanceUID
    document.SeriesInstanceUID = f"{image.StudyInstanceUID}.7"
    document.SOPInstanceUID = f"{image.StudyInstanceUID}.7.1"
    document.SOPClassUID = EncapsulatedPDFStorage
    document.EncapsulatedDocument = PDF
    document.file_meta = image.file_meta.__class__()
    document.file_meta.TransferSyntaxUID = image.file_meta.TransferSyntaxUID
    _upload(orthanc, document)
    (metadata,) = viewer.get(f"{_instance(document)}/metadata").json()
    address = metadata["00420011"]["BulkDataURI"]
    assert address.startswith(str(viewer.base_url))
    assert PDF in viewer.get(address).content


def test_nothing_is_written(viewer: httpx.Client) -> None:
    """The viewer shows; it stores nothing in the PACS."""
    answer = viewer.post("/dicom-web/studies", content=b"x")
    assert answer.status_code == httpx.codes.METHOD_NOT_ALLOWED


def test_other_host_names_are_refused(viewer: httpx.Client) -> None:
    """A page from elsewhere that rebinds its name to loopback gets nothing."""
    answer = viewer.get("/dicom-web/studies", headers={"Host": "evil.example"})
    assert answer.status_code == httpx.codes.BAD_REQUEST


def test_orthanc_gone_is_said(pages: Path) -> None:
    """A bad gateway, in words, and no traceback."""
    with _serving(pages, f"http://127.0.0.1:{free_port()}") as client:
        answer = client.get("/dicom-web/studies")
    assert answer.status_code == httpx.codes.BAD_GATEWAY
    assert answer.text.startswith("Orthanc does not answer")


@contextmanager
def _serving(pages: Path, orthanc: str) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "deploy"))
        app = importlib.import_module("viewer_app").viewer_app(pages, CONFIG, orthanc)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    server.should_exit = True
    thread.join()


def _instance(one: Dataset) -> str:
    study = f"/dicom-web/studies/{one.StudyInstanceUID}"
    return f"{study}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}"


def _upload(orthanc: Orthanc, one: Dataset) -> None:
    content = io.BytesIO()
    dcmwrite(content, one, enforce_file_format=True)
    OrthancApiClient(orthanc.url).upload(content.getvalue())
