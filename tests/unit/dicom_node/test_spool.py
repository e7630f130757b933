"""The spool: the same bytes in the same place, whose they are, room for more."""

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node import spool as spool_module
from dicom_node.domain import FrontDoor, Origin, Sha256
from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.spool import RESUME, URGENT, Capacity, Room, Spool
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


def test_nodes_share_a_spool(at_home: House) -> None:
    """What another node is just receiving stays; what a dead one left is dropped."""
    root = at_home.spool.incoming().parents[1]
    receiving = at_home.put(b"half an inst")
    Spool(root).open()
    assert at_home.incoming == [receiving]
    at_home.spool.close()  # as the kernel does where the node dies
    later = Spool(root)
    later.open()
    assert not receiving.exists()
    assert list(later.incoming().iterdir()) == []


def test_what_a_former_version_left_is_dropped(at_home: House) -> None:
    """It received into the folder that nodes now have theirs in."""
    left = at_home.spool.incoming().parent / "tmp1.dcm"
    left.write_bytes(b"half an inst")
    at_home.spool.open()
    assert not left.exists()


def test_room(tmp_path: Path) -> None:
    """Where there is enough nothing is said; too little is refused, for now."""
    house(tmp_path).spool.room()
    for least in (Capacity(min_free_bytes=1 << 60), Capacity(min_free_inodes=1 << 60)):
        spool = Spool(tmp_path / "spool", least)
        with pytest.raises(Rejected) as caught:
            spool.room()
        assert caught.value.status == OUT_OF_RESOURCES


def limits(**changes: int) -> Capacity:
    """Return limits: 1000 bytes and 100 inodes are left free, the spool has 10,000."""
    values = {"min_free_bytes": 1000, "min_free_inodes": 100, "max_bytes": 10_000}
    return Capacity(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("room", "routine", "again", "urgent"),
    [
        ((1101, 111, 9449), True, True, True),
        ((1000, 100, 9500), True, False, True),
        ((999, 100, 0), False, False, True),
        ((1000, 99, 0), False, False, True),
        ((1000, 100, 9501), False, False, True),
        ((500, 50, 9750), False, False, True),
        ((499, 100, 0), False, False, False),
        ((1000, 100, 9751), False, False, False),
    ],
)
def test_what_is_urgent_has_a_reserve_and_what_is_short_a_margin(
    room: tuple[int, int, int],
    *,
    routine: bool,
    again: bool,
    urgent: bool,
) -> None:
    """Refused at the limit, taken in again a tenth above it; half of it is for STAT."""
    free_bytes, free_inodes, used = room
    found = Room(free_bytes=free_bytes, free_inodes=free_inodes, used_bytes=used)
    said = [not limits().lacking(found, part) for part in (1.0, RESUME, URGENT)]
    assert said == [routine, again, urgent]


def test_a_spool_with_a_size_of_its_own(tmp_path: Path) -> None:
    """It counts what it has, refuses above its size, and takes in again after a purge."""
    spool = Spool(tmp_path, Capacity(max_bytes=1000))
    spool.open()
    spool.room()
    for number in range(10):
        handle, path = spool.new_file()
        os.write(handle, bytes([number]) * 96)
        os.close(handle)
        spool.keep(path, Sha256(hashlib.sha256(bytes([number])).hexdigest()))
    with pytest.raises(Rejected, match="the spool is full"):
        spool.room()
    spool.room(urgent=True)
    for name in list(spool.files())[:2]:
        assert spool.remove(name, before=datetime.now(UTC) + timedelta(seconds=1))
    spool.room()


def test_a_full_spool_sees_what_another_process_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pacsight purge`` makes room beside a running node, which soon counts anew."""
    monkeypatch.setattr(spool_module, "RECOUNT_FULL_S", 0.0)
    monkeypatch.setattr(spool_module, "COUNTING", 1e9)
    spool = Spool(tmp_path, Capacity(max_bytes=1000))
    spool.open()
    spool.room()
    handle, path = spool.new_file()
    os.write(handle, bytes(1001))
    os.close(handle)
    name = spool.keep(path, Sha256(hashlib.sha256(b"large").hexdigest()))
    with pytest.raises(Rejected, match="the spool is full"):
        spool.room(urgent=True)
    spool.path(name).unlink()
    spool.room(urgent=True)
    spool.room()


def test_too_much_comes_in_at_once(tmp_path: Path) -> None:
    """Whoever wants to begin is refused; nobody who has begun is."""
    spool = Spool(tmp_path, Capacity(max_incoming_bytes=1000))
    spool.open()
    spool.more()
    handle, path = spool.new_file()
    os.write(handle, bytes(1000))
    os.close(handle)
    with pytest.raises(Rejected, match="too much is coming in at once"):
        spool.more()
    spool.room()
    path.unlink()
    spool.more()


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
