"""`pacsight embed`: files in, embeddings out, whatever stops it on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import BasicTextSRStorage
from rich.console import Console
from safetensors import safe_open

from dicom_node.config import Settings
from dicom_node.config.tables import Worker
from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from tests.images import PIXELS, image, save
from tests.packs import make_pack
from workers.decode import decode
from workers.embedding import Tally, embed_files
from workers.encoder import Encoder, open_encoder
from workers.geometry import NOWHERE
from workers.harvest import Embedded, Harvest
from workers.listing import ImageSource, images
from workers.pack import Pack
from workers.preprocess import channels, prepare

SETTINGS = Settings(worker=Worker(device="cpu", threads=1, decode_processes=1))
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def encoder(pack: Pack) -> Encoder:
    """Return the pack's encoder."""
    return open_encoder(pack, device="cpu", threads=1)


def a_file(folder: Path, number: int, **changes: Any) -> Path:
    """Write a CT slice: a higher number lies lower."""
    values: dict[str, Any] = {
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "SOPInstanceUID": f"1.2.3.1.{number}",
        "InstanceNumber": number,
        "ImagePositionPatient": [0, 0, -5 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    }
    folder.mkdir(exist_ok=True)
    pixels = changes.pop("pixels", PIXELS + 40 * number)
    return save(image(pixels, **values | changes), folder / f"{number:03}.dcm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a series of five slices."""
    for number in range(1, 6):
        a_file(tmp_path / "in", number)
    return tmp_path / "in"


def run(pack: Pack, *paths: Path, out: Path, method: str = "") -> Tally:
    """Embed files without showing anything."""
    return embed_files(
        paths, out, pack=pack, settings=SETTINGS, console=QUIET, method=method
    )


def content(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Return the tensors of a safetensors file, and what it says of them."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping


def rows(path: Path) -> dict[str, list[Any]]:
    """Return the columns of the rows of a safetensors file."""
    found: dict[str, list[Any]] = json.loads(content(path)[1]["rows"])
    return found


def test_each_frame_has_its_embedding_in_order_of_place(
    pack: Pack, encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    """The vectors that the pipeline makes, from below, with the UIDs beside them."""
    tally = run(pack, folder, out=tmp_path / "out.safetensors")
    tensors, about = content(tmp_path / "out.safetensors")
    columns = rows(tmp_path / "out.safetensors")
    assert (tally.frames, tally.volumes, tally.broken) == (5, 1, False)
    assert columns["sop_instance"] == [f"1.2.3.1.{n}" for n in (5, 4, 3, 2, 1)]
    assert columns["along"] == [-25, -20, -15, -10, -5]
    assert set(columns["series"] + columns["study"]) == {"1.2.3.1", "1.2.3"}
    assert columns["frame"] == columns["volume"] == [0] * 5
    expected = [
        channels(prepare(decode(path), pack.preprocessing))
        for path in sorted(folder.iterdir(), reverse=True)
    ]
    np.testing.assert_allclose(
        tensors["embeddings"], encoder.embed_images(np.stack(expected)), atol=1e-5
    )
    assert about["pack"] == pack.name
    assert about["encoder"] == pack.encoder_key.encoder
    assert about["preprocessing"] == pack.encoder_key.preprocessing
    assert about["profile"] == "float32"
    assert json.loads(about["unreadable"]) == []
    assert json.loads(about["volumes"])["spacing_mm"] == [5]


def test_nothing_is_left_beside_the_file(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """No folder of parts, no file that is half written."""
    run(pack, folder, out=tmp_path / "out.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.safetensors"]


@pytest.mark.parametrize("method", ["median", "mean", "unit-mean"])
def test_volumes_have_embeddings_too(
    pack: Pack, folder: Path, tmp_path: Path, method: str
) -> None:
    """One for each echo."""
    for number in range(1, 4):
        place = [0, 0, -5 * number]
        a_file(folder, 10 + number, ImagePositionPatient=place, EchoNumbers=2)
    out = tmp_path / "out.safetensors"
    assert run(pack, folder, out=out, method=method).volumes == 2
    tensors, about = content(out)
    assert about["volume_embedding"] == method
    assert json.loads(about["volumes"])["apart"] == ["no echo", "echo 2"]
    assert json.loads(about["volumes"])["slices"] == [5, 3]
    slices = tensors["embeddings"][:5].astype(np.float64)
    expected = np.median(slices, axis=0) if method == "median" else slices.mean(axis=0)
    if method == "unit-mean":
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(tensors["volumes"][0], expected, atol=1e-6)


def test_what_is_no_image_or_twice_there_is_left_out_with_its_reason(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """Copies silently; other versions, reports and other files are named."""
    shutil.copy(folder / "001.dcm", folder / "copy.dcm")
    other = a_file(folder, 1, pixels=PIXELS)
    other.rename(folder / "other.dcm")
    shutil.copy(folder / "copy.dcm", folder / "001.dcm")
    (folder / "notes.txt").write_text("notes")
    report = image(
        SOPClassUID=BasicTextSRStorage,
        SOPInstanceUID="1.9",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.9",
    )
    save(report, folder / "report.dcm")
    tally = run(pack, folder, out=tmp_path / "out.safetensors")
    assert tally.frames == 5
    assert {one.path.name: one.reason for one in tally.left_out} == {
        "notes.txt": "not a DICOM file: no DICM prefix",
        "other.dcm": f"another version of the instance in {folder / '001.dcm'}",
        "report.dcm": "a structured report",
    }
    assert not tally.broken


def test_what_cannot_be_read_is_named_and_costs_itself(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """In the summary and in the file; a truncated file counts as one."""
    dark = image(PIXELS, SOPInstanceUID="1.2.3.1.9", PhotometricInterpretation="ARGB")
    dark.StudyInstanceUID, dark.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    save(dark, folder / "dark.dcm")
    short = folder / "005.dcm"
    short.write_bytes(short.read_bytes()[:-100])
    tally = run(pack, folder, out=tmp_path / "out.safetensors")
    reason = "photometric interpretation 'ARGB' is not supported"
    assert [one.reason for one in tally.unread] == [reason]
    assert [one.path.name for one in tally.left_out] == ["005.dcm"]
    assert tally.broken
    assert len(list(tally.complaints())) == 2
    _, about = content(tmp_path / "out.safetensors")
    assert json.loads(about["unreadable"]) == [
        {"sop_instance": "1.2.3.1.9", "frame": 0, "reason": reason}
    ]
    assert tally.frames == 4


def test_where_nothing_can_be_embedded_nothing_is_written(
    pack: Pack, tmp_path: Path
) -> None:
    """An error with the first reason, no file and no folder."""
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(Permanent, match=r"none of the 1 files .* not a DICOM file"):
        run(pack, tmp_path, out=tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_other_kinds_of_file_are_refused_at_once(
    pack: Pack, folder: Path, name: str
) -> None:
    """Before anything is computed."""
    with pytest.raises(Permanent, match=r"has to end in \.safetensors or \.parquet"):
        run(pack, folder, out=folder.parent / name)


def test_parquet(pack: Pack, folder: Path, tmp_path: Path) -> None:
    """A row for each frame, then one for each volume; without pyarrow, a sentence."""
    out = tmp_path / "out.parquet"
    if find_spec("pyarrow") is None:
        with pytest.raises(Permanent, match="needs pyarrow"):
            run(pack, folder, out=out, method="mean")
        return
    from pyarrow import parquet  # noqa: PLC0415 - optional

    run(pack, folder, out=out, method="mean")
    run(pack, folder, out=tmp_path / "out.safetensors", method="mean")
    tensors, about = content(tmp_path / "out.safetensors")
    table = parquet.read_table(out)
    assert table.column("sop_instance").to_pylist() == [
        *json.loads(about["rows"])["sop_instance"],
        None,
    ]
    np.testing.assert_allclose(
        np.array(table.column("embedding").to_pylist()),
        np.concatenate([tensors["embeddings"], tensors["volumes"]]),
        atol=1e-6,
    )
    assert table.schema.metadata[b"pack"].decode() == pack.name


@pytest.mark.slow
def test_the_command_says_what_is_missing_and_how_volumes_were_made(
    folder: Path, tmp_path: Path
) -> None:
    """Exit code 1 where an image is missing; ``pack`` is what the pack says."""
    pack = make_pack(tmp_path / "pack", volume={"embedding": "median"})
    short = folder / "005.dcm"
    short.write_bytes(short.read_bytes()[:-100])
    out = tmp_path / "out.safetensors"
    words = [sys.executable, "-m", "workers", "embed", str(folder), "--out", str(out)]
    words += ["--pack", str(pack.folder), "--volumes", "pack"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{out}: 4 frames, 1 volume; ")
    assert "005.dcm was left out: " in done.stderr
    assert "4/4" in done.stderr
    assert content(out)[1]["volume_embedding"] == "median"


# ── going on ────────────────────────────────────────────────────────────────


def harvested(
    pack: Pack, files: Sequence[Path], value: float = 0.5
) -> tuple[Embedded, ...]:
    """Return made-up embeddings of files."""
    vector = np.full(pack.manifest.encoder.embedding_dim, value, dtype=np.float32)
    found = []
    for source in images(files, {}):
        assert isinstance(source, ImageSource)
        found.append(Embedded(source=source, frame=0, geometry=NOWHERE, vector=vector))
    return tuple(found)


def test_a_run_goes_on_where_another_was_stopped(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """What is kept is not embedded again; what another encoder made is."""
    out, part = tmp_path / "out.safetensors", tmp_path / "out.safetensors.part"
    first = harvested(pack, [folder / "001.dcm", folder / "002.dcm"])
    with Harvest(folder=part, encoder=pack.encoder_key.digest) as harvest:
        harvest.add(first)
    foreign = harvested(pack, [folder / "003.dcm"], 9.0)
    with Harvest(folder=part, encoder=Sha256("f" * 64)) as other:
        assert other.done == {}
        other.add(foreign)
    tally = run(pack, folder, out=out)
    assert (tally.frames, tally.taken_over) == (5, 2)
    vectors = dict(
        zip(rows(out)["sop_instance"], content(out)[0]["embeddings"], strict=True)
    )
    made_up = {uid for uid, v in vectors.items() if v[0] in (0.5, 9.0)}
    assert made_up == {"1.2.3.1.1", "1.2.3.1.2"}
    assert not part.exists()


def test_a_file_that_changed_is_embedded_again(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """The same instance with other bytes is not taken over."""
    part = tmp_path / "out.safetensors.part"
    with Harvest(folder=part, encoder=pack.encoder_key.digest) as harvest:
        harvest.add(harvested(pack, [folder / "001.dcm"]))
    a_file(folder, 1, pixels=PIXELS + 7)
    assert run(pack, folder, out=tmp_path / "out.safetensors").taken_over == 0


def test_a_torn_chunk_counts_as_not_there(
    pack: Pack, folder: Path, tmp_path: Path
) -> None:
    """The rest of the folder is used."""
    part = tmp_path / "out.safetensors.part"
    with Harvest(folder=part, encoder=pack.encoder_key.digest) as harvest:
        harvest.add(harvested(pack, [folder / "001.dcm"]))
        harvest.keep()
        harvest.add(harvested(pack, [folder / "002.dcm"]))
    torn = part / "000002.safetensors"
    torn.write_bytes(torn.read_bytes()[:50])
    assert run(pack, folder, out=tmp_path / "out.safetensors").taken_over == 1


def test_two_runs_do_not_share_a_folder(pack: Pack, tmp_path: Path) -> None:
    """The second says why it does not start."""
    part, key = tmp_path / "part", pack.encoder_key.digest
    with (
        Harvest(folder=part, encoder=key),
        pytest.raises(Permanent, match="another run"),
        Harvest(folder=part, encoder=key),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_its_work_and_no_process(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Ctrl-C or a kill: the next run goes on, and the file is whole."""
    pack = make_pack(tmp_path / "pack")
    frames = np.stack([PIXELS + n for n in range(1600)])
    many = a_file(
        tmp_path / "in",
        1,
        pixels=frames,
        NumberOfFrames=len(frames),
        ImagePositionPatient=None,
    )
    out = tmp_path / "out.safetensors"
    part = tmp_path / "out.safetensors.part"
    words = [sys.executable, "-m", "workers", "embed", str(many), "--json"]
    words += ["--pack", str(pack.folder), "--out", str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    decoders = wait_for_work(process, part)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert not out.exists()
    assert all(gone(pid) for pid in decoders)
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "out.safetensors.part holds what is done" in said
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    summary = json.loads(again.stdout)
    assert summary["frames"] == len(frames)
    assert 0 < summary["taken_over"] < len(frames)
    assert rows(out)["frame"] == list(range(len(frames)))


def wait_for_work(process: subprocess.Popen[str], part: Path) -> list[int]:
    """Wait until something is kept; return the decode processes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        if any(part.glob("*.safetensors")):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            return [int(pid) for pid in children.read_text().split()]
        time.sleep(0.01)
    raise AssertionError("it never began")


def gone(pid: int, *, within_s: float = 10) -> bool:
    """Return whether a process is no more, or will soon be."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
