"""Images on their way from files to reports: what is unreadable, what is not used."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from rich.console import Console

from dicom_node.config import Settings
from dicom_node.config.tables import Report
from dicom_node.lifecycle import State
from tests.images import as_jpeg2000
from tests.packs import POLICY, make_pack
from workers.analyze import analyze_files
from workers.phantoms import phantom
from workers.phantoms.study import datasets

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"


def report(instances: Sequence[Dataset], folder: Path, pack: str) -> Dataset:
    """Return the one report that a pack makes of a study's instances."""
    sent, out = folder / "sent", folder / "out"
    sent.mkdir()
    for number, instance in enumerate(instances):
        instance.save_as(sent / f"{number}.dcm", enforce_file_format=True)
    settings = Settings(data_dir=folder / "data", packs=(pack,))
    console = Console(quiet=True)
    analysed = analyze_files([sent], out, settings=settings, console=console)
    assert analysed.refused == ()
    written = [dcmread(path) for path in out.rglob("*") if path.is_file()]
    (found,) = (each for each in written if each.SOPClassUID == SR_CLASS)
    return found


def values(found: Dataset, keyword: str) -> list[Any]:
    """Return every value of an element, at whatever depth."""
    return [item.value for item in found.iterall() if item.keyword == keyword]


def test_a_study_with_an_unreadable_image_is_partial(tmp_path: Path) -> None:
    """The others are evaluated; the report is PARTIAL and says what could not be read."""
    instances = datasets(phantom("head_normal", 21), size=96, slices=5)
    damaged = as_jpeg2000(instances[2])
    content = bytearray(damaged.PixelData)
    start = content.index(b"\xff\x4f\xff\x51")
    content[start + 40 : -8] = bytes(len(content) - start - 48)
    damaged.PixelData = bytes(content)
    found = report(instances, tmp_path, "phantoms")
    assert found.CompletionFlag == "PARTIAL"
    (said,) = (text for text in values(found, "TextValue") if "JPEG 2000" in text)
    assert "cannot be decoded" in said


def test_frames_that_a_policy_leaves_out_are_not_missed(tmp_path: Path) -> None:
    """A clip under a policy of first frames: COMPLETE, resting on the first alone."""
    (still,) = datasets(phantom("chest_normal", 22), size=96)
    still.NumberOfFrames = 3
    still.PixelData = 3 * still.PixelData
    first = replace(POLICY, frames="first")
    pack = make_pack(tmp_path / "pack", preprocessing=asdict(first))
    found = report([still], tmp_path, str(pack.folder))
    assert found.CompletionFlag == "COMPLETE"
    assert set(values(found, "ReferencedFrameNumber")) <= {1}
    assert not any("could not" in text for text in values(found, "TextValue"))


def test_a_site_may_want_no_report_on_what_no_pack_was_made_for(tmp_path: Path) -> None:
    """A line in the ledger says why; every other study is reported on."""
    sent, out = tmp_path / "sent", tmp_path / "out"
    sent.mkdir()
    chest, head = phantom("chest_normal", 23), phantom("head_normal", 23)
    (hand,) = datasets(chest, size=96)
    hand.BodyPartExamined = "HAND"
    for number, one in enumerate([hand, *datasets(head, size=96, slices=3)]):
        one.save_as(sent / f"{number}.dcm", enforce_file_format=True)
    quiet = Report(outside_scope=False)
    settings = Settings(data_dir=tmp_path / "data", report=quiet)
    console = Console(quiet=True)
    analysed = analyze_files([sent], out, settings=settings, console=console)
    assert {line.state for line in analysed.studies} == {State.DONE}
    reported = {dcmread(path).StudyInstanceUID for path in out.rglob("*.dcm")}
    assert len(analysed.studies) == 2
    assert reported == {line.study_uid for line in analysed.studies} - {
        str(hand.StudyInstanceUID)
    }
