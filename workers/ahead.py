"""An iterator that a thread runs ahead of whoever uses it, by a few items.

So that what waits for a disk or for other processes goes on while the model computes.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

_POLL_S = 0.05


class Ahead(Generic[Item]):
    """Yields the items of `source`; at most `depth` of them wait.

    An error of the source is raised at the place where its item would have come.
    Closing it stops the thread after the item that it is at.
    """

    def __init__(self, source: Iterable[Item], *, depth: int) -> None:
        self._waiting: Queue[Item | BaseException | None] = Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="ahead", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._waiting.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Stop; returns when the thread has ended. Safe to call twice."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._waiting.get(timeout=_POLL_S)
            except Empty:
                continue
        self._thread.join()

    def _run(self, source: Iterable[Item]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: Item | BaseException | None) -> bool:
        """Return whether there is still somebody who wants more."""
        while not self._stopped.is_set():
            try:
                self._waiting.put(item, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False
