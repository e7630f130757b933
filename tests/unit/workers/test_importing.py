"""From released files to a pack: checked and whole, or one sentence and no pack."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dicom_node.errors import Permanent
from tests.packs import CONFIG, TOKENIZER
from tests.releases import Released, publish, with_older_names, write_hollow
from workers.describing import UNOFFICIAL as UNOFFICIAL_WEIGHTS
from workers.describing import describe
from workers.encoder import open_encoder
from workers.importing import UNKNOWN_DATA, UNOFFICIAL, Origin, import_pack, kinds
from workers.medimageinsight import CheckpointError
from workers.medimageinsight.release import RELEASE
from workers.medimageinsight.renaming import POSITIONS
from workers.pack import Pack, open_pack

BIAS = "image_encoder.norms.bias"


@pytest.fixture
def released(tmp_path: Path) -> Released:
    """Return a release of small weights."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return publish(folder)


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def imported(
    released: Released,
    out: Path,
    *,
    allow_unofficial: bool = False,
    kind: str = "chest-xray",
) -> Pack:
    """Return the pack that the release becomes."""
    return import_pack(
        released.origin(allow_unofficial=allow_unofficial),
        out,
        kind=kind,
        release=released.release,
        progress=silent,
        profile="float32",
    ).pack


def change(released: Released, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Edit the tensors of the released file."""
    tensors = load_file(released.weights)
    edit(tensors)
    released.weights.unlink()
    save_file(tensors, released.weights)


def with_digest(released: Released) -> Released:
    """Return the release as if the file that lies there were the official one."""
    import hashlib  # noqa: PLC0415 - for this alone

    content = released.weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    release = replace(released.release, sha256=digest, size_bytes=len(content))
    return replace(released, release=release)


# ── what comes of good files ────────────────────────────────────────────────


@pytest.mark.parametrize("kind", kinds())
def test_official_weights_become_a_pack_that_runs(
    released: Released, tmp_path: Path, kind: str
) -> None:
    """It opens, its model is the file's, and it says what it was trained on."""
    pack = imported(released, tmp_path / "pack", kind=kind)
    again = open_pack(tmp_path / "pack")
    assert again.digest == pack.digest
    assert again.manifest.encoder.sha256 == released.release.sha256
    assert again.manifest.encoder.training_data == ("Nothing-v1",)
    assert "nofficial" not in again.manifest.title + again.manifest.statement
    encoder = open_encoder(again, device="cpu")
    assert encoder.embed_texts(["x-ray chest."]).shape == (1, CONFIG.embedding)


def test_weights_are_linked_and_not_copied(released: Released, tmp_path: Path) -> None:
    """On one file system two and a half gigabytes stay one file, also by a symlink."""
    link = tmp_path / "link.pt"
    link.symlink_to(released.weights)
    pack = imported(replace(released, weights=link), tmp_path / "pack")
    assert pack.weights.samefile(released.weights)
    assert not pack.weights.is_symlink()


def test_weights_on_another_file_system_are_copied(released: Released) -> None:
    """Where no link is possible: the same bytes, another file."""
    elsewhere = Path("/dev/shm")  # noqa: S108 - memory, another file system
    if (
        not elsewhere.is_dir()
        or elsewhere.stat().st_dev == released.weights.stat().st_dev
    ):
        pytest.skip("there is no second file system")
    out = elsewhere / f"pacsight-test-{os.getpid()}"
    try:
        pack = imported(released, out)
        assert not pack.weights.samefile(released.weights)
        assert pack.weights.read_bytes() == released.weights.read_bytes()
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_line_ends_of_the_tokenizer_do_not_matter(
    released: Released, tmp_path: Path
) -> None:
    """CRLF, indents or none: the pack is the same one."""
    folder = tmp_path / "crlf"
    folder.mkdir()
    merges = (TOKENIZER / "merges.txt").read_text("utf-8")
    (folder / "merges.txt").write_text(merges, "utf-8", newline="\r\n")
    vocabulary = json.loads((TOKENIZER / "vocab.json").read_text("utf-8"))
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    one = imported(released, tmp_path / "one")
    other = imported(replace(released, tokenizer=folder), tmp_path / "other")
    assert one.digest == other.digest


# ── weights that are not official ───────────────────────────────────────────


def test_unofficial_weights_are_marked(released: Released, tmp_path: Path) -> None:
    """In the title, in the statement of every report, and among the training data."""
    change(released, lambda tensors: tensors[BIAS].add_(1))
    pack = imported(released, tmp_path / "pack", allow_unofficial=True)
    assert pack.manifest.title.startswith("Unofficial weights: ")
    assert pack.manifest.statement.startswith(UNOFFICIAL)
    assert UNKNOWN_DATA in pack.manifest.encoder.training_data


def test_older_names_are_rewritten(released: Released, tmp_path: Path) -> None:
    """The pack holds the official names; embeddings are the same."""
    official = imported(released, tmp_path / "official")
    tensors = load_file(released.weights)
    tensors[POSITIONS] = tensors[POSITIONS].repeat_interleave(2, dim=0)
    released.weights.unlink()
    save_file(with_older_names(tensors), released.weights)
    renamed = imported(released, tmp_path / "renamed", allow_unofficial=True)
    assert load_file(official.weights).keys() == load_file(renamed.weights).keys()
    assert load_file(renamed.weights)[POSITIONS].shape[0] == CONFIG.text.context
    images = torch.zeros(1, 3, 480, 480, dtype=torch.uint8).numpy()
    before, after = (
        open_encoder(pack, device="cpu").embed_images(images)
        for pack in (official, renamed)
    )
    assert before.tolist() == after.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_unofficial_weights_must_be_numbers(
    released: Released, tmp_path: Path, value: float
) -> None:
    """A training that went wrong is not imported."""
    change(released, lambda tensors: tensors[BIAS].fill_(value))
    with pytest.raises(
        CheckpointError, match=f"{BIAS} holds a value that is no number"
    ):
        imported(released, tmp_path / "pack", allow_unofficial=True)
    assert not (tmp_path / "pack").exists()


# ── what is refused ─────────────────────────────────────────────────────────


def cut(path: Path) -> None:
    """Lose the last byte, as a download that broke off."""
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def point(path: Path) -> None:
    """Be the pointer that git leaves where large files are not fetched."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:5eed\n")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut, "bytes, and the official weights of release test have"),
        (point, "bytes, and the official weights of release test have"),
        (flip, "has SHA-256 .* and the official weights of release test have"),
        (Path.unlink, "No such file"),
    ],
)
def test_another_file_than_the_official_one_is_refused(
    released: Released, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    """Short, changed, a pointer, absent: one sentence, and nothing is left behind."""
    spoil(released.weights)
    with pytest.raises(Permanent, match=sentence) as caught:
        imported(released, tmp_path / "pack")
    assert str(released.weights) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == ["downloads"]


def lack_a_tensor(tensors: dict[str, Tensor]) -> None:
    del tensors[BIAS]


def have_a_tensor_more(tensors: dict[str, Tensor]) -> None:
    tensors["decoder.weight"] = torch.zeros(3)


def have_another_shape(tensors: dict[str, Tensor]) -> None:
    tensors[BIAS] = tensors[BIAS][:-1].clone()


def have_another_dtype(tensors: dict[str, Tensor]) -> None:
    tensors[BIAS] = tensors[BIAS].double()


def have_other_names(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


@pytest.mark.parametrize("allow_unofficial", [True, False])
@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lack_a_tensor, f"{BIAS} is missing$"),
        (have_a_tensor_more, r"decoder\.weight is unknown$"),
        (have_another_shape, rf"{BIAS} is \[47\] and should be \[48\]$"),
        (have_another_dtype, f"{BIAS} is stored as F64$"),
        (have_other_names, r"missing; .* missing; .* missing; and \d+ more$"),
    ],
)
def test_other_tensors_are_refused_whatever_is_allowed(
    *,
    released: Released,
    tmp_path: Path,
    edit: Callable[[dict[str, Tensor]], None],
    sentence: str,
    allow_unofficial: bool,
) -> None:
    """No model is made in part; the sentence names the file that was given."""
    change(released, edit)
    given = released if allow_unofficial else with_digest(released)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        imported(given, tmp_path / "pack", allow_unofficial=allow_unofficial)
    assert str(caught.value).startswith(f"{released.weights}: ")
    assert not (tmp_path / "pack").exists()


def test_two_tensors_of_one_name_are_refused(
    released: Released, tmp_path: Path
) -> None:
    """The file is named, and the tensor."""
    change(
        released,
        lambda tensors: tensors.update({"visual.norms.bias": tensors[BIAS].clone()}),
    )
    with pytest.raises(CheckpointError, match=f"{BIAS} is there under two names"):
        imported(released, tmp_path / "pack", allow_unofficial=True)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_tokenizer_without_a_file_is_refused(
    released: Released, tmp_path: Path, name: str
) -> None:
    """The sentence names the file."""
    folder = shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: No such file"):
        imported(replace(released, tokenizer=folder), tmp_path / "pack")


def test_a_tokenizer_of_another_size_is_refused(
    released: Released, tmp_path: Path
) -> None:
    """Its ids would be rows that the model does not have, or others."""
    text = replace(CONFIG.text, vocabulary=49_408)
    release = replace(released.release, config=replace(CONFIG, text=text))
    with pytest.raises(CheckpointError, match="has 651 tokens, and the model 49,408"):
        imported(replace(released, release=release), tmp_path / "pack")


def test_a_tokenizer_that_gives_other_ids_is_refused(
    released: Released, tmp_path: Path
) -> None:
    """As many tokens, but merged in another order."""
    folder = shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    (folder / "merges.txt").write_text("\n".join(lines[:1]) + "\n", "utf-8")
    with pytest.raises(CheckpointError, match="not the tokenizer of release test"):
        imported(replace(released, tokenizer=folder), tmp_path / "pack")


def test_a_kind_that_is_not_there_is_named_with_those_that_are(
    released: Released, tmp_path: Path
) -> None:
    """The sentence lists them."""
    with pytest.raises(Permanent, match="bone-age, chest-xray, exam-category"):
        imported(released, tmp_path / "pack", kind="knee")


# ── where it is written ─────────────────────────────────────────────────────


def test_an_empty_folder_is_taken(released: Released, tmp_path: Path) -> None:
    """As well as one that is not there, or not even its parents."""
    (tmp_path / "empty").mkdir()
    imported(released, tmp_path / "empty")
    assert open_pack(tmp_path / "empty").name == "mi2-chest-xray"
    imported(released, tmp_path / "a" / "b")
    assert open_pack(tmp_path / "a" / "b").name == "mi2-chest-xray"


def test_what_is_there_is_not_written_over(released: Released, tmp_path: Path) -> None:
    """A folder that holds something, or a file."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for out in (tmp_path / "full", released.weights):
        with pytest.raises(Permanent, match="is no empty folder"):
            imported(released, out)
    assert names_in(tmp_path / "full") == ["notes.txt"]


def test_an_interrupt_leaves_nothing(released: Released, tmp_path: Path) -> None:
    """At any step: neither a pack nor a part of one."""
    steps: list[str] = []

    def interrupt(what: str, done: int, total: int) -> None:
        steps.append(f"{what}: {done} of {total}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_pack(
            released.origin(),
            tmp_path / "pack",
            kind="chest-xray",
            release=released.release,
            progress=interrupt,
        )
    size = released.release.size_bytes
    assert steps == [f"checking weights: {size} of {size}"]
    assert names_in(tmp_path) == ["downloads"]


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("allowed", "sentence"),
    [
        ([], "has 10 bytes, and the official weights of release 2024.09.27 have"),
        (["--allow-unofficial"], "not a safetensors file"),
    ],
)
def test_the_command_ends_in_a_sentence_and_exit_code_2(
    tmp_path: Path, shared: Path, allowed: list[str], sentence: str
) -> None:
    """On stderr; nothing is written."""
    (tmp_path / "w.pt").write_bytes(b"no weights")
    command = [sys.executable, "-m", "workers", "pack", "import", "medimageinsight"]
    command += ["--tokenizer", str(shared / "golden" / "clip_tokenizer"), *allowed]
    command += ["--weights", str(tmp_path / "w.pt"), "--out", str(tmp_path / "pack")]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pacsight: {tmp_path / 'w.pt'}: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert names_in(tmp_path) == ["w.pt"]


@pytest.mark.corpus
def test_the_release_s_ids_are_those_of_its_tokenizer(
    shared: Path, released: Released, tmp_path: Path
) -> None:
    """The official tokenizer passes; then the weights are too small for it."""
    given = replace(
        released, tokenizer=shared / "golden" / "clip_tokenizer", release=RELEASE
    )
    with pytest.raises(
        CheckpointError, match=r"official weights of release 2024\.09\.27"
    ):
        imported(given, tmp_path / "pack")


# ── at full size ────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.timeout(600)
def test_a_file_of_the_official_size_is_imported_and_verified(
    shared: Path, tmp_path: Path
) -> None:
    """Its size is the published one to the byte; only its digest is not."""
    weights = tmp_path / "medimageinsigt-v1.0.0.pt"
    try:
        assert write_hollow(weights) == RELEASE.size_bytes
        origin = Origin(weights=weights, tokenizer=shared / "golden" / "clip_tokenizer")
        with pytest.raises(CheckpointError, match="has SHA-256"):
            import_pack(
                origin,
                tmp_path / "pack",
                kind="exam-category",
                release=RELEASE,
                progress=silent,
            )
        import_pack(
            replace(origin, allow_unofficial=True),
            tmp_path / "pack",
            kind="exam-category",
            release=RELEASE,
            progress=silent,
        )
        found = describe(open_pack(tmp_path / "pack"))
        assert (found.parameters, found.weights) == (615_996_417, UNOFFICIAL_WEIGHTS)
    finally:
        shutil.rmtree(tmp_path)
