"""The short form of ``make fuzz``: some thousands of inputs, and that it finds a fault."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import TARGETS, Target, dice_of, run
from tests.fuzz.mutators import Dice, mutated
from tests.fuzz.targets import Reader

SEED = 11
CASES = 2000
OVER_SOCKETS = {"dimse-socket": 20, "http-socket": 30}
"""These wait for a connection to end in each case."""


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    """No reader raises what its door has no answer for, hangs or leaves anything behind."""
    cases = OVER_SOCKETS.get(name, max(CASES * TARGETS[name].share // 1000, 40))
    account = run(name, range(cases), seed=SEED, progress=lambda _: None)
    assert [(found.case, found.what) for found in account.findings] == []
    assert account.cases == cases


def test_a_case_is_the_same_everywhere() -> None:
    """Target, seed and number make the bytes; another number makes others."""
    seed = bytes(range(200))
    cases = [mutated(seed, dice_of("file", SEED, number)) for number in (1, 1, 2)]
    assert cases[0] == cases[1] != cases[2]


@contextmanager
def faulty(folder: Path) -> Iterator[Reader]:
    """Yield a reader that cannot bear one byte, and leaves something behind."""
    del folder

    def read(data: bytes) -> None:
        if data == b"\x07":
            raise KeyError("seven")

    def settle() -> None:
        raise AssertionError("left behind")

    def make(dice: Dice) -> bytes:
        return bytes([dice.randrange(8)])

    yield Reader(make=make, read=read, settle=settle)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its number, its bytes, and where it was raised."""
    monkeypatch.setattr(
        campaign, "TARGETS", {"faulty": Target(open=faulty, share=1000)}
    )
    account = run("faulty", range(100), seed=SEED, progress=lambda _: None)
    *cases, left = account.findings
    assert {found.data for found in cases} == {b"\x07"}
    assert cases[0].what.startswith("KeyError('seven') at test_fuzz.py:")
    assert (left.case, "left behind" in left.what) == (-1, True)
    assert not account.is_right
