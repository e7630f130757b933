"""Plain images as radiographs: valid DICOM, labels in our schema, the same again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from tests.judges import ask, complaints
from workers.cli import app
from workers.cohort import Role, Truth, read_cohort
from workers.cohort.wrapping import Columns, Wrapping, wrap

TABLE = """file,patient,labels,sex,age,view,pneumothorax
a.png,P1,Pneumonia|Edema,M,77,AP,1
b.png,P1,No Finding,M,78,PA,0
c.jpg,P2,Effusion,F,,,
d.png,P3,No Finding,,5,LL,-1
"""
LISTED = Wrapping(listed=("Pneumonia",), negative=("No Finding",))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of images, one of them lossy and one of odd size."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.jpg", "d.png")):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (21, 17 + number), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (tmp_path / "table.csv").write_text(TABLE, "utf-8")
    return folder


def wrapped(folder: Path, images: Path, wrapping: Wrapping, name: str = "out") -> Path:
    """Return where the instances and the labels are."""
    out = folder / name
    out.mkdir()
    wrap(folder / "table.csv", images, out, wrapping, progress=lambda *_: None)
    return out


def test_where_a_view_is_open_none_is_made_up(tmp_path: Path, images: Path) -> None:
    """All images of the table are then computed radiographs, which may leave it open."""
    out = wrapped(tmp_path, images, LISTED)
    found = [dcmread(path) for path in out.glob("*.dcm")]
    assert {ds.Modality for ds in found} == {"CR"}
    assert sorted(ds.ViewPosition for ds in found) == ["", "AP", "LL", "PA"]
    for path in out.glob("*.dcm"):
        assert complaints(ask("dciodvfy", "-new", path)) == []


def test_images_become_radiographs(tmp_path: Path, images: Path) -> None:
    """Valid ones, with what the table says and the pixels as they were."""
    (tmp_path / "table.csv").write_text(TABLE.replace("F,,,", "F,,RL,"), "utf-8")
    out = wrapped(tmp_path, images, LISTED)
    found = {
        ds.PatientAge if "PatientAge" in ds else "": ds
        for ds in map(dcmread, out.glob("*.dcm"))
    }
    one = found["077Y"]
    assert (one.PatientID, one.PatientSex, one.ViewPosition) == ("P1", "M", "AP")
    assert (one.Modality, one.BodyPartExamined) == ("DX", "CHEST")
    with Image.open(images / "a.png") as image:
        assert one.pixel_array.tolist() == np.asarray(image).tolist()
    assert found[""].LossyImageCompression == "01"
    assert found["005Y"].PatientOrientation == ["A", "F"]
    for path in out.glob("*.dcm"):
        assert complaints(ask("dciodvfy", "-new", path)) == []


def test_the_same_images_are_the_same_instances(tmp_path: Path, images: Path) -> None:
    """Bytes and labels; no UID is drawn by chance."""
    one, two = (wrapped(tmp_path, images, LISTED, name) for name in "ab")
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_what_is_not_listed_is_missing(tmp_path: Path, images: Path) -> None:
    """Listed is 1, a listed negative is 0, neither says nothing."""
    wrapping = Wrapping(
        columns=Columns(findings=("pneumothorax",)),
        listed=("Pneumonia",),
        negative=("No Finding",),
        attributes=(("sex", "F"), ("view", "AP")),
    )
    cohort = read_cohort(wrapped(tmp_path, images, wrapping) / "labels.csv")
    assert cohort.findings == ("Pneumonia", "pneumothorax", "sex=F", "view=AP")
    rows = sorted(tuple(row) for row in cohort.truth.tolist())
    none, unsure = Truth.MISSING, Truth.UNCERTAIN
    assert rows == sorted(
        [(1, 1, 0, 1), (0, 0, 0, 0), (none, none, 1, none), (0, unsure, none, 0)]
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("x.png,P1,Pneumonia,M,7,AP,1", r"line 2: .*x\.png: No such file"),
        ("a.png,,Pneumonia,M,7,AP,1", "line 2: needs a file and a patient"),
        ("a.png,P1,Pneumonia|No Finding,M,7,AP,1", "says that Pneumonia is there, and"),
        ("a.png,P1,Pneumonia,X,7,AP,1", "line 2: a sex is M, F, O or empty"),
        ("a.png,P1,Pneumonia,M,old,AP,1", "line 2: an age is a number of years"),
        ("a.png,P1,Pneumonia,M,777,AP,1", "line 2: an age is a number of years"),
        ("a.png,P1,Pneumonia,M,7,AP,maybe", "line 2: pneumothorax is neither 1, 0,"),
        ("a.png,P1,Pneumonia,M", "line 2: has not as many columns as the header"),
        ("a.png,P1,,M,7,AP,1\na.png,P1,,M,7,AP,1", "line 3: the same image stands on"),
        ("table.csv,P1,,M,7,AP,1", "is no image"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, images: Path, line: str, sentence: str
) -> None:
    """One sentence."""
    (tmp_path / "table.csv").write_text(TABLE.splitlines()[0] + "\n" + line + "\n")
    (images / "table.csv").write_text("no image")
    wrapping = Wrapping(
        columns=Columns(findings=("pneumothorax",)),
        listed=("Pneumonia",),
        negative=("No Finding",),
    )
    with pytest.raises(Permanent, match=sentence):
        wrapped(tmp_path, images, wrapping)


def run(*arguments: object) -> Any:
    """Return what a command answers."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_commands_wrap_split_and_count(tmp_path: Path, images: Path) -> None:
    """As an operator calls them."""
    out, labels = tmp_path / "dx", tmp_path / "roles.csv"
    options = (
        "--finding",
        "Pneumonia",
        "--negative",
        "No Finding",
        "--rename",
        "age=age",
    )
    found = run(
        "data",
        "wrap",
        tmp_path / "table.csv",
        "--images",
        images,
        "--out",
        out,
        *options,
    )
    assert "4 images of 3 patients" in found.stdout
    shares = ("--train", 0.5, "--tune", 0, "--test", 0.5, "--seed", 3)
    run("data", "split", out / "labels.csv", "--out", labels, *shares)
    assert {*read_cohort(labels).roles} == {Role.TRAIN, Role.TEST}
    counts = json.loads(run("data", "check", labels, "--json").stdout)
    assert (counts["patients"], counts["units"]) == (3, 4)
    assert counts["findings"]["Pneumonia"]["missing"] == 1
    assert sum(counts["roles"].values()) == 3
    assert "Pneumonia" in run("data", "check", labels).stdout
