"""``pacsight audit``: what the trail says, for people and for scripts."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node.audit.folder import AuditFolder
from dicom_node.auditing import patient_pseudonyms
from dicom_node.config import Settings
from dicom_node.domain import AtlasSearched, ResultsSent, StudyUid
from tests.audits import AT, CHEST, STUDY, one_of_each, teller
from workers.cli import app

OTHER = StudyUid("1.2.3.4")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return settings of a site whose trail has an event of each kind."""
    settings = Settings(data_dir=tmp_path / "data")
    folder = AuditFolder(path=settings.audit_dir)
    folder.open()
    events = [
        *one_of_each(),
        AtlasSearched(atlas="a 1", pack="chest", study_uid=OTHER),
        ResultsSent(
            destination="pacs",
            address="10.1.2.9",
            study_uid=OTHER,
            sop_classes=CHEST,
            patient_id="P-18",
        ),
    ]
    patients = patient_pseudonyms(settings)
    who = teller(pseudonym=patients.of)
    messages = [
        who.message(event, AT + timedelta(hours=number)).to_xml()
        for number, event in enumerate(events)
    ]
    folder.append([*messages, b"half a line"], AT)
    file = tmp_path / "pacsight.toml"
    file.write_text(f'data_dir = "{settings.data_dir}"\n')
    return file


def test_the_trail_is_shown(config: Path) -> None:
    """In 80 columns; that it was read stands at its end."""
    first, second = (_run(config, "show", "--limit", "1") for _ in range(2))
    shown = _run(config, "show")

    assert "Audit Log Used" in first
    assert "Audit Log Used" in second
    assert "CT1 (10.1.2.3) → pacsight node (reading-room)" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


def test_an_event_is_looked_for(config: Path) -> None:
    """By its name or code, by time, by study."""
    alerts = _json(config, "show", "--event", "security alert")
    coded = _json(config, "show", "--event", "110113")
    late = _json(config, "show", "--event", "110113", "--since", "2026-05-04 21:00:00")
    studied = _json(config, "show", "--study", OTHER[-5:])

    assert {one["event"] for one in alerts} == {"Security Alert"}
    assert alerts == coded
    assert 0 < len(late) < len(alerts)
    assert [one["studies"] for one in studied] == [[OTHER], [OTHER]]


def test_a_patient_is_found(config: Path) -> None:
    """By the ID, which is read from stdin; also what names only the patient's studies."""
    found = _json(config, "find", "--patient", stdin="P-18\n")

    assert [one["event"] for one in found] == ["Query", "DICOM Instances Transferred"]
    assert {uid for one in found for uid in one["studies"]} == {OTHER}
    assert "P-18" not in json.dumps(found)


def test_a_site_that_wrote_ids_finds_them(config: Path) -> None:
    """A trail may have pseudonyms in one year, IDs in another."""
    folder = AuditFolder(path=config.parent / "data" / "audit")
    event = one_of_each()[2]
    folder.append([teller(pseudonym=None).message(event, AT).to_xml()], AT)
    found = _json(config, "find", "--patient", stdin="P-17\n")
    patients = {patient for one in found for patient in one["patients"]}

    assert "P-17" in patients
    assert len(patients) == 2
    assert {uid for one in found for uid in one["studies"]} == {STUDY}


def _run(config: Path, *words: str, stdin: str = "") -> str:
    runner = CliRunner(env={"COLUMNS": "80"})
    command = ["audit", words[0], "--config", str(config), *words[1:]]
    done = runner.invoke(app, command, input=stdin, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return re.sub("\x1b\\[[0-9;]*m", "", done.stdout)


def _json(config: Path, *words: str, stdin: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        _run(config, *words, "--json", stdin=stdin)
    )
    return found
