"""A site's own threshold, from scores to the report: the report names the set it used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.config import load_settings
from dicom_node.errors import Permanent
from sr_writer.reading import read_report
from sr_writer.said import Report
from tests.operated import studies, table_of
from workers.cli import app
from workers.cohort import write_scores
from workers.inforce import packs_in_force
from workers.pack import Pack, locate, open_pack
from workers.phantoms import datasets, phantom

FINDING = "pneumothorax"


def say(config: Path, *words: str | Path) -> str:
    """Return what a command says that goes well."""
    named = [*map(str, words), "--config", str(config)]
    done = CliRunner().invoke(app, named, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def analysed(config: Path, sent: Path, out: Path) -> tuple[Path, Report]:
    """Return the report that the packs in force make of files."""
    say(config, "analyze", sent, "--out", out, "--json")
    for path in out.rglob("*.dcm"):
        dataset = dcmread(path)
        if dataset.Modality == "SR":
            return path, read_report(dataset)
    raise AssertionError("there is no report")


def sets(report: Report, keys: Sequence[str]) -> list[tuple[str, str]]:
    """Return threshold set and operating point of findings."""
    said = {one.key: one.operating_point for one in report.findings}
    points = [said[key] for key in keys]
    return [(p.threshold_set, p.name) for p in points if p is not None]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the settings of a site, with one radiograph to analyse beside them."""
    (tmp_path / "sent").mkdir()
    (instance,) = datasets(phantom(FINDING, 1), size=96)
    instance.save_as(tmp_path / "sent" / "1.dcm", enforce_file_format=True)
    config = tmp_path / "pacsight.toml"
    config.write_text(
        f'data_dir = "{tmp_path}/data"\n'
        '[worker]\ndecode_processes = 1\ndevice = "cpu"\nthreads = 1\n'
    )
    return config


@pytest.fixture
def made(config: Path, shipped: Pack) -> dict[str, Any]:
    """Return the set that was chosen on scores of folds, and activated."""
    scores = config.parent / "scores.safetensors"
    write_scores(table_of(shipped, studies(90, 1), FINDING), scores)
    words = ("--finding", FINDING, "--scores", scores, "--name", "site", "--json")
    target = ("--specificity", "0.9", "--runs", "10")
    made = say(config, "threshold", "set", "phantoms", *words, *target)
    say(config, "threshold", "activate", "phantoms", "site-v1")
    found: dict[str, Any] = json.loads(made)
    return found


@pytest.fixture(scope="module")
def shipped() -> Pack:
    """Return the demonstration pack, at its own thresholds."""
    return open_pack(locate("phantoms"))


def test_a_report_names_the_set_that_was_activated(
    config: Path, made: dict[str, Any], shipped: Pack
) -> None:
    """From the report alone: its name and digest, and that the flag follows."""
    path, report = analysed(config, config.parent / "sent", config.parent / "out")
    (in_force,) = packs_in_force(load_settings(config, {}))
    assert report.algorithm.device_uid == in_force.device_uid != shipped.device_uid
    assert sets(report, [FINDING, "effusion"]) == [
        ("site-v1", "spec>=0.9"),
        ("site-v1", "sens>=0.95"),
    ]
    (said,) = (one for one in report.findings if one.key == FINDING)
    assert said.operating_point is not None
    assert said.operating_point.threshold == made["threshold"]
    assert said.operating_point.threshold_set_digest == made["digest"]
    assert report.flags_follow
    told = say(config, "read-report", path)
    assert "site-v1" in told
    assert made["digest"] in "".join(told.split())


def test_nothing_is_analysed_at_a_set_that_was_edited(
    config: Path, made: dict[str, Any]
) -> None:
    """One sentence, and no report."""
    edited, out = Path(made["file"]), config.parent / "out"
    edited.chmod(0o600)
    edited.write_text(edited.read_text().replace("spec>=0.9", "spec>=0.8"))
    words = ["analyze", str(config.parent / "sent"), "--out", str(out)]
    said = CliRunner().invoke(app, [*words, "--config", str(config)])
    assert isinstance(said.exception, Permanent)
    assert str(said.exception) == (
        f"{edited} does not verify: its signature is not that of what it says"
    )
    assert list(out.rglob("*.dcm")) == []


def evaluated(config: Path, *words: str | Path) -> dict[str, Any]:
    """Return the figures of the demonstration pack on scores of 90 studies."""
    scores = ("--scores", config.parent / "scores.safetensors")
    out = ("--out", config.parent / "evaluation")
    said = say(config, "evaluate", "phantoms", *scores, *out, *words, "--json")
    figures: dict[str, Any] = json.loads(said)
    return figures


@pytest.mark.parametrize("asked", ["in-force", "site-v1"])
def test_a_pack_is_evaluated_at_the_set_that_is_asked_for(
    config: Path, made: dict[str, Any], asked: str
) -> None:
    """The one in force, or any by its label; the report says which it was."""
    figures = evaluated(config, "--threshold-set", asked)
    (point,) = figures["findings"][0]["points"]
    assert point["threshold"] == made["threshold"]
    assert (
        figures["thresholds"] == f"site-v1 ({made['digest'][:12]}), a set of this site"
    )
    page = (config.parent / "evaluation" / "report.html").read_text("utf-8")
    assert f"Thresholds: {figures['thresholds']}." in page


def test_unless_asked_a_pack_is_evaluated_as_it_ships(
    config: Path, made: dict[str, Any], shipped: Pack
) -> None:
    """Whatever is in force."""
    figures = evaluated(config)
    (spec,) = (one for one in shipped.findings if one.key == FINDING)
    (point,) = figures["findings"][0]["points"]
    assert point["threshold"] == spec.operating_point.threshold != made["threshold"]
    assert figures["thresholds"].endswith("as the pack ships them")


def test_a_set_that_is_not_there_is_one_sentence(
    config: Path, made: dict[str, Any]
) -> None:
    """And no report is made."""
    assert made["set"] == "site-v1"
    with pytest.raises(Permanent, match="site-v2"):
        evaluated(config, "--threshold-set", "site-v2")
    assert not (config.parent / "evaluation").exists()


def test_a_threshold_set_without_its_pack_is_refused(config: Path) -> None:
    """Scores alone have no thresholds."""
    words = ("--scores", config, "--threshold-set", "in-force", "--out", config.parent)
    with pytest.raises(Permanent, match="name the pack"):
        say(config, "evaluate", *words)
