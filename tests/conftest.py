"""What tests of every part share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from dicom_node import logs

collect_ignore = ["viewer"]
"""Needs a browser and its driver: `make test-viewer` names the folder."""
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"

_CONFIG = structlog.get_config()


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
    """Undo what commands that run in this process make of its logs.

    They would go on writing to where a test's output was: this test's commands, and
    those of fixtures that were made before it.
    """
    root = logging.getLogger()
    handlers = [one for one in root.handlers if type(one).__module__ != logs.__name__]
    structlog.configure(**_CONFIG)
    root.handlers, level = list(handlers), root.level
    yield
    structlog.configure(**_CONFIG)
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
