"""What the node says of itself: named events with keys from an allow-list.

No patient data can be logged: a key that is not in `ALLOWED` is withheld and only
named, an event is a fixed name, a value is a short scalar. Exceptions are told by
their type and place, because messages of libraries quote what they choke on; only
our own errors, which promise to hold no patient data, are told in full. The same
holds for what libraries log by themselves.
"""

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from dicom_node.errors import PacsightError

Style = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

ALLOWED = frozenset(
    {
        # what structlog and this module add
        *("event", "level", "timestamp", "withheld"),
        *("error", "error_type", "where", "library", "detail"),
        # keys of the ledger, and UIDs
        *("study", "revision", "version", "embedding", "batch", "job", "delivery"),
        *("study_uid", "series_uid", "sop_instance_uid", "sop_class_uid"),
        *("transfer_syntax_uid", "device_uid", "sha256"),
        # who and where
        *("peer", "aet", "calling_aet", "called_aet", "address", "host", "port"),
        *("door", "site", "worker", "queue", "pack", "encoder", "device", "child"),
        # what happened, and how much
        *("state", "status", "reason", "verdict", "priority", "modality", "kind"),
        *("signal", "exit_code", "attempt", "attempts", "count", "instances"),
        *("frames", "images", "objects", "studies", "batches", "jobs", "batch_size"),
        *("bytes", "free_bytes", "free_inodes", "seconds", "wait_s", "threads"),
    }
)
"""Every key that may be logged. Adding one is a decision about patient data."""

NAMED = re.compile(r"[a-z][a-z_. -]{0,63}")
"""An event: a fixed name without digits or capitals, so no name, date or ID."""

LONGEST = 300
PERSON_NAME_DELIMITER = "^"
"""PS3.5 6.2.1: only person names hold it."""

TRUSTED = frozenset({"uvicorn.error"})
"""Libraries whose messages hold no patient data; of others the place is told."""
SILENT = ("pynetdicom", "uvicorn.access")
"""What they report is logged by us under a name, or names patients."""


def configure_logs(
    *, style: Style = "auto", level: Level = "info", stream: TextIO | None = None
) -> None:
    """Make structlog, logging and warnings of this process write events.

    Parameters
    ----------
    style
        ``json``: one object a line. ``console``: for people. ``auto``: console on
        a terminal, else JSON.
    stream
        Where to; standard error unless given.
    """
    out = stream or sys.stderr
    terminal = out.isatty()
    console = style == "console" or (style == "auto" and terminal)
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            tell_exception,
            withhold,
            structlog.dev.ConsoleRenderer(colors=terminal)
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _adopt_libraries(least)


def withhold(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> MutableMapping[str, Any]:
    """Return the event without what may not be logged; ``withheld`` names that."""
    said: dict[str, Any] = {}
    kept_back: list[str] = []
    for key, value in event.items():
        if key in ALLOWED and _may_be_said(key, value):
            said[key] = _short(value)
        else:
            kept_back.append(key)
    said.setdefault("event", "withheld")
    if kept_back:
        said["withheld"] = " ".join(sorted(kept_back))
    return said


def tell_exception(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> MutableMapping[str, Any]:
    """Return the event with its exception as type and place, without its message."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__name__
        event["where"] = _place(error.__traceback__)
        if isinstance(error, PacsightError):
            event["error"] = str(error)
    return event


class LibraryHandler(logging.Handler):
    """Says of a library's record which library and place it comes from."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event called ``library``."""
        event: dict[str, Any] = {
            "library": record.name,
            "where": f"{record.module}.py:{record.lineno}",
        }
        if record.name in TRUSTED:
            event["detail"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            event["exc_info"] = record.exc_info[1]
        log = structlog.get_logger()
        log.log(min(record.levelno, logging.ERROR), "library", **event)


def _adopt_libraries(least: int) -> None:
    """Send what libraries log or warn of through the same processors."""
    root = logging.getLogger()
    root.handlers = [LibraryHandler()]
    root.setLevel(max(least, logging.WARNING))
    for name in TRUSTED:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def _may_be_said(key: str, value: object) -> bool:
    if isinstance(value, str):
        named = key != "event" or NAMED.fullmatch(value) is not None
        return named and PERSON_NAME_DELIMITER not in value
    return value is None or isinstance(value, bool | int | float | datetime | Enum)


def _short(value: object) -> object:
    """Return the value as JSON can hold it, text on one line."""
    if isinstance(value, Enum):
        return value.value if isinstance(value, str) else value.name.lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return " ".join(value.split())[:LONGEST]
    return value


def _place(trace: TracebackType | None) -> str:
    """Return where an exception was raised: file, line and function."""
    frames = traceback.extract_tb(trace)
    if not frames:
        return ""
    last = frames[-1]
    file = last.filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{last.lineno} {last.name}"
