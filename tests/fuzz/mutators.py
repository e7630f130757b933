"""Bytes that nobody would send: seeds, changed by dice. The same dice, the same bytes."""

from collections.abc import Callable, Sequence
from random import Random
from struct import pack

LONGEST = 1 << 18
"""Changed inputs stay below, so that a case's time is the door's and not the dice's."""
EDGES = (0, 1, 2, 7, 63, 64, 127, 128, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE)
"""Numbers at which lengths go wrong; 0xFFFFFFFF comes from the packing."""
CHARACTERS = (b"\0", b"\r\n", b"\n", b"\\", b"^", b"=", b"\x1b", b'"', b"../", b"\xff")

Dice = Random
Change = Callable[[bytearray, Dice], None]


def mutated(
    seed: bytes,
    dice: Dice,
    *,
    words: Sequence[bytes] = (),
    others: Sequence[bytes] = (),
) -> bytes:
    """Return the seed after one to six changes.

    Parameters
    ----------
    words
        What means something to the reader: put in here and there.
    others
        Seeds that pieces are taken from.
    """
    data = bytearray(seed)
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 6))):
        kind = dice.randrange(len(_CHANGES) + 2)
        if kind < len(_CHANGES):
            _CHANGES[kind](data, dice)
        elif kind == len(_CHANGES):
            _insert(data, dice, dice.choice(words or CHARACTERS))
        elif others:
            other = dice.choice(others)
            start, end = _slice(other, dice)
            _insert(data, dice, other[start:end])
        del data[LONGEST:]
    return bytes(data)


def _slice(data: bytes | bytearray, dice: Dice) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(start + dice.choice((1, 2, 4, 8, 64, 4096)), len(data))


def _insert(data: bytearray, dice: Dice, piece: bytes) -> None:
    at = dice.randrange(len(data) + 1)
    data[at:at] = piece


def _flip(data: bytearray, dice: Dice) -> None:
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _set(data: bytearray, dice: Dice) -> None:
    if data:
        data[dice.randrange(len(data))] = dice.randrange(256)


def _edge(data: bytearray, dice: Dice) -> None:
    width = dice.choice("BHL")
    order = dice.choice("<>")
    most = {"B": 0xFF, "H": 0xFFFF, "L": 0xFFFFFFFF}[width]
    number = dice.choice((*EDGES, most)) & most
    packed = pack(order + width, number)
    at = dice.randrange(len(data) + 1)
    data[at : at + len(packed)] = packed


def _remove(data: bytearray, dice: Dice) -> None:
    start, end = _slice(data, dice)
    del data[start:end]


def _cut(data: bytearray, dice: Dice) -> None:
    del data[dice.randrange(len(data) + 1) :]


def _double(data: bytearray, dice: Dice) -> None:
    start, end = _slice(data, dice)
    _insert(data, dice, bytes(data[start:end]) * dice.choice((1, 1, 2, 16, 300)))


def _noise(data: bytearray, dice: Dice) -> None:
    _insert(data, dice, dice.randbytes(dice.choice((1, 4, 16, 128))))


def _swap(data: bytearray, dice: Dice) -> None:
    start, end = _slice(data, dice)
    piece = bytes(data[start:end])
    del data[start:end]
    _insert(data, dice, piece)


_CHANGES: tuple[Change, ...] = (
    _flip,
    _flip,
    _set,
    _edge,
    _edge,
    _edge,
    _remove,
    _cut,
    _double,
    _noise,
    _swap,
)
