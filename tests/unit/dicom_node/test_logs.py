"""Logs: what may be said, and that patient data never is."""

import ast
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag

from dicom_node.domain import Priority
from dicom_node.errors import Permanent
from dicom_node.logs import ALLOWED, NAMED, configure_logs, withhold
from dicom_node.outgoing import Verdict

ROOT = Path(__file__).parents[3]
NAME = "DOE^JANE"


@pytest.fixture
def said() -> Iterator[StringIO]:
    """Return where this test's logs go; afterwards logging is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    stream = StringIO()
    configure_logs(style="json", level="info", stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


def lines(stream: StringIO) -> list[dict[str, Any]]:
    """Return the events that were written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(said: StringIO) -> None:
    """Name, level, time in UTC, and the keys that were given."""
    log = structlog.get_logger("some.module")
    log.info("delivered", peer="pacs", study_uid="1.2.3", attempts=2, seconds=0.5)
    (event,) = lines(said)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "delivered",
        "level": "info",
        "peer": "pacs",
        "study_uid": "1.2.3",
        "attempts": 2,
        "seconds": 0.5,
    }


def test_people_get_a_line_that_they_can_read() -> None:
    """The console style writes the same, without colours where there is no terminal."""
    stream, before = StringIO(), structlog.get_config()
    try:
        configure_logs(style="console", stream=stream)
        structlog.get_logger().warning("broker_down", error="no connection")
    finally:
        logging.captureWarnings(capture=False)
        logging.getLogger().handlers.clear()
        structlog.configure(**before)
    assert "broker_down" in stream.getvalue()
    assert "error='no connection'" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_events_below_the_level_are_not_written(said: StringIO) -> None:
    """The level of the settings counts."""
    structlog.get_logger().debug("tick")
    assert said.getvalue() == ""


PATIENT_KEYS = [
    *("patient_name", "PatientName", "name", "patient_id", "PatientID", "mrn"),
    *("birth_date", "PatientBirthDate", "accession_number", "AccessionNumber"),
    *("study_description", "StudyDescription", "series_description", "comment"),
    *("referring_physician", "sex", "age", "header", "dataset", "data", "text"),
    *("path", "filename", "url", "body", "identifier", "message", "args"),
]


@pytest.mark.parametrize("key", PATIENT_KEYS)
def test_patient_looking_keys_never_pass(said: StringIO, key: str) -> None:
    """A key that is not on the list is named, and its value is not written."""
    structlog.get_logger().info("received", **{key: "JANE-1970"}, instances=1)
    (event,) = lines(said)
    assert key not in ALLOWED
    assert event["withheld"] == key
    assert event["instances"] == 1
    assert "JANE" not in said.getvalue()


def test_no_patient_attribute_of_dicom_is_on_the_list() -> None:
    """Group 0010 and the free text of a study are not allowed under their keywords."""
    groups = [keyword_for_tag(Tag(0x0010, n)) for n in range(0x10, 0x5000)]
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in k) for k in groups}
    assert ALLOWED.isdisjoint({k.lower() for k in groups if k})
    assert ALLOWED.isdisjoint({k.strip("_") for k in snake if k})


@given(st.text(min_size=1), st.text())
def test_whatever_the_key_only_the_list_passes(key: str, value: str) -> None:
    """No key off the list is in the event that is written, whatever it is called."""
    out = withhold(None, "info", {"event": "received", key: value})
    assert set(out) <= ALLOWED


@pytest.mark.parametrize(
    "event", [NAME, "Jane Doe", "received 1.2.3", "patient 4711", "", "x" * 100]
)
def test_an_event_is_a_fixed_name(said: StringIO, event: str) -> None:
    """A sentence put together at run time is withheld as a whole."""
    structlog.get_logger().info(event)
    (written,) = lines(said)
    assert (written["event"], written["withheld"]) == ("withheld", "event")


@pytest.mark.parametrize(
    "value", [NAME, b"bytes", {"a": 1}, ["a"], Path("/x"), object(), ValueError("x")]
)
def test_a_value_is_a_short_scalar(said: StringIO, value: object) -> None:
    """Person names, containers and objects do not pass even under an allowed key."""
    structlog.get_logger().info("received", detail=value)
    (event,) = lines(said)
    assert event["withheld"] == "detail"
    assert "detail" not in event


def test_values_are_written_so_that_machines_can_read_them(said: StringIO) -> None:
    """Enumerations by name, times in ISO 8601, text on one line and not endless."""
    structlog.get_logger().info(
        "x",
        priority=Priority.STAT,
        verdict=Verdict.RETRY,
        seconds=None,
        state=datetime(2026, 1, 1, tzinfo=UTC),
        detail="a\nb" + "c" * 1000,
    )
    (event,) = lines(said)
    assert event["priority"] == "stat"
    assert event["verdict"] == "retry"
    assert event["state"] == "2026-01-01T00:00:00+00:00"
    assert event["detail"].startswith("a bc")
    assert len(event["detail"]) == 300


def test_a_foreign_exception_is_told_by_type_and_place(said: StringIO) -> None:
    """The message of a library may quote what it choked on."""
    try:
        int(NAME)
    except ValueError:
        structlog.get_logger().exception("study_failed", study_uid="1.2")
    (event,) = lines(said)
    assert event["error_type"] == "ValueError"
    assert event["where"].startswith("test_logs.py:")
    assert "DOE" not in said.getvalue()


def test_our_own_exception_is_told_in_full(said: StringIO) -> None:
    """Messages of our errors hold no patient data: they are for the operator."""
    error = Permanent("no codec can decode it")
    structlog.get_logger().error("study_failed", exc_info=error)
    (event,) = lines(said)
    assert event["error"] == "no codec can decode it"


def test_a_librarys_message_is_not_repeated(said: StringIO) -> None:
    """Of a record of a library the name, level and place are written."""
    logging.getLogger("pydicom").warning("Invalid value for VR PN: %r", NAME)
    logging.getLogger("pydicom").info("below the level of libraries")
    (event,) = lines(said)
    assert (event["event"], event["library"]) == ("library", "pydicom")
    assert event["level"] == "warning"
    assert event["where"].startswith("test_logs.py:")
    assert "DOE" not in said.getvalue()


def test_a_librarys_exception_is_told_by_type(said: StringIO) -> None:
    """The same where it logs an exception."""
    try:
        int(NAME)
    except ValueError:
        logging.getLogger("somebody").exception("failed for %s", NAME)
    (event,) = lines(said)
    assert (event["library"], event["error_type"]) == ("somebody", "ValueError")
    assert "DOE" not in said.getvalue()


def test_a_warning_is_not_repeated(said: StringIO) -> None:
    """Warnings of pydicom quote values: they say where they come from, and no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logs(style="json", stream=said)
        warnings.warn(f"Invalid value for VR UI: '{NAME}'", stacklevel=1)
        logging.captureWarnings(capture=False)
    (event,) = lines(said)
    assert event["library"] == "py.warnings"
    assert "DOE" not in said.getvalue()


def test_network_libraries_are_silent(said: StringIO) -> None:
    """What pynetdicom reports is logged under names; access logs hold queries."""
    logging.getLogger("pynetdicom.assoc").error("Association rejected")
    logging.getLogger("uvicorn.access").info("GET /studies?PatientName=%s", NAME)
    assert said.getvalue() == ""


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a logger's method in the packages, and where it stands."""
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for package in ("dicom_node", "sr_writer", "workers"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in levels
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id in {"log", "logger"}
                ):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_every_event_of_ours_would_be_written() -> None:
    """Each is logged under a fixed name, with keys that are on the list."""
    wrong = []
    for where, call in log_calls():
        name = call.args[0] if call.args else None
        fixed = isinstance(name, ast.Constant) and isinstance(name.value, str)
        if not fixed or not NAMED.fullmatch(str(ast.literal_eval(name or call))):
            wrong.append(f"{where}: the event is no fixed name")
        # a mapping that is spread (None here) is held to the list when it is logged
        keys = {keyword.arg for keyword in call.keywords} - {"exc_info", None}
        wrong += [f"{where}: {key} is not on the list" for key in keys - ALLOWED]
    assert wrong == []
