"""Ends a worker that no longer takes what waits for it, so that another one does.

Celery's loop can outlive its connection: where Redis ends while a message is being
acknowledged, the worker neither reads on nor connects again, and says nothing. What
waits on the queue while this worker has nothing to do shows it from outside. Whoever
keeps the worker alive starts it again; the ledger hands its work out again.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from dicom_node.errors import Transient

LOOK_S = 2.0
PATIENCE_S = 10.0
"""A worker in order takes a message within a fraction of it."""
GRACE_S = 20.0
"""How long an orderly end may take before it is ended at once."""
TEMPORARY = 75
"""EX_TEMPFAIL of sysexits.h: to be started again."""

log = structlog.get_logger(__name__)


class DeafError(Transient):
    """The worker did not take what waited for it; it has to be started again."""


class Watch:
    """Looks now and then whether messages wait although nothing is being done.

    Parameters
    ----------
    waits
        Tells whether a message waits on the queue; False where that is not known.
    end
        Lets the worker end; it is called once.
    clock
        Seconds that never go back.
    """

    def __init__(
        self,
        waits: Callable[[], bool],
        *,
        end: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits = waits
        self._end = end
        self._clock = clock
        self._busy = 0
        self._since: float | None = None
        self._over = threading.Event()
        self.is_deaf = False

    @contextmanager
    def task(self) -> Iterator[None]:
        """Note that a message was taken, and is being dealt with."""
        self._busy += 1
        self._since = None
        try:
            yield
        finally:
            self._busy -= 1
            self._since = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look until the block ends.

        Raises
        ------
        DeafError
            At its end, if the worker had to be ended.
        """
        thread = threading.Thread(target=self._run, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        if self.is_deaf:
            raise DeafError("the worker did not take what waited for it on the queue")

    def look(self) -> None:
        """Look once."""
        if self.is_deaf or self._busy or not self._waits():
            self._since = None
            return
        now = self._clock()
        if self._since is None:
            self._since = now
        elif now - self._since >= PATIENCE_S:
            self.is_deaf = True
            log.error("queue_not_read", seconds=round(now - self._since))
            self._end()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()


def end_this_process() -> None:
    """Ask this process to end in order; where it does not, end it at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    last = threading.Timer(GRACE_S, os._exit, args=(TEMPORARY,))
    last.daemon = True
    last.start()
