"""An atlas that tests share."""

from pathlib import Path

import pytest

from tests.atlases import Material, built, material
from workers.decoding import DecodePool
from workers.pack import Pack


@pytest.fixture(scope="session")
def made_of(tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Material:
    """Return what the shared atlas is built of."""
    return material(tmp_path_factory.mktemp("material"), pack)


@pytest.fixture(scope="session")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    made_of: Material,
    pack: Pack,
    spare_pool: DecodePool,
) -> Path:
    """Return the folder of an atlas; its link file lies beside it. Not to be written to."""
    out = tmp_path_factory.mktemp("atlas") / "chests"
    built(out, made_of, pack, spare_pool)
    return out
