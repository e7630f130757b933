"""``pacsight pack verify``: what a pack is, or one sentence on what is wrong with it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dicom_node.errors import Permanent
from tests.golden.recipe import PUBLISHED_LOGIT_SCALE
from tests.packs import category, estimate, finding, make_pack, manifest
from tests.releases import publish
from workers.describing import OTHER_MODEL, describe
from workers.importing import import_pack
from workers.pack import Pack, locate, open_pack, seal


@pytest.fixture
def folder(pack: Pack, tmp_path: Path) -> Path:
    """Return a copy of the pack that may be spoilt."""
    return shutil.copytree(pack.folder, tmp_path / "copy")


def test_it_says_what_a_pack_is_and_asks(tmp_path: Path) -> None:
    """Model, temperature, prompts, findings, categories, estimates."""
    asked = {
        "findings": [*manifest()["findings"], finding("other")],
        "categories": [category("view", labels=["a", "b", "c"])],
        "estimates": [estimate("age")],
    }
    asked["findings"][-1]["head"]["key"] = "pneumothorax"
    pack = make_pack(tmp_path, **asked)
    found = describe(pack)
    parameters = sum(t.numel() for t in load_file(pack.weights).values())
    assert (found.parameters, found.dimension) == (parameters, 24)
    assert (found.dtype, found.numeric_profile) == ("float32", "float32")
    assert found.temperature == pytest.approx(2.718281828459045**PUBLISHED_LOGIT_SCALE)
    assert found.prompts == 2 + 3
    assert found.training_data == ("nothing",)
    assert found.weights == OTHER_MODEL
    assert "View: one of 3 labels" in found.categories
    assert "Age in month: no references, not validated" in found.estimates
    text = str(found)
    assert all(part in text for part in (*found.findings, found.device_uid, "nothing"))


def test_the_shipped_pack_is_described() -> None:
    """In lines that say what is asked."""
    text = str(describe(open_pack(locate("phantoms"))))
    assert "2,143,521 parameters, float16, computed in float32" in text
    assert "Pneumothorax: sens>=0.95, threshold" in text


def test_an_imported_pack_passes(tmp_path: Path) -> None:
    """What import writes, verify takes."""
    (tmp_path / "downloads").mkdir()
    released = publish(tmp_path / "downloads")
    made = import_pack(
        released.origin(),
        tmp_path / "pack",
        kind="exam-category",
        release=released.release,
        progress=lambda *_: None,
        profile="float32",
    ).pack
    found = describe(open_pack(made.folder))
    assert found.device_uid == made.device_uid
    assert len(found.categories) == 3
    assert found.official is False  # the release of this test is not Microsoft's
    theirs = describe(open_pack(made.folder), released.release)
    assert (theirs.official, theirs.weights) == (True, "official weights, release test")


def flip(folder: Path) -> None:
    """Change one bit of the weights."""
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(folder: Path) -> None:
    """Lose the weights' last byte."""
    path = folder / "weights.safetensors"
    os.truncate(path, path.stat().st_size - 1)


def lose(folder: Path) -> None:
    """Lose a file of the tokenizer."""
    (folder / "tokenizer" / "merges.txt").unlink()


def rename(folder: Path) -> None:
    """Rename a tensor, and make the digests fit again."""
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    tensors["logit_scales"] = tensors.pop("logit_scale")
    path.unlink()
    save_file(tensors, path)
    seal(folder, json.loads((folder / "pack.json").read_text("utf-8")))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(
            flip,
            "weights.safetensors is not the file that the manifest names",
            marks=pytest.mark.slow,
        ),
        (cut, "weights.safetensors is not the file that the manifest names"),
        (lose, "merges.txt: No such file or directory"),
        pytest.param(
            rename,
            "logit_scale is missing; logit_scales is unknown",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_spoilt_pack_ends_in_one_sentence_and_exit_code_2(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    """On stderr, as the command line of an operator gets it."""
    spoil(folder)
    done = subprocess.run(
        [sys.executable, "-m", "workers", "pack", "verify", str(folder)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pacsight: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


def test_for_scripts_it_is_json(folder: Path) -> None:
    """The same, by name."""
    done = subprocess.run(
        [sys.executable, "-m", "workers", "pack", "verify", str(folder), "--json"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    assert said["name"] == "test-pack"
    assert said["official"] is False
    assert len(said["findings"]) == 3


def test_a_profile_that_cannot_be_computed_here_is_no_pack_for_here(pack: Pack) -> None:
    """Verified is what this machine could run."""
    encoder = replace(pack.manifest.encoder, numeric_profile="decimal128")
    other = replace(pack, manifest=replace(pack.manifest, encoder=encoder))
    with pytest.raises(Permanent, match="computed in decimal128"):
        describe(other)
