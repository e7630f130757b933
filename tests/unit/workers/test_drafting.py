"""Packs made by hand: drafted, built, shown, compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from tests.packs import finding, make_pack
from workers.cli import app
from workers.drafting.building import build
from workers.drafting.difference import differences
from workers.drafting.draft import CARD, DRAFT, write_draft
from workers.drafting.showing import show
from workers.pack import Pack, locate, open_pack
from workers.placing import Progress

RUN = CliRunner()


def silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


SILENT: Progress = silent


def filled(folder: Path, **changes: str) -> Path:
    """Return a draft in which everything is said; `changes` replace texts of it."""
    write_draft(folder, name="mine", encoder="phantoms")
    text = (folder / DRAFT).read_text().replace("FILL IN: ", "")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / DRAFT).write_text(text)
    return folder


def test_a_draft_becomes_a_pack_on_the_encoder_of_another(tmp_path: Path) -> None:
    """As it is written, once everything is filled in; its weights are the other's."""
    made = build(filled(tmp_path / "draft"), tmp_path / "pack", progress=SILENT)
    phantoms = open_pack(locate("phantoms"))
    assert open_pack(tmp_path / "pack").digest == made.digest
    assert (made.name, made.version) == ("mine", "0.1.0")
    assert made.encoder_key == phantoms.encoder_key
    assert made.in_shadow("pneumothorax")
    assert (tmp_path / "pack" / CARD).is_file()


def test_a_draft_that_is_not_filled_in_is_not_built(tmp_path: Path) -> None:
    """It says what is missing, and leaves nothing behind."""
    write_draft(tmp_path / "draft", name="mine", encoder="phantoms")
    with pytest.raises(Permanent, match=r"pack\.toml: title is not filled in"):
        build(tmp_path / "draft", tmp_path / "pack", progress=SILENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft"]


LINEAR = 'head = { kind = "linear", weights = "heads.safetensors", key = "KEY" }'
ZERO_SHOT = 'head = { kind = "zero-shot" }'


def test_a_head_lies_in_the_draft_or_is_the_other_pack_s(tmp_path: Path) -> None:
    """The draft's own file goes before the other pack's of that name."""
    theirs = filled(tmp_path / "a", **{ZERO_SHOT: LINEAR.replace("KEY", "effusion")})
    made = build(theirs, tmp_path / "pack-a", progress=SILENT)
    phantoms = open_pack(locate("phantoms"))
    name = "heads.safetensors"
    assert made.manifest.files[name] == phantoms.manifest.files[name]
    own = filled(tmp_path / "b", **{ZERO_SHOT: LINEAR.replace("KEY", "mine")})
    weight = np.ones(phantoms.manifest.encoder.embedding_dim, np.float32)
    save_file({"mine.weight": weight, "mine.bias": weight[:1]}, own / name)
    assert build(own, tmp_path / "pack-b", progress=SILENT).heads.keys() == {
        "pneumothorax"
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format = 1": "format = ]"}, "not TOML"),
        ({'urgency = "critical"': 'urgency = "now"'}, "findings.0.urgency"),
        ({'urgency = "critical"': 'colour = "red"'}, "findings.0."),
        ({ZERO_SHOT: LINEAR.replace("heads.", "lost.")}, "lost.safetensors: the draft"),
        ({'from = "phantoms"': 'from = "nowhere"'}, "there is no pack 'nowhere'"),
        ({'from = "phantoms"': "weights = 3"}, "encoder"),
    ],
)
def test_a_draft_with_a_fault_is_refused(
    changes: dict[str, str], why: str, tmp_path: Path
) -> None:
    """One sentence says where, and nothing is written."""
    draft = filled(tmp_path / "draft", **changes)
    with pytest.raises(Permanent) as refused:
        build(draft, tmp_path / "pack", progress=SILENT)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "pack").exists()


def test_what_is_shown_of_a_pack() -> None:
    """The figures of its operating points, with limits, and its model card."""
    shown = show(open_pack(locate("phantoms")))
    text = str(shown)
    first = shown.findings[0]
    assert first.decision == "sens>=0.95, threshold 0.3943"
    assert "sensitivity: 0.9588 (95 % 0.9341 to 0.9745)" in text
    assert "not calibrated: its score is no probability" in text
    assert "ROC: sensitivity 0.968 at 5% false positives" in text
    assert len(first.roc) > 10
    assert shown.card.strip().splitlines()[0] in text


def changed(folder: Path, **changes: Any) -> Pack:
    """Return a pack like that of the fixture, with another finding in front."""
    return make_pack(folder, findings=[finding("pneumothorax", **changes)])


def test_the_same_pack_does_not_differ(pack: Pack, tmp_path: Path) -> None:
    """Wherever it lies."""
    assert differences(pack, make_pack(tmp_path)) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"operating_point": {"name": "sens>=0.95", "threshold": 0.6}},
            ["finding pneumothorax: operating point: threshold: 0.5 -> 0.6"],
        ),
        ({"mode": "shadow"}, ["finding pneumothorax: mode: live -> shadow"]),
        ({"urgency": "routine"}, ["finding pneumothorax: urgency: urgent -> routine"]),
        (
            {"against": {"attribute": "PatientSex", "expects": {"M": 1}}},
            ["finding pneumothorax: against: none -> something"],
        ),
        (
            {
                "operating_point": {
                    "name": "sens>=0.95",
                    "threshold": 0.5,
                    "evidence": {"n": 3},
                }
            },
            ["finding pneumothorax: operating point: evidence: differs"],
        ),
    ],
)
def test_what_tells_two_packs_apart(
    changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    """Field by field, in words, and nothing else."""
    first, second = changed(tmp_path / "a"), changed(tmp_path / "b", **changes)
    assert list(map(str, differences(first, second))) == words


def test_findings_and_files_that_only_one_pack_has(pack: Pack, tmp_path: Path) -> None:
    """They are named, with what they are."""
    code = ["36118008", "SCT", "Pneumothorax"]
    said = list(map(str, differences(changed(tmp_path, code=code), pack)))
    assert said == [
        "finding effusion: only in the second: Effusion",
        "finding haemorrhage: only in the second: Haemorrhage",
    ]


def test_the_commands(pack: Pack, tmp_path: Path) -> None:
    """New, build, show and diff, as a person calls them."""
    draft, out = str(tmp_path / "draft"), str(tmp_path / "pack")
    assert RUN.invoke(app, ["pack", "new", "mine", "--out", draft]).exit_code == 0
    text = (tmp_path / "draft" / DRAFT).read_text().replace("FILL IN: ", "")
    (tmp_path / "draft" / DRAFT).write_text(text)
    built = RUN.invoke(app, ["pack", "build", draft, "--out", out, "--json"])
    assert json.loads(built.stdout)["name"] == "mine"
    shown = RUN.invoke(app, ["pack", "show", out, "--json"])
    assert json.loads(shown.stdout)["findings"][0]["mode"] == "shadow"
    same = RUN.invoke(app, ["pack", "diff", out, out])
    assert (same.exit_code, same.stdout) == (0, "the same pack\n")
    other = RUN.invoke(app, ["pack", "diff", out, str(pack.folder), "--json"])
    assert other.exit_code == 1
    assert {"where": "name", "before": "mine", "after": "test-pack"} in json.loads(
        other.stdout
    )
