"""A ready pack at work: a file in, a report out, as ``pacsight analyze`` does it.

The weights are small and know nothing; what is asserted holds whatever they say.
"""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from rich.console import Console

from dicom_node.config import load_settings
from dicom_node.lifecycle import State
from tests.judges import ask, complaints
from tests.releases import publish
from workers.analyze import analyze_files
from workers.importing import import_pack
from workers.phantoms import datasets, phantom

pytestmark = pytest.mark.slow


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    """Return a folder with a radiograph."""
    folder = tmp_path / "in"
    folder.mkdir()
    (instance,) = datasets(phantom("chest_normal", 1))
    instance.save_as(folder / "1.dcm", enforce_file_format=True)
    return folder


def values(node: Dataset, name: str) -> list[str]:
    """Return the codes, numbers and texts of all items of one name."""
    found = []
    for item in node.get("ContentSequence", ()):
        if item.ConceptNameCodeSequence[0].CodeMeaning == name:
            if item.ValueType == "CODE":
                found.append(str(item.ConceptCodeSequence[0].CodeMeaning))
            elif item.ValueType == "NUM":
                found.append(str(item.MeasuredValueSequence[0].NumericValue))
            else:
                found.append(str(item.get("TextValue", "")))
        found += values(item, name)
    return found


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [
        ("chest-xray", "Flag", 14),
        ("exam-category", "Classifier score (uncalibrated)", 3),
        ("bone-age", "Bone age", 1),
    ],
)
def test_a_ready_pack_reports_on_a_radiograph(
    tmp_path: Path, chest: Path, kind: str, name: str, count: int
) -> None:
    """Fourteen findings; modality, part and view; no bone age of a chest."""
    (tmp_path / "downloads").mkdir()
    released = publish(tmp_path / "downloads")
    pack = import_pack(
        released.origin(),
        tmp_path / kind,
        kind=kind,
        release=released.release,
        progress=lambda *_: None,
        profile="float32",
    ).pack
    toml = (
        f'packs = ["{pack.folder}"]\n[worker]\ndecode_processes = 1\ndevice = "cpu"\n'
    )
    (tmp_path / "pacsight.toml").write_text(toml, "utf-8")
    settings = load_settings(tmp_path / "pacsight.toml", {})
    done = analyze_files(
        [chest], tmp_path / "out", settings=settings, console=Console(quiet=True)
    )
    assert [line.state for line in done.studies] == [State.DONE]
    written = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    (report,) = [one for one in written if one.Modality == "SR"]
    assert len(values(report, name)) == count
    path = tmp_path / "report.dcm"
    report.save_as(path)
    assert complaints(ask("dciodvfy", "-new", path)) == []
    if kind == "bone-age":
        assert values(report, "Bone age") == ["Not evaluated"]
        obstacles = set(values(report, "Obstacle to evaluation"))
        assert obstacles == {"Input outside validated range"}
        assert "needs CR or DX of HAND" in values(report, "Reason")[0]
