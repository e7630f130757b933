"""``pacsight evaluate --images``: from image files to probes, at the command line."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from tests.cohorts import embedded
from tests.packs import make_pack
from workers.cli import app
from workers.cohort import (
    Cohort,
    ScoreTable,
    folds,
    read_cohort,
    write_cohort,
    write_scores,
)

RUN = CliRunner()
PATIENTS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Drawn chests as DICOM files, their labels, and out-of-fold scores of studies."""

    dicom: Path
    cohort: Cohort
    scores: Path


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Return what `pacsight data` draws and wraps, and scores that tell the label."""
    folder = tmp_path_factory.mktemp("sample")
    plain, dicom = folder / "plain", folder / "dicom"
    pacsight("data", "sample", "--out", plain, "--patients", str(PATIENTS))
    wrapping = ("--finding", "nodule", "--negative", "No Finding", "--out", dicom)
    pacsight("data", "wrap", plain / "table.csv", "--images", plain, *wrapping)
    cohort = read_cohort(dicom / "labels.csv")
    write_scores(scored(cohort), folder / "scores.safetensors")
    return Sample(dicom=dicom, cohort=cohort, scores=folder / "scores.safetensors")


def pacsight(*words: str | Path) -> Result:
    """Return what a command did that has to succeed."""
    done = RUN.invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done


def scored(cohort: Cohort) -> ScoreTable:
    """Return a score for each study (one image each), better than chance, in folds."""
    rng = np.random.default_rng(0)
    truth = cohort.truth[np.argsort(cohort.study)]
    patient = cohort.patient[np.argsort(cohort.study)]
    return ScoreTable(
        findings=("nodule",),
        scores=rng.normal(size=truth.shape) + truth,
        truth=truth,
        values=np.full(truth.shape, np.nan),
        patient=patient,
        units=cohort.studies,
        level="study",
        fold=folds(patient, truth[:, 0], 4, seed=0),
        calibrated=(False,),
        pack=Sha256("p"),
        data=Sha256("d"),
        kind="out-of-fold",
    )


def areas(told: Sequence[dict[str, object]]) -> set[str]:
    """Return the names of those that were measured."""
    return {str(one["name"]) for one in told if one["area"] is not None}


@pytest.mark.slow
def test_probes_stand_beside_the_scores_of_studies(
    sample: Sample, tmp_path: Path
) -> None:
    """On the folds of the scores; what a table says counts in the header's place."""
    scanners = [[uid, "AB"[n % 2]] for n, uid in enumerate(sample.cohort.units)]
    with (tmp_path / "groups.csv").open("w", encoding="utf-8") as file:
        csv.writer(file).writerows([["study", "scanner"]])
        for (_, scanner), study in zip(scanners, sample.cohort.studies, strict=True):
            csv.writer(file).writerow([study, scanner])
    out = tmp_path / "out"
    options = ("--groups", tmp_path / "groups.csv", "--out", out)
    done = pacsight(
        *("evaluate", "--scores", sample.scores, "--images", sample.dicom), *options
    )
    figures = json.loads((out / "evaluation.json").read_text("utf-8"))
    (found,) = figures["shortcuts"]
    detail = found["detail"]
    assert found["finding"] == figures["findings"][0]["key"] == "nodule"
    assert areas(detail["probes"]) >= {
        *("view", "scanner", "header together", "histogram"),
        *("compressibility", "border and corners", "sex and age"),
    }
    assert detail["own_folds"] is False
    assert {each["attribute"] for each in detail["strata"]} >= {"view", "scanner"}
    assert detail["matched"]["on"] == detail["strongest"]
    assert detail["rule"].startswith("Shadow mode where")
    assert found["verdict"] == detail["verdict"]
    assert set(found["baseline"]) == {"area", "gap", "matched", "matched_gap"}
    attributes = {one["name"] for one in figures["findings"][0]["attributes"]}
    assert attributes == {"scanner", "sex", "age", "view"}
    assert f"Shortcuts: {found['verdict']}." in done.output
    page = (out / "report.html").read_text("utf-8")
    assert "within scanner: mean" in page
    assert "plain baseline" in page


@pytest.mark.slow
def test_images_of_a_study_are_probed_together(sample: Sample, tmp_path: Path) -> None:
    """A pack scores studies: two images of one make one row, in folds of the probes' own."""
    pack = make_pack(tmp_path / "pack")
    cohort = replace(
        sample.cohort,
        findings=("pneumothorax",),
        studies=tuple(f"1.2.{number}" for number in range(PATIENTS)),
        study=sample.cohort.patient,
    )
    write_cohort(cohort, tmp_path / "labels.csv")
    vectors = np.random.default_rng(1).normal(
        size=(len(cohort.units), pack.manifest.encoder.embedding_dim)
    )
    embedded(
        tmp_path / "e.safetensors",
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        studies=[cohort.studies[study] for study in cohort.study],
        sop_instances=cohort.units,
        key=pack.encoder_key,
    )
    out = tmp_path / "out"
    pacsight(
        *("evaluate", pack.folder, "--data", tmp_path / "labels.csv", "--out", out),
        *("--embeddings", tmp_path / "e.safetensors", "--images", sample.dicom),
    )
    figures = json.loads((out / "evaluation.json").read_text("utf-8"))
    detail = figures["shortcuts"][0]["detail"]
    assert figures["level"] == "study"
    assert detail["own_folds"] is True
    rows = detail["raw"]["positives"] + detail["raw"]["negatives"]
    assert rows == figures["rows"] == PATIENTS


@pytest.mark.slow
def test_a_study_without_an_image_is_one_sentence(
    sample: Sample, tmp_path: Path
) -> None:
    """Nothing is written."""
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(sample.dicom.glob("*.dcm"))[2:]:
        (some / path.name).hardlink_to(path)
    options = ["--images", str(some), "--out", str(tmp_path / "out")]
    done = RUN.invoke(app, ["evaluate", "--scores", str(sample.scores), *options])
    assert isinstance(done.exception, Permanent)
    assert "2 of 60 studies have no image among the files of --images" in str(
        done.exception
    )
    assert not (tmp_path / "out").exists()
