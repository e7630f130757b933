"""Labels that exclude one another, from images of phantoms to a report: by the commands."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from rich.console import Console
from typer.testing import CliRunner

from dicom_node.config import Settings
from tests.cohorts import labelled
from workers.analyze import analyze_files
from workers.cli import app
from workers.cohort import read_scores
from workers.pack import open_pack
from workers.phantoms import datasets, phantom

KINDS = ("chest_normal", "pneumothorax", "effusion")
OF_EACH = 12
HEADER = "patient,study,sop_instance_uid,finding,label,role"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
RUN = CliRunner()


def say(*words: object) -> str:
    """Return what a command prints."""
    done = RUN.invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with chests in ``sent``, labels and embeddings."""
    folder = tmp_path_factory.mktemp("exclusive")
    (folder / "sent").mkdir()
    lines = []
    for kind in KINDS:
        for number in range(OF_EACH):
            (one,) = datasets(phantom(kind, 900_000 + number), size=192)
            name = f"{kind}-{number}"
            one.save_as(folder / "sent" / f"{name}.dcm", enforce_file_format=True)
            role = "test" if number % 4 == 3 else "train"
            start = f"{name},{one.StudyInstanceUID},{one.SOPInstanceUID}"
            lines += [f"{start},{of},{int(of == kind)},{role}" for of in KINDS]
    labelled(folder / "labels.csv", *lines, header=HEADER)
    say(
        "embed",
        folder / "sent",
        "--pack",
        "phantoms",
        "--out",
        folder / "e.safetensors",
    )
    return folder


def fit(images: Path, out: Path, *more: object) -> list[object]:
    """Return the words of the fit of a category."""
    return [
        *("pack", "fit", "phantoms", "--data", images / "labels.csv"),
        *("--embeddings", images / "e.safetensors", "--head", "linear", "--out", out),
        *(
            "--exclusive",
            f"shows={','.join(KINDS)}",
            "--code",
            "1|99TEST|What it shows",
        ),
        *(word for k in KINDS for word in ("--value", f"{k}={k}|99TEST|{k}")),
        *("--accept", "DX|CR:CHEST", *more),
    ]


def reported(images: Path, pack: Path, folder: Path) -> dict[str, Any]:
    """Return what the reports on two test images of each kind say, by study."""
    files = [images / "sent" / f"{kind}-{n}.dcm" for kind in KINDS for n in (3, 7)]
    settings = Settings(data_dir=folder / "data", packs=(str(pack),))
    out = folder / "reports"
    analyze_files(files, out, settings=settings, console=Console(quiet=True))
    written = {path: dcmread(path) for path in out.rglob("*.dcm")}
    return {
        str(one.StudyInstanceUID): json.loads(say("read-report", path, "--json"))[
            "categories"
        ][0]
        for path, one in written.items()
        if one.SOPClassUID == SR_CLASS
    }


@pytest.mark.slow
def test_a_report_says_what_the_fit_scored(images: Path, tmp_path: Path) -> None:
    """Studies of test patients: the same value and share, as a probability or not.

    The shares that were kept are evaluated, one value against the others.
    """
    out, kept = tmp_path / "new", tmp_path / "s.safetensors"
    said = json.loads(say(*fit(images, out, "--scores-out", kept, "--json")))
    assert said["categories"][0]["accuracy"][0] > 0.7
    say("pack", "verify", out)
    scores = read_scores(kept)
    calibration = open_pack(out).manifest.categories[0].calibration
    name = calibration.set if calibration else ""
    evaluated = 0
    for study, found in reported(images, out, tmp_path).items():
        row = scores.scores[scores.units.index(study)]
        if found["chosen"] is None:  # outside the gate
            continue
        evaluated += 1
        assert found["chosen"]["meaning"] == KINDS[int(row.argmax())]
        assert found["score"]["value"] == pytest.approx(row.max(), abs=1e-5)
        assert found["score"]["calibration_set"] == name
        assert found["labels"] == len(KINDS)
    assert evaluated >= len(KINDS)
    say("evaluate", "--scores", kept, "--out", tmp_path / "evaluated")
    figures = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert "shows=effusion" in json.dumps(figures)


def test_an_image_with_two_values_is_refused(images: Path, tmp_path: Path) -> None:
    """One sentence, exit code 2, nothing half-written."""
    table = tmp_path / "labels.csv"
    text = (images / "labels.csv").read_text()
    table.write_text(text.replace("effusion,0", "effusion,1", 1))
    words = [*fit(images, tmp_path / "new"), "--data", table]
    done = RUN.invoke(app, list(map(str, words)))
    assert "is both chest_normal and effusion" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
