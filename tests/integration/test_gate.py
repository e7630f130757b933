"""The gate on the way from files to reports, and at the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from rich.console import Console
from typer.testing import CliRunner

from dicom_node.config import Settings
from dicom_node.errors import Permanent
from workers.analyze import analyze_files
from workers.cli import app
from workers.pack import locate, open_pack
from workers.phantoms import datasets, phantom

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SIZE = 256
RUN = CliRunner()


def turned(instances: tuple[Dataset, ...], turns: int = 2) -> tuple[Dataset, ...]:
    """Return the images turned by so many times 90 degrees."""
    for one in instances:
        one.PixelData = np.rot90(one.pixel_array, turns).tobytes()
        one["PixelData"].VR = "OW"
    return instances


def save(instances: tuple[Dataset, ...], folder: Path) -> Path:
    """Write a study's instances."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(instances):
        one.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
    return folder


def report(sent: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """Return the values in the report that the shipped pack makes, by keyword."""
    settings = Settings(data_dir=tmp_path / "data", packs=("phantoms",))
    out = tmp_path / "out"
    analyze_files([sent], out, settings=settings, console=Console(quiet=True))
    written = [dcmread(path) for path in out.rglob("*.dcm")]
    (found,) = (one for one in written if one.SOPClassUID == SR_CLASS)
    said: dict[str, list[Any]] = {}
    for item in found.iterall():
        said.setdefault(item.keyword, []).append(item.value)
    return said


def test_a_turned_chest_is_not_evaluated(tmp_path: Path) -> None:
    """Its report gives no score, and says why: it is outside the validated range."""
    sent = save(
        turned(datasets(phantom("chest_normal", 31), size=SIZE)), tmp_path / "in"
    )
    said = report(sent, tmp_path)
    assert "Not evaluated" in said["CodeMeaning"]
    assert "Input outside validated range" in said["CodeMeaning"]
    assert "Below threshold" not in said["CodeMeaning"]
    assert any(
        "unlike the images that this pack was validated on (distance " in text
        for text in said["TextValue"]
    )


def test_a_chest_as_it_should_be_is_evaluated(tmp_path: Path) -> None:
    """The same phantom, upright."""
    sent = save(datasets(phantom("chest_normal", 31), size=SIZE), tmp_path / "in")
    said = report(sent, tmp_path)
    assert not any("unlike the images" in text for text in said["TextValue"])
    assert "Below threshold" in said["CodeMeaning"]


def test_check_says_what_is_in_and_what_is_out(tmp_path: Path) -> None:
    """A line for each volume and image; the same as JSON."""
    upright = datasets(phantom("effusion", 32), size=SIZE)
    save(upright, tmp_path / "in" / "a")
    save(turned(datasets(phantom("nodule", 33), size=SIZE)), tmp_path / "in" / "b")
    save(
        datasets(phantom("head_normal", 34), size=144, slices=6), tmp_path / "in" / "c"
    )
    said = RUN.invoke(app, ["gate", "check", "phantoms", str(tmp_path / "in")])
    assert said.exit_code == 0, said.output
    assert sum(": inside (" in line for line in said.stdout.splitlines()) == 2
    assert sum(": outside: unlike" in line for line in said.stdout.splitlines()) == 1
    said = RUN.invoke(app, ["gate", "check", "phantoms", str(tmp_path), "--json"])
    held = {Path(one["file"]).parts[-2:]: one for one in json.loads(said.stdout)}
    assert [one["inside"] for one in held.values()].count(False) == 1
    assert sorted(one["frames"] for one in held.values()) == [1, 1, 6]


def test_a_gate_is_fitted_on_embeddings_and_images(tmp_path: Path) -> None:
    """The new pack has it; without enough studies there is none, in one sentence."""
    folder, file = tmp_path / "in", tmp_path / "v.safetensors"
    for seed in range(20):
        save(datasets(phantom("chest_normal", 40 + seed), size=96), folder / f"{seed}")
    assert (
        RUN.invoke(
            app, ["embed", str(folder), "--out", str(file), "--pack", "phantoms"]
        ).exit_code
        == 0
    )
    order = [
        "gate", "fit", "phantoms", "--embeddings", str(file), "--all", "--images",
        str(folder), "--out", str(tmp_path / "new"), "--json",
    ]  # fmt: skip
    refused = RUN.invoke(app, order)
    assert isinstance(refused.exception, Permanent)
    assert "takes at least 49 patients or studies" in str(refused.exception)
    assert not (tmp_path / "new").exists()
    said = RUN.invoke(app, [*order, "--rate", "0.05"])
    assert said.exit_code == 0, said.output
    made = open_pack(tmp_path / "new")
    about = json.loads(said.stdout)
    assert (about["digest"], about["images"], about["studies"]) == (made.digest, 20, 20)
    assert made.manifest.gate is not None
    assert (made.manifest.gate.kind, made.manifest.gate.rate) == (
        "nearest and learned",
        0.05,
    )
    shipped = open_pack(locate("phantoms"))
    assert made.encoder_key == shipped.encoder_key
    assert made.digest != shipped.digest


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "name the labels with --data, or take --all"),
        (["--all"], "No such file"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(
    options: list[str], sentence: str, tmp_path: Path
) -> None:
    """And nothing is written."""
    out = tmp_path / "new"
    asked = [
        "gate",
        "fit",
        "phantoms",
        "--embeddings",
        str(tmp_path / "no.safetensors"),
    ]
    said = RUN.invoke(app, [*asked, "--out", str(out), *options])
    assert isinstance(said.exception, Permanent)
    assert sentence in str(said.exception)
    assert not out.exists()
