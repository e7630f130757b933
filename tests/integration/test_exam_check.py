"""The exam check on real radiographs: a header that is wrong is found, a right one is not.

The shipped encoder has learned from these patients, so this shows that the pack does what
it is for, not how well: that is measured out of fold, by ``tests/benchmarks/chest.py``.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from rich.console import Console
from typer.testing import CliRunner

from dicom_node.config import Settings
from dicom_node.domain import Flag
from sr_writer.reading import read_report
from tests import strangers
from workers.analyze import analyze_files
from workers.cli import app

pytestmark = pytest.mark.slow

COUNT = 16
ADULT = 18
RUN = CliRunner()


@pytest.fixture(scope="module")
def images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return real radiographs of adults as DICOM, each a study with a true header."""
    source = shared / "data" / "nih_cxr"
    made = tmp_path_factory.mktemp("nih")
    lines = (source / "labels.csv").read_text("utf-8").splitlines()
    age = lines[0].split(",").index("age")
    adults = [line for line in lines[1:] if int(line.split(",")[age]) >= ADULT]
    table = made / "table.csv"
    table.write_text("\n".join([lines[0], *adults[:: len(adults) // COUNT][:COUNT]]))
    asked = ["data", "wrap", str(table), "--images", str(source / "images")]
    asked += ["--attribute", "sex=M", "--out", str(made / "dx")]
    assert RUN.invoke(app, asked).exit_code == 0
    return sorted((made / "dx").rglob("*.dcm"))


Change = Callable[[Dataset], None]


def swap_sex(image: Dataset) -> None:
    """Write the other sex into the header."""
    image.PatientSex = {"M": "F", "F": "M"}[image.PatientSex]


def no_sex(image: Dataset) -> None:
    """Leave the sex empty."""
    image.PatientSex = ""


def hand(image: Dataset) -> None:
    """Show a hand, and leave the header as it is."""
    drawn = strangers.hand(int(image.InstanceNumber or 0), size=image.Rows)
    image.PixelData = (drawn >> 4).astype(np.uint8).tobytes()


def upside_down(image: Dataset) -> None:
    """Turn the pixels, and leave the header as it is."""
    image.PixelData = np.ascontiguousarray(image.pixel_array[::-1, ::-1]).tobytes()


def flags(
    images: list[Path], tmp_path: Path, change: Change | None = None
) -> dict[str, Counter[Flag]]:
    """Return how often each finding has which flag, in the reports of the images."""
    sent = tmp_path / "in"
    sent.mkdir()
    for number, path in enumerate(images):
        image = dcmread(path)
        if change is not None:
            change(image)
        image.save_as(sent / f"{number:03}.dcm", enforce_file_format=True)
    settings = Settings(data_dir=tmp_path / "data", packs=("chest",))
    out = tmp_path / "out"
    analyze_files([sent], out, settings=settings, console=Console(quiet=True))
    written = [dcmread(path) for path in out.rglob("*.dcm")]
    found: dict[str, Counter[Flag]] = {}
    for report in (read_report(one) for one in written if one.Modality == "SR"):
        for finding in report.findings:
            found.setdefault(finding.key, Counter())[finding.flag] += 1
    return found


@pytest.mark.slow
@pytest.mark.corpus
def test_right_headers_are_left_alone(images: list[Path], tmp_path: Path) -> None:
    """One or two of 16 may be doubted; what is in shadow mode is in no report."""
    found = flags(images, tmp_path)
    assert set(found) == {"sex", "orientation", "body_part"}
    assert all(sum(count.values()) == COUNT for count in found.values())
    assert all(count[Flag.ABOVE] <= 2 for count in found.values())


@pytest.mark.corpus
def test_the_other_sex_in_the_header_is_doubted(
    images: list[Path], tmp_path: Path
) -> None:
    """Most of them, of patients that the encoder knows; orientation is not."""
    found = flags(images, tmp_path, swap_sex)
    assert found["sex"][Flag.ABOVE] >= COUNT // 2
    assert found["orientation"][Flag.ABOVE] <= 2


@pytest.mark.slow
@pytest.mark.corpus
def test_without_a_sex_there_is_nothing_to_doubt(
    images: list[Path], tmp_path: Path
) -> None:
    """Not evaluated, and the rest goes on."""
    found = flags(images, tmp_path, no_sex)
    assert found["sex"] == {Flag.NOT_EVALUATED: COUNT}
    assert found["orientation"][Flag.NOT_EVALUATED] == 0


@pytest.mark.corpus
def test_an_image_upside_down_is_doubted(images: list[Path], tmp_path: Path) -> None:
    """The gate keeps it from the other findings, and orientation is asked all the same."""
    found = flags(images, tmp_path, upside_down)
    assert found["orientation"][Flag.ABOVE] >= COUNT - 2
    assert found["sex"][Flag.NOT_EVALUATED] >= COUNT - 2


@pytest.mark.corpus
def test_a_hand_under_chest_is_doubted(images: list[Path], tmp_path: Path) -> None:
    """Its body part is; the sex of a hand is nobody's business."""
    found = flags(images, tmp_path, hand)
    assert found["body_part"] == {Flag.ABOVE: COUNT}
    assert found["sex"] == {Flag.NOT_EVALUATED: COUNT}
