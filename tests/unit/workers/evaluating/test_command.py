"""``pacsight evaluate``: from a pack, labels and embeddings to both files, or a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from dicom_node.errors import Permanent
from tests.cohorts import Drawn, drawn, embedded
from workers.cli import app
from workers.cohort import Role, join, write_cohort, write_scores
from workers.evaluating.attributes import merged, read_attributes
from workers.pack import Pack
from workers.scoring import score_studies

FINDINGS = ("haemorrhage", "pneumothorax")


@pytest.fixture(scope="module")
def made(pack: Pack) -> Drawn:
    """Return patients with both findings of the pack, embedded by its encoder."""
    return drawn(
        dimension=pack.manifest.encoder.embedding_dim,
        findings=FINDINGS,
        key=pack.encoder_key,
    )


@pytest.fixture
def files(made: Drawn, tmp_path: Path) -> list[str]:
    """Return the options that name labels and embeddings."""
    write_cohort(made.cohort, tmp_path / "labels.csv")
    embedded(
        tmp_path / "e.safetensors",
        made.embeddings.vectors,
        studies=made.embeddings.studies,
        sop_instances=made.embeddings.sop_instances,
        key=made.embeddings.encoder_key,
    )
    return [
        *("--data", str(tmp_path / "labels.csv")),
        *("--embeddings", str(tmp_path / "e.safetensors")),
    ]


def run(*words: str) -> Result:
    """Return what the command did."""
    return CliRunner().invoke(app, ["evaluate", *words])


def test_a_pack_is_evaluated_as_it_scores(
    pack: Pack, made: Drawn, files: list[str], tmp_path: Path
) -> None:
    """Both files are written; the area is that of the runtime's own scores, by study."""
    out = tmp_path / "out"
    attributes = tmp_path / "groups.csv"
    lines = [
        f"{uid},{'F' if number % 2 else 'M'},{number % 90}"
        for number, uid in enumerate(made.cohort.units)
    ]
    attributes.write_text("\n".join(["sop_instance_uid,sex,age", *lines]), "utf-8")
    result = run(
        str(pack.folder), *files, "--groups", str(attributes), "--out", str(out)
    )
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "evaluation.json").read_text("utf-8"))
    examples = join(made.cohort, made.embeddings)
    table = score_studies(pack, pack.heads, examples, data=made.cohort.digest)
    found = {finding["key"]: finding for finding in figures["findings"]}
    for column, key in enumerate(table.findings):
        assert found[key]["area"]["value"] == pytest.approx(
            roc_auc_score(table.truth[:, column], table.scores[:, column])
        )
    assert [a["name"] for a in found[key]["attributes"]] == ["sex", "age"]
    assert (out / "report.html").stat().st_size > 50_000
    assert {r["level"] for r in figures["retrieval"]} == {"image"}


def test_only_patients_for_testing_are_evaluated(
    pack: Pack, made: Drawn, files: list[str], tmp_path: Path
) -> None:
    """Where the labels say which they are."""
    roles = tuple(Role.TEST if i % 3 else Role.TRAIN for i in range(60))
    write_cohort(replace(made.cohort, roles=roles), tmp_path / "labels.csv")
    result = run(str(pack.folder), *files, "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["patients"] == 40
    assert "patients for testing" in json.loads(result.stdout)["data"]


def test_files_of_scores_are_evaluated_and_compared(
    pack: Pack, made: Drawn, tmp_path: Path
) -> None:
    """With the thresholds of the pack where it is named."""
    table = score_studies(
        pack,
        pack.heads,
        join(made.cohort, made.embeddings),
        data=made.cohort.digest,
    )
    scores, others = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_scores(replace(table, kind="out-of-fold"), scores)
    write_scores(replace(table, scores=1 - table.scores), others)
    alone = run(
        str(pack.folder),
        "--scores",
        str(scores),
        "--out",
        str(tmp_path / "1"),
        "--json",
    )
    both = run(
        "--compare", str(scores), str(others), "--out", str(tmp_path / "2"), "--json"
    )
    assert alone.exit_code == 0, alone.output
    assert both.exit_code == 0, both.output
    assert json.loads(alone.stdout)["findings"][0]["points"][0]["name"] == "sens>=0.95"
    compared = json.loads(both.stdout)["comparison"]["findings"][0]
    a, b = (area["value"] for area in compared["areas"])
    assert (a + b, compared["area"]["value"]) == pytest.approx((1.0, a - b))


def test_scores_of_images_go_with_attributes_of_images(
    pack: Pack, made: Drawn, tmp_path: Path
) -> None:
    """Nothing has to be merged: every row is an image."""
    examples = join(made.cohort, made.embeddings)
    studies = score_studies(pack, pack.heads, examples, data=made.cohort.digest)
    table = replace(studies, level="image")
    write_scores(table, tmp_path / "images.scores")
    lines = [f"{uid},{'FM'[row % 2]}" for row, uid in enumerate(table.units)]
    groups = tmp_path / "groups.csv"
    groups.write_text("\n".join(["sop_instance_uid,sex", *lines]), "utf-8")
    out = tmp_path / "out"
    named = ["--scores", str(tmp_path / "images.scores"), "--groups", str(groups)]
    result = run(*named, "--out", str(out))
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "evaluation.json").read_text("utf-8"))
    (by_sex,) = figures["findings"][0]["attributes"]
    assert [group["name"] for group in by_sex["groups"]] == ["F", "M"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a pack"),
        (["PACK"], "--data and --embeddings"),
        (["PACK", "FILES", "--prevalence", "1.5"], "between 0 and 1"),
        (["PACK", "FILES", "--groups", "labels.csv"], "first column"),
        (["PACK", "--compare", "a", "b"], "names both packs"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    pack: Pack, files: list[str], tmp_path: Path, words: list[str], said: str
) -> None:
    """And nothing is left behind."""
    options = [
        option
        for word in words
        for option in {
            "PACK": [str(pack.folder)],
            "FILES": files,
            "labels.csv": [str(tmp_path / "labels.csv")],
        }.get(word, [word])
    ]
    result = run(*options, "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, Permanent)
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_finding_that_nobody_labelled_is_no_evaluation(
    pack: Pack, files: list[str], made: Drawn, tmp_path: Path
) -> None:
    """The sentence says what the pack looks for."""
    others = replace(made.cohort, findings=("a", "b"))
    write_cohort(others, tmp_path / "labels.csv")
    result = run(str(pack.folder), *files, "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, Permanent)
    assert "labels nothing that pack test-pack looks for" in str(result.exception)


def test_a_table_that_names_a_row_twice_is_refused(tmp_path: Path) -> None:
    """Which one would count?"""
    table = tmp_path / "groups.csv"
    table.write_text("study,sex\n1.2,F\n1.2,M\n", "utf-8")
    with pytest.raises(Permanent, match=r"1\.2 is there twice"):
        read_attributes(table)


def test_images_of_two_groups_make_a_group_of_their_own() -> None:
    """A study with a frontal and a lateral image is neither."""
    assert merged(["AP", "PA", "", "AP"], np.array([0, 0, 1, 2]).tolist(), 3) == (
        "AP+PA",
        "",
        "AP",
    )
