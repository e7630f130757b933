"""Roles, folds, embeddings and labels joined, scores kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from tests.cohorts import KEY, drawn, embedded
from workers.cohort import (
    Role,
    ScoreTable,
    Truth,
    assign_roles,
    by_study,
    check_encoder,
    folds,
    join,
    read_embeddings,
    read_scores,
    write_scores,
)

SHARES = {Role.TRAIN: 0.5, Role.CALIBRATE: 0.25, Role.TEST: 0.25}


def test_roles_are_dealt_by_patient_and_finding() -> None:
    """In their shares, the rare finding in each role, the same for the same seed."""
    cohort = drawn(patients=400).cohort
    given = assign_roles(cohort, SHARES, 7)
    counts = {role: given.roles.count(role) for role in SHARES}
    assert counts == {Role.TRAIN: 200, Role.CALIBRATE: 100, Role.TEST: 100}
    assert given.roles == assign_roles(cohort, SHARES, 7).roles
    assert given.roles != assign_roles(cohort, SHARES, 8).roles
    assert given.digest != cohort.digest
    ill = {int(p) for p in cohort.patient[cohort.truth[:, 0] == Truth.PRESENT]}
    shares = {r: sum(given.roles[p] is r for p in ill) / len(ill) for r in SHARES}
    assert shares == pytest.approx(SHARES, abs=0.01)


def test_roles_are_given_once() -> None:
    """And their shares have to add up."""
    cohort = drawn().cohort
    with pytest.raises(Permanent, match="assigns roles already"):
        assign_roles(assign_roles(cohort, SHARES, 0), SHARES, 0)
    with pytest.raises(Permanent, match="have to add up to 1"):
        assign_roles(cohort, {Role.TRAIN: 0.5}, 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 6))
def test_no_patient_is_in_two_folds(seed: int, n: int) -> None:
    """Every fold has both labels, and the same seed gives the same folds."""
    cohort = drawn(patients=40, seed=seed).cohort
    fold = folds(cohort.patient, cohort.truth, n, seed=seed)
    assert fold.tolist() == folds(cohort.patient, cohort.truth, n, seed=seed).tolist()
    assert len({*zip(cohort.patient.tolist(), fold.tolist(), strict=True)}) == 40
    cells = {*zip(cohort.truth[:, 0].tolist(), fold.tolist(), strict=True)}
    assert len(cells) == 2 * n


def test_folds_need_patients() -> None:
    """More of them than folds."""
    patient, truth = np.array([0, 0, 1]), np.zeros(3, np.int8)
    with pytest.raises(Permanent, match="2 patients are too few for 3 folds"):
        folds(patient, truth, 3, seed=0)


def test_embeddings_are_read_back(tmp_path: Path) -> None:
    """Vectors, and which frame each row is."""
    rows = np.eye(3, 4, dtype=np.float32)
    path = embedded(
        tmp_path / "e.st", rows, studies="112", sop_instances=["1.1", "1.2", "2.1"]
    )
    found = read_embeddings(path)
    assert found.vectors.tolist() == rows.tolist()
    assert (found.studies, found.sop_instances) == (
        ("1", "1", "2"),
        ("1.1", "1.2", "2.1"),
    )
    assert found.encoder_key == KEY
    check_encoder(found, KEY, "p")
    with pytest.raises(
        Permanent, match="its profile is float32, and that of pack p is"
    ):
        check_encoder(found, replace(KEY, profile="bfloat16"), "p")


def test_what_holds_no_embeddings_is_refused(tmp_path: Path) -> None:
    """In a sentence with the file's name."""
    rows = np.eye(2, dtype=np.float32)
    save_file({"embeddings": rows}, tmp_path / "e.st")
    with pytest.raises(Permanent, match=r"e\.st: not a file of `pacsight embed`"):
        read_embeddings(tmp_path / "e.st")
    with pytest.raises(Permanent, match=r"none\.parquet: No such file|none\.parquet"):
        read_embeddings(tmp_path / "none.parquet")
    rows[1, 1] = np.nan
    path = embedded(tmp_path / "f.st", rows, studies="11", sop_instances="12")
    with pytest.raises(Permanent, match="row 1 holds something that is no number"):
        read_embeddings(path)


def test_labels_find_their_embeddings() -> None:
    """Row by row in the order of the embeddings; findings in the order asked for."""
    made = drawn(findings=("a", "b"))
    found = join(made.cohort, made.embeddings, need=("b", "a"))
    assert found.findings == ("b", "a")
    assert found.truth.tolist() == made.cohort.truth[:, ::-1].tolist()
    assert found.vectors is made.embeddings.vectors
    assert found.patient.tolist() == made.cohort.patient.tolist()


def test_a_label_without_embedding_is_refused() -> None:
    """With how many, and the first; what is missing needs none."""
    made = drawn()
    few = replace(
        made.embeddings,
        **{
            name: getattr(made.embeddings, name)[2:]
            for name in ("vectors", "studies", "series", "frames", "volumes")
        },
        sop_instances=made.embeddings.sop_instances[2:],
    )
    count = len(made.cohort.units)
    with pytest.raises(Permanent, match=rf"2 of {count} labelled .* first is 1\.3\.0"):
        join(made.cohort, few)
    made.cohort.truth[:2] = Truth.MISSING
    assert len(join(made.cohort, few).vectors) == count - 2
    with pytest.raises(Permanent, match="labels no 'x': it has finding"):
        join(made.cohort, few, need=["x"])


def test_an_image_in_another_study_is_refused() -> None:
    """The table's studies decide which images belong together, so they must be true."""
    made = drawn()
    wrong = replace(made.embeddings, studies=("9", *made.embeddings.studies[1:]))
    with pytest.raises(Permanent, match=r"1\.3\.000000 is not of study 1\.2\.000000"):
        join(made.cohort, wrong)


def test_a_study_is_negative_only_if_all_of_it_is() -> None:
    """Missing is never negative."""
    made = drawn()
    study = made.cohort.study
    several = np.flatnonzero(np.bincount(study) > 1)[:3]
    one, two, three = (np.flatnonzero(study == s) for s in several)
    made.cohort.truth[one, 0] = [Truth.ABSENT, Truth.MISSING]
    made.cohort.truth[two, 0] = [Truth.PRESENT, Truth.MISSING]
    made.cohort.truth[three, 0] = [Truth.ABSENT, Truth.UNCERTAIN]
    found = by_study(join(made.cohort, made.embeddings))
    assert found.truth[several, 0].tolist() == [
        Truth.MISSING,
        Truth.PRESENT,
        Truth.UNCERTAIN,
    ]
    assert found.of_row.tolist() == study.tolist()


def table(**changes: object) -> ScoreTable:
    """Return two studies with a score."""
    values = {
        "findings": ("f",),
        "scores": np.array([[0.25], [np.nan]]),
        "truth": np.array([[1], [-2]], np.int8),
        "values": np.full((2, 1), np.nan),
        "patient": np.array([0, 1], np.int32),
        "units": ("1.2", "1.3"),
        "level": "study",
        "fold": np.array([0, -1], np.int8),
        "calibrated": (True,),
        "pack": Sha256("p"),
        "data": Sha256("d"),
        "kind": "out-of-fold",
    }
    return ScoreTable(**(values | changes))  # type: ignore[arg-type]


def test_scores_are_kept(tmp_path: Path) -> None:
    """Written and read, they are the same."""
    write_scores(table(), tmp_path / "s.st")
    again = read_scores(tmp_path / "s.st")
    assert np.array_equal(again.scores, table().scores, equal_nan=True)
    assert again.truth.tolist() == [[1], [-2]]
    assert (again.units, again.findings, again.level) == (
        ("1.2", "1.3"),
        ("f",),
        "study",
    )
    assert (again.calibrated, again.pack, again.kind) == ((True,), "p", "out-of-fold")


def test_scores_that_are_none_are_refused(tmp_path: Path) -> None:
    """A file of another kind, and a table whose columns do not fit."""
    save_file({"embeddings": np.eye(2)}, tmp_path / "e.st")
    with pytest.raises(Permanent, match="not a file of scores"):
        read_scores(tmp_path / "e.st")
    with pytest.raises(ValueError, match="of studies or images"):
        table(level="patient")
    with pytest.raises(ValueError, match="must be"):
        table(units=("1",))
