"""The page that leads from labelled images to flags: every command of it is run."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.domain import Flag
from tests.unit.test_docs import REPOSITORY

PAGE = REPOSITORY / "docs" / "packs.md"
END = "## The official weights"
PACSIGHT = (sys.executable, "-m", "workers")
BLOCK = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)


def pacsight(words: list[str], folder: Path) -> str:
    """Return what a command prints, run where the page is followed."""
    done = subprocess.run(
        ["env", f"PACSIGHT_DATA_DIR={folder}/data", *PACSIGHT, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_leads_to_flags_at_95_percent_sensitivity(tmp_path: Path) -> None:
    """Command after command, as it stands there; then studies arrive and are flagged."""
    said = {}
    for line in BLOCK.findall(PAGE.read_text().partition(END)[0]):
        if line.startswith("pacsight "):
            said[line] = pacsight(shlex.split(line)[1:], tmp_path)
        else:
            assert line.startswith("packs = "), line
            (tmp_path / "pacsight.toml").write_text(f"{line}\n")
    reports = sorted((tmp_path / "reports").rglob("*SR*.dcm"))
    findings = [
        json.loads(pacsight(["read-report", str(report), "--json"], tmp_path))[
            "findings"
        ]
        for report in reports
    ]

    assert len(reports) >= 20
    ours = [one for each in findings for one in each if one["key"] == "nodule"]
    assert sum(one["flag"] == Flag.ABOVE for one in ours) >= 8
    assert {one["operating_point"]["threshold_set"] for one in ours} == {"site-v1"}
