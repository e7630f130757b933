"""A worker that is deaf to its queue, seen from what waits there."""

import pytest

from workers.watch import PATIENCE_S, DeafError, Watch


class Queue:
    """A queue, a clock, and how often the worker was told to end."""

    def __init__(self) -> None:
        self.waits = False
        self.now = 0.0
        self.ended = 0
        self.watch = Watch(lambda: self.waits, end=self._end, clock=lambda: self.now)

    def _end(self) -> None:
        self.ended += 1

    def pass_s(self, seconds: float) -> None:
        """Look every second for so long."""
        for _ in range(round(seconds)):
            self.now += 1
            self.watch.look()


def test_what_waits_for_an_idle_worker_shows_that_it_is_deaf() -> None:
    """It is told to end once, after a while."""
    queue = Queue()
    queue.pass_s(100)
    queue.waits = True
    queue.pass_s(PATIENCE_S)
    assert queue.ended == 0
    queue.pass_s(PATIENCE_S)
    assert queue.ended == 1


def test_a_worker_that_is_busy_is_not_deaf() -> None:
    """However long it takes; afterwards it has its time again."""
    queue = Queue()
    queue.waits = True
    queue.pass_s(PATIENCE_S - 2)
    with queue.watch.task():
        queue.pass_s(20 * PATIENCE_S)
    queue.pass_s(PATIENCE_S)
    assert queue.ended == 0


def test_a_queue_that_empties_now_and_then_is_read() -> None:
    """By somebody."""
    queue = Queue()
    for _ in range(10):
        queue.waits = True
        queue.pass_s(PATIENCE_S - 2)
        queue.waits = False
        queue.pass_s(1)
    assert queue.ended == 0


def test_the_end_says_why() -> None:
    """So that whoever keeps it alive starts it again: exit status 75."""
    queue = Queue()
    queue.waits = True
    queue.pass_s(2 * PATIENCE_S + 1)
    with pytest.raises(DeafError, match="did not take"), queue.watch.running():
        pass


def test_otherwise_it_ends_without_a_word() -> None:
    """As a worker that was told to."""
    queue = Queue()
    with queue.watch.running():
        queue.pass_s(3)
    assert queue.ended == 0
