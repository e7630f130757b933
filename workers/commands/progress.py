"""How far long work is, on stderr: a bar of bytes, or of images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

FEWEST_BYTES = 4 << 20
"""Totals from here on are bytes of a file, on a bar."""


class _Amount(ProgressColumn):
    """How much of a file, or how many images."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        """Return what is done, of how much."""
        large = (task.total or 0) >= FEWEST_BYTES
        return self._bytes.render(task) if large else self._count.render(task)


@contextmanager
def bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows how far a file is: `workers.placing.Progress`, on stderr."""
    columns = (TextColumn("{task.description:<17}"), BarColumn(), _Amount())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as shown:

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        yield progress
        for task in shown.tasks:
            shown.update(task.id, completed=task.total)
