"""The spool: the same bytes in the same place, whose they are, room for more."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.domain import FrontDoor, Origin, Sha256
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.spool import Spool
from tests.receiving import House, house, part10

ORIGIN = Origin(
    door=FrontDoor.DIMSE, calling_aet="CT_ER", called_aet="PACSIGHT", address="10.1.2.3"
)


@pytest.fixture
def at_home(tmp_path: Path) -> House:
    """Return an empty spool with all around it."""
    return house(tmp_path)


def digest(content: bytes) -> Sha256:
    """Return a digest to keep a file under."""
    return Sha256(hashlib.sha256(content).hexdigest())


def keep(home: House, content: bytes, origin: Origin = ORIGIN) -> str:
    """Return the path under which a file with this content is kept."""
    path = home.put(content)
    with home.spool.securing(path, origin):
        pass
    return home.spool.keep(path, digest(content))


def test_a_file_is_kept_as_it_came(at_home: House) -> None:
    """But for the preamble, every byte is as received, and nobody else may read it."""
    content = part10()
    sha256 = digest(content)
    path = keep(at_home, content)
    assert path == f"{sha256[:2]}/{sha256}.dcm"
    kept = at_home.spool.path(path)
    assert content[128:] == kept.read_bytes()[128:]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert at_home.incoming == []


def test_the_same_bytes_have_the_same_place(at_home: House) -> None:
    """Kept twice, there is one file: the last sender's."""
    content = part10()
    again = Origin(door=FrontDoor.STOW, address="10.9.9.9")
    first = keep(at_home, content)
    second = keep(at_home, content, again)
    assert first == second
    assert at_home.kept == [first]
    assert at_home.spool.origin(second) == again


aets = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=16)


@given(aets, aets, st.ip_addresses().map(str), st.sampled_from(FrontDoor))
def test_the_sender_stands_in_the_preamble(
    calling: str, called: str, address: str, door: FrontDoor
) -> None:
    """Titles and address survive in the file itself."""
    from dicom_node.spool import _origin, _preamble  # noqa: PLC0415 - pure halves

    origin = Origin(door=door, calling_aet=calling, called_aet=called, address=address)
    assert len(_preamble(origin)) == 128
    assert origin == _origin(_preamble(origin))


def test_a_file_of_somebody_else_has_no_sender(at_home: House) -> None:
    """Without our preamble a file came by itself."""
    target = at_home.spool.path("ab/x.dcm")
    target.write_bytes(part10())
    assert Origin(door=FrontDoor.FILE) == at_home.spool.origin("ab/x.dcm")


def test_what_was_not_received_to_its_end_is_dropped(at_home: House) -> None:
    """After a crash only complete files are left."""
    path = keep(at_home, part10())
    at_home.put(b"half an inst")
    at_home.spool.open()
    assert at_home.incoming == []
    assert at_home.kept == [path]


def test_room(tmp_path: Path) -> None:
    """What is free is told, and too little of it is refused as out of resources."""
    free = os.statvfs(tmp_path).f_bavail
    assert house(tmp_path).spool.room().free_bytes > 0
    for least in ({"min_free_bytes": 1 << 60}, {"min_free_inodes": 1 << 60}):
        spool = Spool(tmp_path / "spool", **least)
        with pytest.raises(Rejected) as caught:
            spool.room()
        assert caught.value.status == OUT_OF_RESOURCES
    assert free > 0


@pytest.mark.parametrize(
    "preamble",
    [
        b"pacsight",
        b"pacsightdimse\nCT",
        b"pacsightsmtp\nCT\nNODE\n10.0.0.1",
        b"pacsightdimse\nCT\nNODE\n10.0.0.1\nmore",
        b"pacsight\xff\xfe\n\n\n",
    ],
)
def test_a_preamble_that_somebody_else_wrote(tmp_path: Path, preamble: bytes) -> None:
    """It names no sender, and keeps no node from starting."""
    spool = Spool(tmp_path)
    spool.open()
    (tmp_path / "ab" / "x.dcm").write_bytes(preamble.ljust(128, b"\0"))
    assert spool.origin("ab/x.dcm") == Origin(door=FrontDoor.FILE)
