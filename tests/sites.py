"""A site in one process: real intake, ledger, pack, pipeline and delivery, in a folder.

What `pacsight up` does with processes and a queue, step by step and at once: for tests
about what a node keeps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset, dcmread, dcmwrite
from rich.console import Console

from dicom_node.config import Settings, load_settings
from dicom_node.ledger import Ledger, open_ledger, overview
from dicom_node.ledger.overview import StudyLine
from dicom_node.objects import ObjectStore
from workers.analyze import _progress, _take_in, _work
from workers.phantoms import datasets, phantom
from workers.pipeline import Bench

SETTINGS = """
data_dir = "{folder}/data"
{general}
[study]
minimum_revision_interval_s = 0
[spool]
min_free_bytes = 0
min_free_inodes = 0
[[peers]]
name = "archive"
via = "folder"
folder = "{folder}/archive"
rights = ["destination"]
"""


def chest(seed: int, **changes: object) -> Dataset:
    """Return a drawn chest X-ray; a study of its own."""
    (made,) = datasets(phantom("nodule", seed=seed))
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def another_of(first: Dataset, seed: int = 3) -> Dataset:
    """Return another image of the same study."""
    same = ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate")
    return chest(seed, **{keyword: first.get(keyword, "") for keyword in same})


@dataclass
class Site:
    """A node's folder, and what is done with it.

    Parameters
    ----------
    ready
        A worker's bench, whatever its ledger: it is given this site's.
    general
        Settings that stand before all tables, as TOML text.
    """

    folder: Path
    ready: Bench
    general: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            SETTINGS.format(folder=self.folder, general=self.general)
        )

    @property
    def config(self) -> Path:
        """Return the settings file."""
        return self.folder / "pacsight.toml"

    @property
    def settings(self) -> Settings:
        """Return the settings, read."""
        return load_settings(self.config)

    @property
    def data(self) -> Path:
        """Return the node's data folder."""
        return self.folder / "data"

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger."""
        opened = open_ledger(self.settings.ledger_address, migrate=True)
        try:
            yield opened
        finally:
            opened.close()

    def take(self, *instances: Dataset) -> None:
        """Take instances in, and let everything go to its end."""
        with TemporaryDirectory() as outside:
            files = [Path(outside) / f"{n}.dcm" for n in range(len(instances))]
            for file, instance in zip(files, instances, strict=True):
                dcmwrite(file, instance, enforce_file_format=True)
            self.work(files)

    def work(self, files: Sequence[Path] = ()) -> None:
        """Let everything go to its end, after these files were taken in."""
        progress = _progress(Console(file=StringIO()))
        settings = self.settings
        with self.ledger() as ledger:
            ready = replace(
                self.ready,
                ledger=ledger,
                spool=settings.spool_dir,
                objects=ObjectStore(settings.outbox_dir),
            )
            assert _take_in(files, settings, ledger, ready, progress) == []
            _work(settings, ledger, ready, progress)

    def studies(self) -> list[StudyLine]:
        """Return what the ledger says of every study."""
        with self.ledger() as ledger, ledger.read() as tx:
            return overview.studies(tx)

    def delivered(self, study_uid: str = "*") -> dict[str, bytes]:
        """Return what the archive has, by SOP Instance UID."""
        files = (self.folder / "archive").glob(f"{study_uid}/*.dcm")
        return {str(dcmread(path).SOPInstanceUID): path.read_bytes() for path in files}


def written_under(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file under the folder, and its bytes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def holding(folder: Path, *marks: bytes) -> list[Path]:
    """Return the files under the folder in whose name or bytes any of the marks is."""
    return [
        path
        for path, content in written_under(folder)
        if any(mark in content or mark in bytes(path) for mark in marks)
    ]
