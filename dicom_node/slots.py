"""How many may be at work at once, with places that only the urgent get. No I/O."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Slots(Generic[Key]):
    """Places that are taken and left again, from any thread.

    Parameters
    ----------
    most
        Places for anybody.
    reserve
        Further ones for whoever is urgent.
    gone
        Tells of one who has a place that it will not leave it any more by itself.
    """

    def __init__(
        self,
        most: int,
        reserve: int = 0,
        *,
        gone: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        self._most = most
        self._reserve = reserve
        self._gone = gone
        self._taken: set[Key] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self._taken)

    def enter(self, key: Key, *, urgent: bool = False) -> bool:
        """Take a place; return False if there is none left for it."""
        places = self._most + (self._reserve if urgent else 0)
        with self._lock:
            if len(self._taken) >= places:
                self._taken = {one for one in self._taken if not self._gone(one)}
            if len(self._taken) >= places:
                return False
            self._taken.add(key)
            return True

    def leave(self, key: Key) -> None:
        """Give the place back, if there is one."""
        with self._lock:
            self._taken.discard(key)
