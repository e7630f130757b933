"""What the workers' tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packs import make_pack
from workers.decoding import DecodePool
from workers.pack import Pack


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a small pack that is real throughout. Not to be written to."""
    return make_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="session")
def spare_pool() -> Iterator[DecodePool]:
    """Yield a pool that tests share, as long as they do no harm to it."""
    with DecodePool(processes=1, memory_bytes=2 << 30, timeout_s=30) as pool:
        yield pool


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """Return where a test may write a DICOM file."""
    return tmp_path / "image.dcm"
