"""A thread that runs ahead: in order, not too far, and gone when it is not needed."""

import threading
import time
from collections.abc import Iterator

import pytest

from workers.ahead import Ahead


def test_items_come_in_order() -> None:
    """More of them than may wait."""
    with Ahead(range(100), depth=3) as items:
        assert list(items) == list(range(100))


def test_it_runs_ahead_but_not_far() -> None:
    """Two items wait, and one is in hand."""
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with Ahead(source(), depth=2) as items:
        first = next(iter(items))
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert (first, made) == (0, [0, 1, 2, 3])


def test_an_error_comes_where_its_item_would_have_come() -> None:
    """What was made before it is not lost."""

    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with Ahead(source(), depth=5) as items:
        found = iter(items)
        assert next(found) == 1
        with pytest.raises(ValueError, match="broken"):
            next(found)


def test_closing_it_ends_the_thread() -> None:
    """Also where nobody took what it made, and where it is one of several."""
    before = threading.active_count()
    with Ahead(range(10**9), depth=1) as inner, Ahead(inner, depth=1) as outer:
        assert next(iter(outer)) == 0
    assert threading.active_count() == before
