"""What tests of every part share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

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


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a command that runs in this process makes of its logs.

    It would go on writing to where that test's output was.
    """
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**config)
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
