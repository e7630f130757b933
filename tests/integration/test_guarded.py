"""Associations that mean harm end by an abort, at once, and leave nothing behind."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from dicom_node.guarded import LONGEST_COMMAND, LONGEST_PDU
from dicom_node.hearing import Listener
from dicom_node.scp import StorageScp
from tests.fuzz.doors import association_pdus, types_of
from tests.receiving import House, house, running

ABORT = 7


@pytest.fixture
def home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


@pytest.fixture
def scp(home: House) -> Iterator[StorageScp]:
    """Return a running SCP that waits long for everything."""
    listener = Listener(acse_timeout_s=30, network_timeout_s=60)
    with running(StorageScp(listener, home.intake)) as server:
        yield server


def said(scp: StorageScp, *pdus: bytes, accepted: bool = True) -> list[int]:
    """Return the types of the PDUs that answer these, until the connection ends."""
    heard = b""
    with socket.create_connection(("127.0.0.1", scp.port), timeout=20) as connection:
        if accepted:
            connection.sendall(association_pdus()[0])
            heard = connection.recv(65536)
        try:
            for pdu in pdus:
                connection.sendall(pdu)
            while piece := connection.recv(65536):
                heard += piece
        except ConnectionError:
            pass
    return types_of(heard)


def fragment(content: bytes, control: int, *, context: int = 3) -> bytes:
    """Return a P-DATA-TF with one fragment."""
    value = bytes([context, control]) + content
    item = pack(">L", len(value)) + value
    return pack(">BBL", 4, 0, len(item)) + item


@pytest.mark.parametrize("accepted", [True, False])
def test_a_pdu_that_claims_four_gigabytes(scp: StorageScp, *, accepted: bool) -> None:
    """It is not waited for, nor read."""
    kind = 4 if accepted else 1
    claims = pack(">BBL", kind, 0, 0xFFFFFFF0)
    assert said(scp, claims, accepted=accepted)[-1:] == [ABORT]
    assert said(scp, pack(">BBL", kind, 0, LONGEST_PDU + 1), accepted=accepted)


def test_a_command_without_end(scp: StorageScp) -> None:
    """Fragments of which none is the last are gathered so far and no farther."""
    part = fragment(bytes(16_000), control=1)
    parts = [part] * (LONGEST_COMMAND // 16_000 + 2)
    assert said(scp, *parts) == [2, ABORT]


@pytest.mark.parametrize("content", [b"", b"\0" * 40])
def test_fragments_that_are_none(scp: StorageScp, content: bytes) -> None:
    """An empty value, or a command that cannot be read, ends the association."""
    item = pack(">L", 1) + b"\3" if not content else b""
    pdu = pack(">BBL", 4, 0, len(item)) + item if item else fragment(content, 3)
    assert said(scp, pdu)[-1:] == [ABORT]


def test_a_connection_that_is_closed_gives_its_place_back(scp: StorageScp) -> None:
    """At once, not when the patience for an association request has run out."""
    idle = threading.active_count()
    for _ in range(20):
        socket.create_connection(("127.0.0.1", scp.port)).close()
    deadline = time.monotonic() + 15
    while threading.active_count() > idle and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= idle


def test_a_data_set_nobody_asked_for_leaves_no_file(
    home: House, scp: StorageScp
) -> None:
    """A C-STORE in a context that was never proposed is dropped with its association."""
    _, _, store_command, store_data, *_ = association_pdus()
    moved = [bytearray(store_command), bytearray(store_data)]
    for pdu in moved:
        pdu[10] = 77
    said(scp, *(bytes(pdu) for pdu in moved), association_pdus()[-1])
    deadline = time.monotonic() + 15
    while home.incoming and time.monotonic() < deadline:
        time.sleep(0.05)
    assert home.incoming == []
    assert home.books.received == []
