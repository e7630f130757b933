"""What is known of images: from headers, from pixels, as a table."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import Permanent
from tests.images import image, save
from workers.shortcuts.attributes import age_band, read_attributes, write_attributes
from workers.shortcuts.describing import describe_images

GREY = np.tile(np.arange(256, dtype=np.uint8), (200, 1))


def radiograph(folder: Path, number: int, **changes: str) -> Path:
    """Write a radiograph with a header."""
    stated = {
        "PatientSex": "F",
        "PatientAge": "077Y",
        "ViewPosition": "AP",
        "BodyPartExamined": "CHEST",
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Model 1",
        "InstitutionName": "Saint Nobody",
        "PixelSpacing": ["0.2", "0.25"],
    }
    dataset = image(
        np.roll(GREY, number, 1), SOPInstanceUID=f"1.2.{number}", **(stated | changes)
    )
    return save(dataset, folder / f"{number}.dcm")


def png(path: Path, pixels: NDArray[np.uint8] = GREY) -> Path:
    """Write a plain image."""
    Image.fromarray(pixels).save(path)
    return path


def test_a_header_says_how_an_image_was_made(tmp_path: Path) -> None:
    """Sex, age, view, body part, scanner, matrix, spacing, by SOP Instance UID."""
    found = describe_images([radiograph(tmp_path, 1)])
    assert found.names == ("1.2.1",)
    assert found.scanner == ("Maker Model 1",)
    assert found.size_px.tolist() == [[200, 256]]
    assert found.spacing_mm.tolist() == [[0.2, 0.25]]
    assert {name: group[0] for name, group in found.groups().items()} == {
        "sex": "F",
        "age": "60-79",
        "view": "AP",
        "body part": "CHEST",
        "scanner": "Maker Model 1",
        "site": "site 1",
    }


def test_sites_are_numbers(tmp_path: Path) -> None:
    """An institution, or else a station, is told apart, and never named."""
    paths = [
        radiograph(tmp_path, 1),
        radiograph(tmp_path, 2, InstitutionName="", StationName="ROOM 7"),
        radiograph(tmp_path, 3),
        radiograph(tmp_path, 4, InstitutionName=""),
    ]
    found = describe_images(paths, cache=tmp_path / "kept")
    assert found.site == ("site 1", "site 2", "site 1", "")
    written = tmp_path / "table.csv"
    write_attributes(found, written)
    (kept,) = (tmp_path / "kept").iterdir()
    assert "Nobody" not in written.read_text() + kept.read_text()


@pytest.mark.parametrize(
    ("stated", "years"),
    [
        ({"PatientAge": "018M"}, 1.5),
        (
            {"PatientAge": "", "PatientBirthDate": "19500630", "StudyDate": "20200629"},
            69,
        ),
        ({"PatientAge": ""}, math.nan),
    ],
)
def test_ages_are_years(tmp_path: Path, stated: dict[str, str], years: float) -> None:
    """As stated, or between birth and study, or not known."""
    found = describe_images([radiograph(tmp_path, 1, **stated)])
    assert found.age_years.tolist() == pytest.approx([years], nan_ok=True)


def test_bands_of_age_begin_where_they_say() -> None:
    """Eighteen and eighty begin new ones."""
    ages = (17.9, 18, 59, 80, math.nan)
    assert [age_band(age) for age in ages] == [
        "0-17",
        "18-39",
        "40-59",
        "80 and over",
        "",
    ]


def test_a_plain_image_is_known_by_its_file(tmp_path: Path) -> None:
    """It has a size and features, and nothing else."""
    found = describe_images([png(tmp_path / "0001.png")])
    assert (found.names, found.sex, found.size_px.tolist()) == (
        ("0001.png",),
        ("",),
        [[200, 256]],
    )
    assert found.traces is not None
    assert found.traces.histogram[0, :32].tolist() == [1 / 32] * 32


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    """The others are described; its features are not known."""
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"nothing")
    found = describe_images([png(tmp_path / "a.png"), broken])
    assert [name for name, _ in found.unreadable] == ["broken.dcm"]
    assert found.traces is not None
    assert np.isnan(found.traces.border[1]).all()
    with pytest.raises(Permanent, match="none of 1 files"):
        describe_images([broken])


def test_what_was_looked_at_is_kept_by_digest(tmp_path: Path) -> None:
    """A second run reads the same features, also after a line that was cut short."""
    paths = [radiograph(tmp_path, number) for number in (1, 2)]
    first = describe_images(paths, cache=tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    lines = kept.read_text().splitlines()
    kept.write_text(lines[-2] + "\n" + lines[-1][:40])
    again = describe_images(paths, cache=tmp_path / "kept")
    assert first.traces is not None
    assert again.traces is not None
    assert again.traces.border.tolist() == first.traces.border.tolist()
    assert len([line for line in kept.read_text().splitlines() if line]) == 3


def test_progress_counts_images(tmp_path: Path) -> None:
    """One by one, to the last."""
    seen: list[tuple[str, int, int]] = []
    paths = [png(tmp_path / f"{number}.png") for number in range(3)]
    describe_images(paths, progress=lambda *step: seen.append(step))
    assert seen == [("describing images", done, 3) for done in (1, 2, 3)]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Empty cells among it."""
    paths = [radiograph(tmp_path, 1), png(tmp_path / "a.png")]
    found = describe_images(paths)
    table = tmp_path / "table.csv"
    write_attributes(found, table)
    again = read_attributes(table)
    assert again.groups() == found.groups()
    assert again.names == found.names
    for name in ("age_years", "size_px", "spacing_mm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    with pytest.raises(Permanent, match="File exists"):
        write_attributes(found, table)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("patient,sex\n1,M\n", "no rows named by"),
        ("file,sex\na,M\na,F\n", "twice"),
        ("file,age_years\na,old\n", "no number"),
        ("", "no rows named by"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    """In one sentence."""
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(Permanent, match=says):
        read_attributes(table)


def test_images_become_studies(tmp_path: Path) -> None:
    """Numbers are averaged, views that differ are joined, unknown ones are empty."""
    paths = [
        radiograph(tmp_path, 1),
        radiograph(tmp_path, 2, ViewPosition="PA", PatientAge="075Y"),
        radiograph(tmp_path, 3, PatientAge=""),
    ]
    found = describe_images(paths).merged(np.array([1, 1, 2]), ("a", "b", "c"))
    assert found.view == ("", "AP+PA", "AP")
    assert found.age_years.tolist() == pytest.approx(
        [math.nan, 76, math.nan], nan_ok=True
    )
    assert found.names == ("a", "b", "c")


def test_rows_are_found_by_name(tmp_path: Path) -> None:
    """In the order that is asked for."""
    paths = [radiograph(tmp_path, 1), radiograph(tmp_path, 2, ViewPosition="PA")]
    found = describe_images(paths).reordered(("1.2.2", "1.2.9", "1.2.1"))
    assert found.view == ("PA", "", "AP")


@pytest.mark.corpus
def test_chest_radiographs_of_the_corpus_are_described(shared: Path) -> None:
    """Plain images of one size: matrix and spacing cannot be shortcuts there."""
    paths = sorted((shared / "data" / "nih_cxr" / "images").glob("*.png"))[:8]
    found = describe_images(paths)
    assert found.unreadable == ()
    assert found.size_px.tolist() == [[320, 320]] * 8
    assert found.traces is not None
    assert np.isfinite(found.traces.border).all()
