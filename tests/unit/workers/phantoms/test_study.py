"""Phantoms as DICOM: valid, the same each time, and read back as what was drawn."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.judges import ask
from workers.decode import decode
from workers.phantoms import (
    KINDS,
    ChestPhantom,
    HeadPhantom,
    ct_grey,
    datasets,
    phantom,
    radiograph_grey,
)
from workers.policy import IntensityRule, Percentiles, Preprocessing, Window
from workers.preprocess import prepare

POLICY = Preprocessing(
    name="as the demo pack",
    size=112,
    intensity=(
        IntensityRule(modality=("CT",), method=Window(center=40, width=100)),
        IntensityRule(method=Percentiles(low=1, high=99)),
    ),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(kind: str, tmp_path: Path) -> None:
    """The first and the last instance of a study are valid."""
    made = datasets(phantom(kind, 11), size=64, slices=3)
    for index in (0, -1):
        path = tmp_path / f"{index}.dcm"
        made[index].save_as(path, enforce_file_format=True)
        told = ask("dciodvfy", "-new", path)
        assert "Error" not in told, told


def test_a_study_made_again_is_the_same_to_the_byte() -> None:
    """UIDs, header and pixels."""
    first, second = (
        [_bytes(ds) for ds in datasets(phantom("haemorrhage", 4), size=64, slices=3)]
        for _ in range(2)
    )
    assert first == second


def test_uids_are_unique_and_of_one_study() -> None:
    """Instances differ, series and study are shared; another seed shares nothing."""
    made = datasets(phantom("head_normal", 1), size=32, slices=5)
    other = datasets(phantom("head_normal", 2), size=32, slices=5)
    assert len({ds.SOPInstanceUID for ds in (*made, *other)}) == 10
    assert len({ds.SeriesInstanceUID for ds in made}) == 1
    assert made[0].StudyInstanceUID != other[0].StudyInstanceUID
    assert all(ds.SOPInstanceUID.startswith("2.25.") for ds in made)


def test_slices_are_in_order_and_as_many_as_asked_for() -> None:
    """From the base to the vertex, evenly spaced."""
    made = datasets(phantom("haemorrhage", 1), size=32, slices=7)
    heights = [float(ds.ImagePositionPatient[2]) for ds in made]
    assert len(made) == 7
    assert np.allclose(np.diff(heights), np.diff(heights)[0], atol=1e-3)


def test_polarity_is_in_the_header() -> None:
    """An inverted radiograph says MONOCHROME1, and INVERSE as PS3.3 C.8.11.3 wants."""
    for seed in range(6):
        made = phantom("chest_normal", seed)
        assert isinstance(made, ChestPhantom)
        (ds,) = datasets(made, size=64)
        expected = (
            ("MONOCHROME1", "INVERSE") if made.inverted else ("MONOCHROME2", "IDENTITY")
        )
        actual = (ds.PhotometricInterpretation, ds.PresentationLUTShape)
        assert expected == actual


@pytest.mark.parametrize("seed", range(4))
def test_the_node_sees_of_a_radiograph_what_training_saw(
    seed: int, tmp_path: Path
) -> None:
    """Written, decoded and prepared by the node: within two grey levels."""
    made = phantom("effusion", seed)
    assert isinstance(made, ChestPhantom)
    path = tmp_path / "x.dcm"
    datasets(made, size=256)[0].save_as(path, enforce_file_format=True)
    actual = prepare(decode(path), POLICY)
    expected = radiograph_grey(made.pixels(256), 112, inverted=made.inverted)
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 2


def test_the_node_sees_of_a_slice_what_training_saw(tmp_path: Path) -> None:
    """Written, decoded and prepared by the node: within a grey level."""
    made = phantom("haemorrhage", 3)
    assert isinstance(made, HeadPhantom)
    path = tmp_path / "x.dcm"
    datasets(made, size=256, slices=3)[1].save_as(path, enforce_file_format=True)
    actual = prepare(decode(path), POLICY)
    expected = ct_grey(made.pixels(made.levels(3)[1], 256), 112)
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


def _bytes(dataset: object) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)  # type: ignore[attr-defined]
    dcmread(BytesIO(buffer.getvalue()))
    return buffer.getvalue()
