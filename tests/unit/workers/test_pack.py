"""A pack is what its manifest says, or it does not load."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dicom_node.domain import Urgency
from dicom_node.errors import Permanent
from tests.packs import (
    CONFIG,
    POLICY,
    category,
    estimate,
    finding,
    make_pack,
    manifest,
    write_parts,
)
from workers.headspecs import LinearHead, ZeroShotHead
from workers.manifest import MANIFEST
from workers.pack import Pack, locate, open_pack, seal

VOTES = {
    "kind": "votes",
    "references": "votes.safetensors",
    "key": "view",
    "class_weights": [1.0, 1.0, 1.0],
}


def unprompted(key: str) -> dict[str, Any]:
    """Return a category whose labels have no prompts."""
    values = category(key)
    for label in values["labels"]:
        del label["prompts"]
    return values


@pytest.fixture
def folder(pack: Pack, tmp_path: Path) -> Path:
    """Return a copy of the pack that may be spoilt."""
    return shutil.copytree(pack.folder, tmp_path / "copy")


def edit(folder: Path, change: Any) -> None:
    """Change the JSON of a manifest in place."""
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_sealed_pack_opens_as_what_was_sealed(pack: Pack) -> None:
    """Findings, policy and heads come back as they were written."""
    again = open_pack(pack.folder)
    assert again.manifest == pack.manifest
    assert [f.key for f in again.findings] == [
        "pneumothorax",
        "effusion",
        "haemorrhage",
    ]
    assert again.preprocessing == POLICY
    assert again.findings[0].urgency is Urgency.URGENT
    assert isinstance(again.findings[0].head, LinearHead)
    assert isinstance(again.findings[1].head, ZeroShotHead)
    assert sorted(again.heads) == ["haemorrhage", "pneumothorax"]


def test_the_card_says_what_the_node_has_to_know(pack: Pack) -> None:
    """Name, version, Device UID and the encoder's key."""
    card = pack.card
    assert (card.name, card.version) == ("test-pack", "1.0")
    assert card.device_uid == pack.device_uid
    assert card.encoder == pack.encoder_key
    assert card.encoder.preprocessing == POLICY.digest


def test_the_device_uid_is_a_uid_and_stays_the_same(pack: Pack, folder: Path) -> None:
    """It derives from the content, not from where the pack lies."""
    moved = open_pack(folder)
    assert moved.device_uid == pack.device_uid
    assert pack.device_uid.startswith("2.25.")
    assert len(pack.device_uid) <= 64


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(statement="Something else."),
        lambda m: m["findings"][0]["operating_point"].update(threshold=0.25),
        lambda m: m["findings"][1]["prompts"].update(negative=["no."]),
        lambda m: m["findings"][0].update(aggregation="mean"),
        lambda m: m["preprocessing"].update(size=57),
        lambda m: m["accepts"].pop(),
        lambda m: m["threshold_set"].update(name="other"),
        lambda m: m.update(volume={}),
        lambda m: m.update(volume={"limit": 20, "embedding": "median"}),
    ],
)
def test_whatever_changes_a_report_changes_the_device_uid(
    pack: Pack, folder: Path, change: Any
) -> None:
    """The same Device UID means the same answers."""
    edit(folder, change)
    assert open_pack(folder).device_uid != pack.device_uid


def test_thresholds_do_not_change_the_encoder(pack: Pack, folder: Path) -> None:
    """Embeddings are kept when only a threshold changes."""
    edit(folder, lambda m: m["findings"][0]["operating_point"].update(threshold=0.25))
    changed = open_pack(folder)
    assert changed.encoder_key == pack.encoder_key
    assert changed.threshold_set_digest != pack.threshold_set_digest


def test_the_same_weights_in_another_architecture_are_another_encoder(
    pack: Pack, folder: Path
) -> None:
    """A window size changes embeddings without changing a single weight."""
    edit(folder, lambda m: m["encoder"]["config"]["vision"].update(window=7))
    assert open_pack(folder).encoder_key != pack.encoder_key


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "heads.safetensors", "tokenizer/merges.txt"]
)
def test_a_flipped_bit_is_noticed(folder: Path, name: str) -> None:
    """No file of a pack can be another one."""
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(Permanent, match="is not the file that the manifest names"):
        open_pack(folder)


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "heads.safetensors", "tokenizer/merges.txt"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """The sentence says which file is missing."""
    (folder / name).unlink()
    with pytest.raises(Permanent, match=f"{name}: No such file"):
        open_pack(folder)


def test_a_file_that_the_manifest_does_not_name_has_no_say(folder: Path) -> None:
    """A tokenizer with one more file is another tokenizer."""
    (folder / "tokenizer" / "added.json").write_text("{}")
    with pytest.raises(Permanent, match="not among the manifest's files"):
        open_pack(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.pop("name"), "name: Field required"),
        (lambda m: m.update(colour="red"), "colour: Unexpected keyword argument"),
        (lambda m: m.update(format=2), "format: Input should be 1"),
        (
            lambda m: m.update(synthetic="yes"),
            "synthetic: Input should be a valid bool",
        ),
        (
            lambda m: m["findings"][0]["head"].pop("key"),
            "findings.0.head.LinearHead.key: Field required",
        ),
        (
            lambda m: m["findings"][0].update(urgency="soon"),
            "findings.0.urgency: Input should be",
        ),
        (
            lambda m: m["findings"][0].update(aggregation="best"),
            "aggregation must be max, mean, median, top<n>-mean or embedding-",
        ),
        (
            lambda m: m.update(volume={"limit": 0}),
            "a volume's limit is at least one slice",
        ),
        (
            lambda m: m.update(volume={"embedding": "sum"}),
            "volume.embedding:",
        ),
        (
            lambda m: m["findings"][1].update(prompts=None),
            "a zero-shot head needs prompts",
        ),
        (
            lambda m: m["findings"][1].update(key="pneumothorax"),
            "two findings have the same key",
        ),
        (
            lambda m: m["preprocessing"]["intensity"][0]["method"].update(width=-1),
            "a window needs a width above 0",
        ),
        (lambda m: m.update(findings=[]), "a finding, a category or an estimate"),
        (
            lambda m: m.update(categories=[category("view", labels=["one"])]),
            "two labels or more, each once",
        ),
        (
            lambda m: m.update(categories=[{**category("view"), "head": VOTES}]),
            "votes need a weight for each label",
        ),
        (
            lambda m: m.update(categories=[unprompted("view")]),
            "a label needs a prompt where the category has no head",
        ),
        (
            lambda m: m.update(categories=[category("view", labels=["one", "one"])]),
            "two labels or more, each once",
        ),
        (
            lambda m: m.update(categories=[category("pneumothorax")]),
            "two findings have the same key (or what else is asked)",
        ),
        (
            lambda m: m.update(estimates=[estimate("age", k=0)]),
            "neighbours need k, values and temperature above 0",
        ),
    ],
)
def test_a_wrong_manifest_ends_in_one_sentence(
    folder: Path, change: Any, sentence: str
) -> None:
    """It names the file, the place in it, and what is wrong there."""
    edit(folder, change)
    with pytest.raises(Permanent) as caught:
        open_pack(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / MANIFEST))
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_json_object_is_no_manifest(folder: Path, content: bytes) -> None:
    """Whatever lies there, the answer is a sentence."""
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(Permanent, match=MANIFEST):
        open_pack(folder)


def test_a_head_of_another_size_is_refused(folder: Path) -> None:
    """A head has to fit the encoder's space."""
    short = {"x.weight": np.zeros(3, np.float32), "x.bias": np.zeros(1, np.float32)}
    save_file(short, folder / "heads.safetensors")
    head = {"kind": "linear", "weights": "heads.safetensors", "key": "x"}
    with pytest.raises(Permanent, match=r"a linear head .x.: needs 24"):
        seal(folder, manifest(findings=[finding("x", head=head)]))


def test_a_head_that_is_not_there_is_refused(folder: Path) -> None:
    """The file is right, the key is wrong."""
    head = {"kind": "linear", "weights": "heads.safetensors", "key": "x"}
    with pytest.raises(Permanent, match="does not hold a linear head 'x'"):
        seal(folder, manifest(findings=[finding("x", head=head)]))


def test_a_pack_may_not_point_outside_itself(tmp_path: Path) -> None:
    """Heads and tokenizer travel with the pack."""
    write_parts(tmp_path / "pack")
    encoder = manifest()["encoder"] | {"tokenizer": "../elsewhere"}
    with pytest.raises(Permanent, match="outside the pack"):
        seal(tmp_path / "pack", manifest(encoder=encoder))


def test_sealing_writes_nothing_that_does_not_load(tmp_path: Path) -> None:
    """A manifest with a fault leaves no pack.json behind."""
    write_parts(tmp_path)
    with pytest.raises(Permanent, match="urgency"):
        seal(tmp_path, manifest(findings=[finding("x", urgency="soon")]))
    assert not (tmp_path / MANIFEST).exists()


def test_weights_may_lie_elsewhere(tmp_path: Path) -> None:
    """Large weights need not be copied: an absolute path is allowed."""
    write_parts(tmp_path / "pack")
    weights = (tmp_path / "pack" / "weights.safetensors").rename(tmp_path / "w.st")
    encoder = manifest()["encoder"] | {"weights": str(weights)}
    pack = seal(tmp_path / "pack", manifest(encoder=encoder))
    assert pack.weights == weights


def test_a_path_locates_a_pack(pack: Pack) -> None:
    """Whatever is no name of an installed pack is a folder."""
    assert locate(str(pack.folder)) == pack.folder


def test_an_installed_pack_is_located_by_its_name() -> None:
    """The demo pack ships with the workers."""
    assert locate("phantoms").parts[-3:] == ("workers", "packs", "phantoms")


def test_a_pack_that_is_nowhere_ends_in_a_sentence() -> None:
    """It says which packs are installed."""
    with pytest.raises(
        Permanent, match=r"no pack 'nowhere'.*installed packs \(.*phantoms"
    ):
        locate("nowhere")


def test_opening_packs_needs_no_torch(pack: Pack) -> None:
    """Cards and manifests are read by processes that never compute."""
    import subprocess  # noqa: PLC0415 - for this test alone

    code = (
        "import sys; from pathlib import Path; from workers.pack import open_pack; "
        f"open_pack(Path({str(pack.folder)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path.cwd())


def test_the_shipped_pack_is_the_one_it_was() -> None:
    """What manifests may hold in addition changes no digest of those without it."""
    shipped = open_pack(locate("phantoms"))
    assert shipped.device_uid == "2.25.193856379411067953869916107602567834139"


def with_references(folder: Path, embeddings: Any, values: Any, **changes: Any) -> Pack:
    """Return a pack that estimates from these references."""
    write_parts(folder)
    save_file(
        {"embeddings": embeddings, "values": values} | changes, folder / "known.st"
    )
    asked = estimate("age", references="known.st")
    return seal(folder, manifest(findings=[], estimates=[asked]))


def test_references_are_read_and_counted_among_the_files(tmp_path: Path) -> None:
    """A pack need not look for any finding; its references are verified as heads are."""
    rows, ages = np.eye(CONFIG.embedding, dtype=np.float32)[:2], np.ones(2, np.float32)
    pack = with_references(tmp_path, rows, ages)
    assert pack.references["age"].embeddings.tolist() == rows.tolist()
    content = bytearray((tmp_path / "known.st").read_bytes())
    content[-1] ^= 1
    (tmp_path / "known.st").write_bytes(content)
    with pytest.raises(Permanent, match="is not the file that the manifest names"):
        open_pack(tmp_path)


def test_references_of_another_space_are_refused(tmp_path: Path) -> None:
    """They have the encoder's dimension, and nothing else beside them."""
    ages = np.ones(2, np.float32)
    with pytest.raises(Permanent, match="does not hold embeddings of 24 numbers"):
        with_references(tmp_path / "a", np.eye(2, dtype=np.float32), ages)
    rows = np.eye(CONFIG.embedding, dtype=np.float32)[:2]
    with pytest.raises(Permanent, match="does not hold embeddings and values"):
        with_references(tmp_path / "b", rows, ages, names=ages)


def test_packs_of_one_recipe_are_the_same(pack: Pack, tmp_path: Path) -> None:
    """Made again elsewhere, it is the same pack."""
    assert make_pack(tmp_path).digest == pack.digest
