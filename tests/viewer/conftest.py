"""A PACS with our results in it, OHIF beside it, and a browser.

The studies went the whole way, or were composed where the demonstration pack does not
say such things; everything is stored in a real Orthanc, once for the session.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, sync_playwright

from tests.integration.conftest import Orthanc, free_port, orthanc_binary
from tests.running import end_with_parent
from tests.viewer.filled import Filled, fill
from tests.viewer.ohif import FLAGS, Ohif

__all__ = ["orthanc_binary"]

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SHOTS = REPOSITORY / "build" / "viewer"
START_TIMEOUT_S = 300
"""The first time, OHIF is downloaded."""


@pytest.fixture(scope="session")
def pacs(
    orthanc_binary: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Orthanc]:
    """Return a running Orthanc."""
    one = Orthanc(binary=orthanc_binary, folder=tmp_path_factory.mktemp("orthanc"))
    one.start()
    yield one
    one.kill()


@pytest.fixture(scope="session")
def filled(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Return the studies that Orthanc has, with our results."""
    return fill(pacs, tmp_path_factory.mktemp("up"))


@pytest.fixture(scope="session")
def viewer_url(
    pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return where OHIF is served, as the sandbox serves it."""
    port = free_port()
    command = [
        *(sys.executable, str(REPOSITORY / "deploy" / "viewer.py")),
        *("--port", str(port), "--orthanc", pacs.url),
        *("--work", str(tmp_path_factory.mktemp("download"))),
    ]
    process = subprocess.Popen(
        command,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread holds a lock here
    )
    url = f"http://127.0.0.1:{port}"
    _await_answer(url)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """Return Debian's Chromium without a window, its profile fresh."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started.new_context()
        started.close()


@pytest.fixture
def ohif(
    filled: Filled,  # noqa: ARG001 - the PACS has it before anybody looks
    viewer_url: str,
    browser: BrowserContext,
) -> Iterator[Ohif]:
    """Return OHIF in a fresh tab; whatever happens there, nothing leaves the machine."""
    one = Ohif(browser=browser, url=viewer_url, shots=SHOTS)
    yield one
    one.close()
    assert one.outside == []


def _await_answer(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() < deadline, "OHIF is not served: see above"
            time.sleep(0.1)
        else:
            return
