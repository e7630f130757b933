"""A former version's node was killed in its work; this version takes over what it left.

The folders were left by those versions' own programs: see ``tests/data/nodes/make.py``.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from tests.integration.conftest import free_port
from tests.running import Running
from tests.sites import another_of

FORMER = Path(__file__).parents[1] / "data" / "nodes"
SETTINGS = """
[study]
quiet_period_s = 1
minimum_revision_interval_s = 0
[worker]
device = "cpu"
[[peers]]
name = "archive"
via = "folder"
folder = "{folder}/archive"
rights = ["destination"]
"""


@pytest.fixture(params=sorted(path.name for path in FORMER.glob("*.tar.xz")))
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """Return a node, not yet started, on the folder of a former version's."""
    with tarfile.open(FORMER / request.param) as packed:
        packed.extractall(tmp_path, filter="data")
    node = Running(
        folder=tmp_path,
        dicom_port=free_port(),
        http_port=free_port(),
        settings=SETTINGS.format(folder=tmp_path),
    )
    yield node
    node.stop()


@pytest.mark.slow
def test_every_acknowledged_image_has_its_report(left: Running) -> None:
    """Delivered stays, waiting is sent as it was composed, the rest is concluded.

    And a late image's report supersedes the one that the former version delivered.
    """
    instances = {str(one.StudyInstanceUID): one for one in read(left, "data/spool")}
    was_composed = contents(left, "data/outbox")
    was_delivered = contents(left, "archive")
    assert (len(instances), len(was_composed), len(was_delivered)) == (4, 4, 2)
    (former,) = (one for one in read(left, "archive") if one.Modality == "SR")

    left.start()
    left.until_state(list(instances), "done")

    sent = contents(left, "archive")
    assert was_delivered < was_composed < sent
    assert len(sent) == 2 * len(instances)

    left.send([another_of(instances[former.StudyInstanceUID])])
    left.until(lambda: len(contents(left, "archive")) == len(sent) + 2, "a revision")
    assert [str(former.SOPInstanceUID)] == [
        instance.ReferencedSOPInstanceUID
        for report in read(left, "archive")
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def contents(node: Running, folder: str) -> set[bytes]:
    """Return the bytes of every object in a folder of the node."""
    return {path.read_bytes() for path in (node.folder / folder).glob("*/*.dcm")}


def read(node: Running, folder: str) -> Iterator[Dataset]:
    """Yield every object in a folder of the node."""
    return map(dcmread, (node.folder / folder).glob("*/*.dcm"))
