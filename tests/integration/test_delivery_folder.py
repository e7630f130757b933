"""A folder as destination."""

from pathlib import Path

from dicom_node.deliver import destination
from dicom_node.domain import ObjectKind
from dicom_node.outgoing import SLOWLY_S, Verdict
from dicom_node.peers import Caller, Peer, Right, Via
from tests.peers import outgoing


def folder_peer(folder: Path) -> Peer:
    """Return a folder as an entry of the table of peers."""
    return Peer(
        name="out",
        via=Via.FOLDER,
        folder=folder,
        rights=frozenset({Right.DESTINATION}),
    )


def test_writes_each_object_under_its_study(tmp_path: Path) -> None:
    """The folder, made where it is missing, holds the outbox's bytes and no more."""
    out = tmp_path / "new" / "out"
    report = outgoing(tmp_path, 1)
    capture = outgoing(tmp_path, 2, kind=ObjectKind.CAPTURE)
    outcomes = destination(folder_peer(out), Caller()).deliver([report, capture])
    assert [o.verdict for o in outcomes] == [Verdict.DELIVERED, Verdict.DELIVERED]
    study = out / report.study_uid
    written = {
        str(path.relative_to(study)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }
    assert written == {
        f"SR-{report.sop_instance_uid}.dcm": report.path.read_bytes(),
        f"SC-{capture.sop_instance_uid}.dcm": capture.path.read_bytes(),
    }


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """A second delivery of an object leaves one file with the same bytes."""
    out = tmp_path / "out"
    parcel = outgoing(tmp_path)
    to = destination(folder_peer(out), Caller())
    for _ in range(2):
        assert [o.verdict for o in to.deliver([parcel])] == [Verdict.DELIVERED]
    (file,) = (path for path in out.rglob("*") if path.is_file())
    assert file.read_bytes() == parcel.path.read_bytes()


def test_a_folder_that_cannot_be_written_is_tried_slowly(tmp_path: Path) -> None:
    """Somebody has to mend the folder: the detail says what is wrong with it."""
    out = tmp_path / "out"
    out.write_text("a file stands in the way")
    (outcome,) = destination(folder_peer(out), Caller()).deliver([outgoing(tmp_path)])
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert outcome.detail.startswith("the folder cannot be written: ")


def test_a_damaged_file_is_never_written(tmp_path: Path) -> None:
    """Bytes whose digest is another one do not go out."""
    out = tmp_path / "out"
    parcel = outgoing(tmp_path)
    parcel.path.write_bytes(b"something else")
    (outcome,) = destination(folder_peer(out), Caller()).deliver([parcel])
    assert outcome.verdict is Verdict.DEAD
    assert not out.exists()
