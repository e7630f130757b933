"""A gate fitted on vectors of a known kind: rates, distances, files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from dicom_node.errors import Permanent
from workers.gate import Gate, Scope, encode_gate, read_gate
from workers.gate.exposure import FROM_NONE, KINDS, strangers
from workers.gate.fitting import Validation, fit, validation, without_strangers
from workers.gate.values import margins, nearest, whiten

D = 12


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows of length one."""
    long = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / long, dtype=np.float32)


def inside(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of one kind."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.3, 0.02, D)
    return unit(np.eye(D)[0] + spread * rng.standard_normal((count, D)))


def outside(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors that differ where those of the kind hardly do."""
    shift = np.zeros(D, np.float32)
    shift[-1] = 0.15
    return unit(inside(count, seed) + shift)


def shown(patients: int = 300) -> Validation:
    """Return two images a patient, with a stranger made of each."""
    count = 2 * patients
    return Validation(
        modalities=("DX",),
        vectors=inside(count, 1),
        groups=np.repeat(np.arange(patients, dtype=np.int32), 2),
        strangers=outside(count, 2),
        origin=np.arange(count, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def gate() -> Gate:
    """Return a gate with both measures."""
    return fit([shown()], rate=0.02)


def test_new_vectors_of_the_kind_are_left_out_at_the_stated_rate(gate: Gate) -> None:
    """2 % of 4,000, give or take what 300 patients can tell."""
    alarms = (gate.distances(inside(4000, 3), "DX") > gate.limit).mean()
    assert 0.005 <= alarms <= 0.04


def test_strangers_of_the_shown_kind_are_caught(gate: Gate) -> None:
    """They differ by a tenth of what the others vary among each other."""
    assert (gate.distances(outside(1000, 4), "DX") > gate.limit).mean() >= 0.99


def test_what_is_like_nothing_that_was_shown_is_caught(gate: Gate) -> None:
    """Any direction on the other side of the sphere."""
    rng = np.random.default_rng(5)
    away = unit(rng.standard_normal((500, D)))
    away[:, 0] = -np.abs(away[:, 0])
    assert (gate.distances(away, "DX") > gate.limit).all()


def test_without_strangers_the_distances_are_those_of_section_3_6() -> None:
    """Scikit-learn's two nearest neighbours, averaged, in the whitened space."""
    part = shown()
    made = fit(
        [without_strangers(part.vectors, part.groups, modalities=("DX",))], rate=0.02
    )
    scope = made.scopes[0]
    assert made.kind == "nearest"
    points = whiten(inside(50, 6), scope.centre, scope.axes)
    judge = NearestNeighbors(n_neighbors=2).fit(scope.bank)
    expected = judge.kneighbors(points)[0].mean(axis=1)
    assert expected == pytest.approx(nearest(points, scope.bank), abs=1e-5)
    alarms = (made.distances(inside(4000, 3), "DX") > made.limit).mean()
    assert 0.005 <= alarms <= 0.04


def test_the_machine_is_scikit_learns(gate: Gate) -> None:
    """Its margins from the arrays that are kept are those of its own code."""
    scope = gate.scopes[0]
    learned = scope.learned
    assert learned is not None
    points = whiten(outside(40, 7), scope.centre, scope.axes)
    judge = SVC(C=10.0, gamma=learned.gamma, class_weight="balanced")
    part = shown()
    both = whiten(
        np.concatenate([part.vectors, part.strangers]), scope.centre, scope.axes
    )
    judge.fit(both, np.repeat([0, 1], len(part.vectors)))
    assert margins(points, learned) == pytest.approx(
        judge.decision_function(points), abs=0.05
    )


def test_the_same_seed_gives_the_same_bytes() -> None:
    """And another one other folds."""
    files = [encode_gate(fit([shown()], seed=seed)) for seed in (1, 1, 2)]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_gate_is_read_as_it_was_written(gate: Gate, tmp_path: Path) -> None:
    """Distances are the same; the manifest's threshold is the limit."""
    path = tmp_path / "gate.safetensors"
    path.write_bytes(encode_gate(gate))
    again = read_gate(path, dimension=D, limit=1.5)
    vectors = outside(20, 8)
    assert again.limit == 1.5
    assert np.array_equal(gate.distances(vectors, "DX"), again.distances(vectors, "DX"))


def test_what_is_no_gate_is_refused(gate: Gate, tmp_path: Path) -> None:
    """Other files, other lengths, and a file that is cut short."""
    path = tmp_path / "gate.safetensors"
    with pytest.raises(Permanent, match="No such file"):
        read_gate(path, dimension=D)
    content = encode_gate(gate)
    path.write_bytes(content[:-8])
    with pytest.raises(Permanent, match="does not hold a gate"):
        read_gate(path, dimension=D)
    path.write_bytes(content)
    with pytest.raises(Permanent, match="embeddings of 12 numbers, not of 13"):
        read_gate(path, dimension=D + 1)
    path.write_bytes(encode_gate(gate).replace(b"pacsight-gate-1", b"pacsight-gate-9"))
    with pytest.raises(Permanent, match="not a gate of format pacsight-gate-1"):
        read_gate(path, dimension=D)


def test_a_modality_without_a_scope_is_outside(gate: Gate) -> None:
    """With a reason of its own; an empty list of modalities stands for any."""
    vector = inside(1, 9)[0]
    assert gate.outside(vector, "MR") == (
        "this pack was not validated on images of modality MR"
    )
    scope: Scope = replace(gate.scopes[0], modalities=())
    assert Gate(scopes=(scope,)).scope("MR") is scope


def test_the_reason_names_distance_and_limit(gate: Gate) -> None:
    """A reader sees how far away it is."""
    reason = gate.outside(-inside(1, 9)[0], "DX")
    assert reason.startswith(
        "unlike the images that this pack was validated on (distance "
    )
    assert reason.endswith(", limit 1.00)")


def test_a_volume_is_judged_by_its_median_slice(gate: Gate) -> None:
    """Two odd slices of five do not matter, three do."""
    usual, odd = inside(5, 10), -inside(5, 11)
    assert gate.distances(usual, "DX").max() <= gate.limit
    assert gate.outside_volume(np.concatenate([usual[:3], odd[:2]]), "DX") == ""
    assert gate.outside_volume(np.concatenate([usual[:2], odd[:3]]), "DX") != ""


def test_too_few_patients_are_said_to_be() -> None:
    """At 2 %, it takes 49."""
    with pytest.raises(ValueError, match="takes at least 49 patients or studies"):
        fit([shown(40)], rate=0.02)
    with pytest.raises(ValueError, match="1 patients or studies are too few"):
        fit([shown(1)], rate=0.02)


def test_numbers_that_are_none_are_refused() -> None:
    """Before anything is fitted."""
    part = shown(60)
    part.vectors[3, 3] = np.nan
    with pytest.raises(ValueError, match="no number"):
        fit([part])


def test_strangers_are_the_images_inverted_turned_and_blank() -> None:
    """Each knows which image it was made of."""
    rng = np.random.default_rng(12)
    images = rng.integers(0, 256, (6, 3, 16, 16), np.uint8)
    made = strangers(images, seed=1)
    assert made.images.shape == (len(KINDS) * 6, 3, 16, 16)
    assert np.array_equal(made.images[made.kind == 0], 255 - images)
    assert np.array_equal(made.images[made.kind == 2][4], images[4, :, ::-1, ::-1])
    assert (made.origin[made.kind == len(KINDS) - 1] == FROM_NONE).all()
    blank = made.images[made.kind == len(KINDS) - 1]
    assert (blank == blank[:, :1]).all()


def test_strangers_follow_their_image_into_a_fold() -> None:
    """Those of a patient who is held out are held out, too; blanks are of nobody."""
    part = validation(
        inside(10, 1),
        np.arange(10, dtype=np.int32),
        lambda rows: np.zeros((len(rows), 8, 8), np.uint8),
        modalities=(),
        embed=lambda images: inside(len(images), 2),
    )
    kept = part.rows(np.arange(10) % 2 == 0)
    assert len(kept.vectors) == 5
    assert len(kept.strangers) == 4 * 5 + 10
    assert set(kept.origin.tolist()) == {FROM_NONE, 0, 1, 2, 3, 4}
