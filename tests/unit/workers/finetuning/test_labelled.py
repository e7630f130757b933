"""Labels become pairs by a pack's prompts: what is not said pairs with nothing."""

from pathlib import Path

import pytest

from dicom_node.errors import Permanent
from workers.finetuning.labelled import pairs_of
from workers.pack import Pack
from workers.phantoms import datasets, phantom

HEADER = "patient,study,sop_instance_uid,finding,label,role\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three chests."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(3):
        (dataset,) = datasets(phantom("effusion", seed), size=32)
        dataset.save_as(images / f"{seed}.dcm", enforce_file_format=True)
    return images


def table(folder: Path, *rows: tuple[int, str, str, str]) -> Path:
    """Return a table of labels: number of the chest, finding, label, role."""
    path = folder.parent / "labels.csv"
    uids = [
        datasets(phantom("effusion", n), size=32)[0].SOPInstanceUID for n in range(3)
    ]
    lines = [
        f"p{n},s{n},{uids[n]},{finding},{label},{role}\n"
        for n, finding, label, role in rows
    ]
    path.write_text(HEADER + "".join(lines))
    return path


def test_labels_become_what_the_prompts_say(folder: Path, pack: Pack) -> None:
    """Present and absent take their prompts, uncertain takes none, test stays unseen."""
    path = table(
        folder,
        (0, "effusion", "1", "train"),
        (1, "effusion", "0", "tune"),
        (2, "effusion", "1", "test"),
        (0, "unknown-finding", "1", "train"),
    )

    pairs = pairs_of(path, pack, folder).pairs

    assert [(p.file, p.text, p.label, p.role) for p in pairs] == [
        ("0.dcm", "x-ray chest pleural effusion.", "effusion=1", "train"),
        ("1.dcm", "x-ray chest no pleural effusion.", "effusion=0", "tune"),
    ]


def test_labels_of_nothing_that_is_asked_are_refused(folder: Path, pack: Pack) -> None:
    """A finding without prompts cannot be said in words."""
    path = table(folder, (0, "pneumothorax", "1", "train"))

    with pytest.raises(Permanent, match="has prompts for effusion"):
        pairs_of(path, pack, folder)


def test_an_image_that_is_not_there_is_named(folder: Path, pack: Pack) -> None:
    """Labels of an image that lies nowhere are a fault, not a gap."""
    path = table(folder, (0, "effusion", "1", "train"), (1, "effusion", "0", "train"))
    (folder / "1.dcm").unlink()

    with pytest.raises(Permanent, match=r"there is no image 2\.25"):
        pairs_of(path, pack, folder)
