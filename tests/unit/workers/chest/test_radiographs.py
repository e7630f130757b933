"""The folder of radiographs: what is read, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import Permanent
from workers.chest import read_radiographs
from workers.chest.recipe import POLICY


def test_the_table_becomes_columns(folder: Path) -> None:
    """Patients are numbered; a label that is neither of the two does not apply."""
    data = read_radiographs(folder, POLICY)
    assert data.images.shape == (24, 48, 48)
    assert data.patient.tolist() == [number // 2 for number in range(24)]
    assert data.male.tolist() == [number // 2 % 2 == 1 for number in range(24)]
    assert data.ap.tolist() == [number % 2 == 0 for number in range(24)]
    assert data.pneumonia.tolist() == [number // 2 % 3 == 0 for number in range(24)]
    assert data.findings[:3] == (
        frozenset({"Effusion", "Pneumonia"}),
        frozenset({"Effusion", "Pneumonia"}),
        frozenset(),
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("0000.png,P00,No Finding,O,30,PA", "line 2: sex must be F or M, not 'O'"),
        ("0000.png,P00,No Finding,F,30,LL", "line 2: view must be AP or PA, not 'LL'"),
        ("0000.png,P00,No Finding,F,-3,PA", "line 2: age must be whole years"),
        ("0000.png,P00,No Finding,F,,PA", "line 2: a value is missing"),
        ("../0000.png,P00,No Finding,F,3,PA", "line 2: a file is named without"),
        ("none.png,P00,No Finding,F,30,PA", "none.png is no image that can be read"),
    ],
)
def test_a_wrong_row_is_refused(
    folder: Path, tmp_path: Path, wrong: str, said: str
) -> None:
    """In one sentence that names the line or the file."""
    (tmp_path / "labels.csv").write_text(
        f"file,patient,labels,sex,age,view\n{wrong}\n", "utf-8"
    )
    shutil.copytree(folder / "images", tmp_path / "images")
    with pytest.raises(Permanent, match=said):
        read_radiographs(tmp_path, POLICY)


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    """The first one that is missing is named."""
    (tmp_path / "labels.csv").write_text("file,patient\n0.png,P0\n", "utf-8")
    with pytest.raises(Permanent, match="lacks the column labels"):
        read_radiographs(tmp_path, POLICY)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    """Rather than taken for an empty one."""
    with pytest.raises(Permanent, match="no table that can be read"):
        read_radiographs(tmp_path, POLICY)


def test_a_colour_image_is_refused(tmp_path: Path) -> None:
    """What is learned from has to be what a radiograph is."""
    (tmp_path / "images").mkdir()
    colours = np.zeros((8, 8, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "images" / "0.png")
    row = "0.png,P0,No Finding,F,30,PA"
    (tmp_path / "labels.csv").write_text(
        f"file,patient,labels,sex,age,view\n{row}\n", "utf-8"
    )
    with pytest.raises(Permanent, match="not grey with 8 bits"):
        read_radiographs(tmp_path, POLICY)
