"""What a crash left in the spool is looked for while the node already receives."""

import os
from pathlib import Path

from pydicom import Dataset, dcmwrite

from dicom_node.admission import Admission
from dicom_node.domain import FrontDoor, Origin
from dicom_node.intake import examine
from tests.integration.conftest import free_port
from tests.running import lone_node
from tests.sites import chest


def test_senders_do_not_wait_for_the_search(tmp_path: Path) -> None:
    """A file holds the search up: both doors answer, and what is sent is recorded.

    Once it is gone, the search goes on and finds what nobody had recorded.
    """
    node = lone_node(tmp_path, free_port(), free_port())
    spool = tmp_path / "data" / "spool"
    stuck = spool / "00" / f"{'00' * 32}.dcm"
    stuck.parent.mkdir(parents=True)
    os.mkfifo(stuck)
    left, sent = chest(1), chest(2)
    leave(spool, left)
    try:
        node.start()
        node.send([sent])
        node.until(lambda: node.study(sent.StudyInstanceUID), "what was sent")
        assert node.study(left.StudyInstanceUID) is None

        writer = os.open(stuck, os.O_WRONLY | os.O_NONBLOCK)
        stuck.unlink()
        os.close(writer)
        node.until(lambda: node.study(left.StudyInstanceUID), "what was left")
    finally:
        stuck.unlink(missing_ok=True)
        node.stop()


def leave(spool: Path, instance: Dataset) -> None:
    """Put a file where a crash leaves one, between its name and its row."""
    file = spool / "left.dcm"
    dcmwrite(file, instance, enforce_file_format=True)
    origin = Origin(door=FrontDoor.FILE)
    digest = examine(file, Admission(), origin=origin).sha256
    place = spool / digest[:2] / f"{digest}.dcm"
    place.parent.mkdir(exist_ok=True)
    file.rename(place)
