"""What tests of every part share."""

import os
from pathlib import Path

import pytest

collect_ignore = ["viewer"]
"""Needs a browser and its driver: `make test-viewer` names the folder."""
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the shared corpus: ``PACSIGHT_SHARED``, or ``../shared``.

    Where it is absent the test is skipped, or fails where ``CI=true``.
    """
    environment = os.environ  # noqa: TID251 - the corpus is a matter of tests only
    folder = Path(environment.get("PACSIGHT_SHARED") or BESIDE_THE_CHECKOUT)
    if not folder.is_dir():
        reason = f"no shared corpus at {folder}: set PACSIGHT_SHARED"
        if environment.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
