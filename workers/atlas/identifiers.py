"""Names that say nothing: random identifiers of cases, random numbers of patients.

Both come from the system's source of randomness, not from anything about the case:
the same cases in another build have other names.
"""

from secrets import SystemRandom

PREFIX = "ATL-"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U."""

_LENGTH = 6
_random = SystemRandom()


def draw_identifiers(count: int) -> list[str]:
    """Return distinct identifiers, e.g. ``ATL-7QK2M9``."""
    numbers = _random.sample(range(len(ALPHABET) ** _LENGTH), count)
    return [PREFIX + _letters(number) for number in numbers]


def draw_groups(count: int) -> list[int]:
    """Return distinct numbers of patients, in 31 bits."""
    return _random.sample(range(2**31), count)


def shuffled(count: int) -> list[int]:
    """Return 0 to `count` in an order that says nothing."""
    return _random.sample(range(count), count)


def _letters(number: int) -> str:
    return "".join(
        ALPHABET[number >> (5 * place) & 31] for place in reversed(range(_LENGTH))
    )
