"""Whole volumes are compared with volumes, images with images, and the answer says so."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.domain import Exam
from dicom_node.errors import Permanent
from tests.atlases import opened
from tests.cohorts import labelled
from tests.images import PIXELS, image, save
from tests.unit.workers.atlas.test_building import linked
from tests.unit.workers.atlas.test_looking import pacsight
from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.atlas.comparing import compare
from workers.cohort import read_embeddings
from workers.pack import Pack
from workers.volumes import volume_embedding

SLICES = 3
VOLUMES, SINGLES = 4, 2
"""Patients with a series of slices, and patients with a single image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """CT studies on disk, their embeddings, and an atlas of some of their series."""

    images: Path
    embeddings: Path
    atlas: Path

    def study(self, patient: int) -> Path:
        """Return the folder of a patient's study."""
        return self.images / str(patient)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Heads:
    """Return heads, embedded and built into an atlas by the commands."""
    folder = tmp_path_factory.mktemp("heads")
    for patient in range(VOLUMES + SINGLES):
        where = folder / "images" / str(patient)
        where.mkdir(parents=True)
        for number in range(SLICES if patient < VOLUMES else 1):
            save(ct(patient, "1", number), where / f"{number}.dcm")
    # the first study has a localiser and a picture of its own, too
    survey = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for number in range(2):
        save(ct(0, "2", number, **survey), folder / f"images/0/survey{number}.dcm")
    save(ct(0, "3", 9), folder / "images/0/single.dcm")
    lines = [
        f"P{p},1.2.840.55.{p},1.2.840.55.{p}.1,haemorrhage,{p % 2},,two readers,atlas"
        for p in range(VOLUMES + SINGLES)
    ]
    header = "patient,study,series_uid,finding,label,value,source,role"
    labels = labelled(folder / "labels.csv", *lines, header=header)
    found = Heads(
        images=folder / "images",
        embeddings=folder / "e.safetensors",
        atlas=folder / "heads",
    )
    pacsight("embed", found.images, "--pack", pack.folder, "--out", found.embeddings)
    pacsight(
        *("atlas", "build", "--data", labels, "--embeddings", found.embeddings),
        *("--images", found.images, "--pack", pack.folder, "--out", found.atlas),
        *("--floor", 1),
    )
    return found


def ct(patient: int, series: str, number: int, **changes: Any) -> Any:
    """Return a slice of a patient's series."""
    study = f"1.2.840.55.{patient}"
    values = {
        "SOPInstanceUID": f"{study}.{series}.{number + 1}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.{series}",
        "FrameOfReferenceUID": f"{study}.99",
        "PatientID": f"ID{patient}",
        "PatientName": f"Head^{patient}",
        "BodyPartExamined": "HEAD",
        "InstanceNumber": number + 1,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, 5.0 * number],
        "PixelSpacing": [1, 1],
    }
    pixels = np.roll(PIXELS * (patient + 1), 7 * number + 3 * patient, axis=1)
    return image(pixels, **values | changes)


def test_a_study_is_compared_with_whole_volumes(heads: Heads, pack: Pack) -> None:
    """From a folder and by its UID alike: of the volume one vector; the rest is named."""
    atlas = opened(heads.atlas)
    assert np.bincount(atlas.columns.kind).tolist() == [SINGLES, VOLUMES]
    common = ("--atlas", heads.atlas, "--json")
    by_folder = json.loads(
        pacsight("search", "--study", heads.study(0), "--pack", pack.folder, *common)
    )
    by_uid = json.loads(
        pacsight(
            *("search", "--study", "1.2.840.55.0", "--embeddings", heads.embeddings),
            *common,
        )
    )
    assert by_folder["compared"] == by_uid["compared"] == "1 volume with volumes"
    assert by_folder["hits"] == by_uid["hits"]
    assert {hit["kind"] for hit in by_uid["hits"]} == {"volume"}
    assert len(by_uid["hits"]) == VOLUMES - 1  # not its own patient
    assert (
        by_folder["remark"]
        == by_uid["remark"]
        == ("left out: 2 images of localisers; not compared: 1 image of the study")
    )


def test_the_vector_of_a_volume_is_its_slices_aggregated(heads: Heads) -> None:
    """The similarity is the cosine of the two volumes' vectors."""
    file, atlas = read_embeddings(heads.embeddings), opened(heads.atlas)
    vectors = {
        f"1.2.840.55.{p}.1": volume_embedding(
            file.vectors[[s == f"1.2.840.55.{p}.1" for s in file.series]], "unit-mean"
        )
        for p in range(VOLUMES)
    }
    said = pacsight(
        *("search", "--study", "1.2.840.55.1", "--embeddings", heads.embeddings),
        *("--atlas", heads.atlas, "--json"),
    )
    links = {link["case"]: unit for unit, link in linked(heads.atlas).items()}
    for hit in json.loads(said)["hits"]:
        other = vectors[links[hit["name"]]]
        expected = float(vectors["1.2.840.55.1.1"] @ other)
        assert expected == pytest.approx(hit["similarity"], abs=1e-5)
    found = atlas.nearest([file.vectors[:SLICES]], Exam(modality="CT"), 9)
    assert found is not None
    assert len(found.cases) == VOLUMES


def test_an_image_is_compared_with_images(heads: Heads, pack: Pack) -> None:
    """Volumes are among the hits only where they are asked for, and that is said."""
    asked = ("search", "--image", heads.study(1) / "0.dcm", "--pack", pack.folder)
    said = json.loads(pacsight(*asked, "--atlas", heads.atlas, "--json"))
    assert said["compared"] == "1 image with images"
    assert [hit["kind"] for hit in said["hits"]] == ["image"] * SINGLES
    wanted = (*asked, "--atlas", heads.atlas, "--kind", "volume")
    said = json.loads(pacsight(*wanted, "--json"))
    assert said["compared"] == "1 image with volumes"
    assert [hit["kind"] for hit in said["hits"]] == ["volume"] * (VOLUMES - 1)


def test_a_text_is_compared_with_both_and_each_says_what_it_is(
    heads: Heads, pack: Pack, tmp_path: Path
) -> None:
    """In text, in JSON, and on the contact sheet."""
    asked = ("search", "--text", "ct head", "--pack", pack.folder, "--k", 9)
    page = tmp_path / "sheet.html"
    told = pacsight(*asked, "--atlas", heads.atlas, "--html", page)
    assert "compared: the text with images and volumes" in told
    kinds = re.findall(r'class="kind">(\w+)<', page.read_text())
    assert sorted(kinds) == ["image"] * SINGLES + ["volume"] * VOLUMES


def test_volumes_of_a_folder_of_embeddings(heads: Heads, pack: Pack) -> None:
    """For research: series are named, of other studies, pictures from their middle."""
    said = pacsight(
        *("search", "--study", "1.2.840.55.1", "--embeddings", heads.embeddings),
        *("--images", heads.images, "--pack", pack.folder, "--json"),
    )
    found = json.loads(said)
    assert found["compared"] == "1 volume with volumes"
    assert {hit["name"] for hit in found["hits"]} == {
        f"1.2.840.55.{p}.1" for p in (0, 2, 3)
    }
    assert all(hit["about"].startswith("3 slices, study") for hit in found["hits"])


def test_only_volumes_to_compare_an_image_with(heads: Heads, tmp_path: Path) -> None:
    """One sentence; nothing is compared that was not asked for."""
    atlas = opened(heads.atlas)
    images = np.flatnonzero(atlas.columns.kind == CaseKind.IMAGE).tolist()
    gone = [atlas.identifier(row) for row in images]
    out = tmp_path / "volumes"
    pacsight(
        *("atlas", "remove", heads.atlas, *gone, "--reason", "r", "--version", 2),
        *("--out", out),
    )
    asked = ("search", "--study", "1.2.840.55.5", "--embeddings", heads.embeddings)
    with pytest.raises(Permanent, match="1 image to search with, and only volumes"):
        pacsight(*asked, "--atlas", out)
    one = read_embeddings(heads.embeddings).vectors[:1]
    assert opened(out).nearest([one], Exam(modality="CT"), 5) is None


@pytest.mark.parametrize(
    ("sizes", "kinds", "wanted", "said"),
    [
        ((3, 1), "iv", None, "1 volume with volumes"),
        ((3, 2), "v", None, "2 volumes with volumes"),
        ((3, 1), "i", None, "4 images with images"),
        ((1, 1), "iv", None, "2 images with images"),
        ((3, 1), "iv", CaseKind.IMAGE, "4 images with images"),
        ((1, 1), "iv", CaseKind.VOLUME, "2 images with volumes"),
        ((2,), "", None, "2 images with images"),
    ],
)
def test_what_is_compared_with_what(
    sizes: tuple[int, ...], kinds: str, wanted: CaseKind | None, said: str
) -> None:
    """Whole volumes where both sides have some, unless something else is wanted."""
    runs: list[Rows] = [np.ones((size, 4), np.float32) for size in sizes]
    there = {CaseKind.IMAGE if kind == "i" else CaseKind.VOLUME for kind in kinds}
    assert str(compare(runs, there, wanted=wanted)) == said
