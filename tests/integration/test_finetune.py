"""`pacsight pack finetune`, alone and under torchrun, on phantoms and a real small pack."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import recipe
from tests.packs import CONFIG, category, manifest, write_parts
from workers.pack import open_pack, seal
from workers.phantoms import datasets, phantom

pytestmark = pytest.mark.slow

KINDS = ("chest_normal", "pneumothorax")
COUNT = 4
"""Phantoms of each kind."""


@dataclass(frozen=True)
class Lesson:
    """A pack, and pairs on images of phantoms."""

    pack: Path
    table: Path
    images: Path

    def command(self, out: Path, *more: str) -> list[str]:
        """Return the command's words, after the program."""
        return [
            *("pack", "finetune", str(self.pack), "--data", str(self.table)),
            *("--images", str(self.images), "--out", str(out), "--json"),
            *("--batch", "4", "--at-once", "2", "--rate", "1e-3", "--every", "2"),
            *("--alter", "mild", *more),
        ]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """Return eight chests, of which two are kept to tune on."""
    folder = tmp_path_factory.mktemp("lesson")
    images = folder / "images"
    images.mkdir()
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "text", "class", "patient", "role"])
        for kind in KINDS:
            for seed in range(COUNT):
                name = f"{kind}-{seed}.dcm"
                (dataset,) = datasets(phantom(kind, seed), size=64)
                dataset.save_as(images / name, enforce_file_format=True)
                role = "tune" if seed == 0 else "train"
                text = f"x-ray chest {kind}."
                writer.writerow([name, text, kind, f"{kind}{seed}", role])
    seal_with_categories(folder / "pack")
    return Lesson(pack=folder / "pack", table=folder / "pairs.csv", images=images)


def seal_with_categories(folder: Path) -> None:
    """Write a pack with two fitted categories; one of them has prompts, too."""
    write_parts(folder)
    tensors = {"weight": recipe.noise("view", (2, CONFIG.embedding))}
    tensors["bias"] = recipe.noise("bias", (2,))
    named = {f"{key}.{n}": t for key in ("view", "part") for n, t in tensors.items()}
    save_file(named, folder / "views.safetensors")
    categories = []
    for key in ("view", "part"):
        head = {"kind": "softmax", "weights": "views.safetensors", "key": key}
        categories.append(category(key) | {"head": head, "validated": {"n": 1}})
    for label in categories[1]["labels"]:
        del label["prompts"]
    seal(folder, manifest(categories=categories))


def run(
    words: Sequence[str], *, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run pacsight, alone or as so many processes of torchrun."""
    launcher = (
        []
        if processes == 1
        else [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
        ]
    )
    return subprocess.run(
        [sys.executable, *launcher, "-m", "workers", *words],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_an_encoder_goes_on_learning(lesson: Lesson, tmp_path: Path) -> None:
    """A pack that verifies: other weights, prompts in shadow mode, nothing left beside."""
    done = run(lesson.command(tmp_path / "new", "--steps", "4"))

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    old, new = open_pack(lesson.pack), open_pack(tmp_path / "new")
    assert said["device_uid"] == new.device_uid
    assert said["loss_on_tune"] > 0
    assert new.encoder_key != old.encoder_key
    assert [finding.key for finding in new.findings] == ["effusion"]  # has prompts
    (view,) = new.manifest.categories
    assert (view.key, view.head, view.validated) == ("view", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.timeout(300)  # three processes load torch, on cores that others use, too
@pytest.mark.slow
def test_two_processes_learn_what_one_does(lesson: Lesson, tmp_path: Path) -> None:
    """torchrun with two processes: the same weights but for the order of sums."""
    alone = run(lesson.command(tmp_path / "one", "--steps", "3"))
    both = run(lesson.command(tmp_path / "two", "--steps", "3"), processes=2)

    assert (alone.returncode, both.returncode) == (0, 0), both.stderr
    one = load_file(tmp_path / "one" / "weights.safetensors")
    two = load_file(tmp_path / "two" / "weights.safetensors")
    for name, expected in one.items():
        assert two[name] == pytest.approx(expected, abs=2e-4), name


def test_a_batch_larger_than_the_data_is_refused(
    lesson: Lesson, tmp_path: Path
) -> None:
    """One sentence, exit code 2, nothing half-written."""
    done = run([*lesson.command(tmp_path / "new"), "--batch", "64"])

    assert done.returncode == 2
    assert "6 pairs are too few for a batch of 64" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_missing_image_is_refused(lesson: Lesson, tmp_path: Path) -> None:
    """It is named, before anything is learned."""
    table = tmp_path / "pairs.csv"
    table.write_text(lesson.table.read_text().replace("chest_normal-1.dcm", "gone.dcm"))
    done = run([*lesson.command(tmp_path / "new"), "--data", str(table)])

    assert done.returncode == 2
    assert "gone.dcm" in done.stderr
    assert not (tmp_path / "new").exists()
