"""A copy of what a node keeps, made while it runs, and put back where nothing is.

::

    OUT/manifest.json    every file of it: size and SHA-256
    OUT/ledger.sqlite    the ledger, as it was when the backup began
    OUT/spool/…  OUT/outbox/…  OUT/thresholds/…
    OUT/pacsight.toml    the settings, where a file was named

The ledger comes first. What it names is then still there when the files are copied, and
what came in meanwhile is taken in after a restore, by the recovery scan. Files of spool
and outbox never change under their names, so they are linked where that can be done.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import Permanent
from dicom_node.files import make_folder, sync_folder

MANIFEST, LEDGER, SETTINGS = "manifest.json", "ledger.sqlite", "pacsight.toml"
FORMAT = 1
PAGES_AT_ONCE = 2048
"""Of SQLite's, before others may write again."""

Progress = Callable[[str, int, int], None]
"""What is being done, how many files are, and how many there are in all."""


class BackupError(Permanent):
    """A backup that is damaged, or a place where none can be made or put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a backup: its size in bytes, and the digest of all of them."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup is made of.

    Parameters
    ----------
    at
        When its ledger was copied, ISO 8601, UTC.
    files
        By their paths inside it.
    """

    format: int
    software: str
    site: str
    at: str
    files: Mapping[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a node keeps, and where.

    Parameters
    ----------
    folders
        By the names that they have in a backup.
    ledger
        SQLite's file; None where the ledger is a server's, which is not backed up here.
    """

    folders: Mapping[str, Path]
    ledger: Path | None
    settings: Path | None = None


_MANIFEST = TypeAdapter(Manifest)


def back_up(  # noqa: PLR0913 - what a backup says of itself
    kept: Kept,
    out: Path,
    *,
    site: str,
    software: str,
    now: datetime,
    former: Path | None = None,
    progress: Progress,
) -> Manifest:
    """Return the manifest of a backup that was made at `out`, whole or not at all.

    Parameters
    ----------
    former
        An earlier backup: files that are the same there are linked, not copied.

    Raises
    ------
    BackupError
        If `out` is there already, or the disk does not do it.
    """
    if out.exists():
        raise BackupError(f"{out} is there already: name another place")
    known = read_manifest(former).files if former else {}
    with _in_one_piece(out) as folder:
        if kept.ledger is not None:
            _copy_ledger(kept.ledger, folder / LEDGER)
        if kept.settings is not None:
            _copy(kept.settings, folder / SETTINGS)
        wanted = list(_files(kept.folders))
        for done, (name, source) in enumerate(wanted):
            progress("copying", done, len(wanted))
            same = former / name if former and name in known else None
            _link_or_copy(source, folder / name, same)
        manifest = Manifest(
            format=FORMAT,
            software=software,
            site=site,
            at=now.isoformat(),
            files=_digests(folder, progress),
        )
        _write(folder / MANIFEST, _MANIFEST.dump_json(manifest, indent=1))
        _sync(folder)
    return manifest


def read_manifest(backup: Path) -> Manifest:
    """Return what a backup says that it is made of.

    Raises
    ------
    BackupError
        If it is none, or another version's.
    """
    try:
        manifest = _MANIFEST.validate_json((backup / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise BackupError(f"{backup} is no backup: its manifest is missing") from error
    if manifest.format != FORMAT:
        raise BackupError(f"{backup} is of another version of pacsight")
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BackupError(f"{backup} names a file outside itself")
    return manifest


def check(backup: Path, progress: Progress) -> Manifest:
    """Return a backup's manifest, once every file was seen to be as it says.

    Raises
    ------
    BackupError
        If one is missing or another.
    """
    manifest = read_manifest(backup)
    for done, (name, entry) in enumerate(manifest.files.items()):
        progress("checking", done, len(manifest.files))
        try:
            found = _entry(backup / name)
        except OSError as error:
            raise BackupError(f"{backup / name} cannot be read") from error
        if found != entry:
            raise BackupError(f"{backup / name} is damaged: nothing was restored")
    return manifest


def restore(backup: Path, kept: Kept, progress: Progress) -> Manifest:
    """Return the manifest of a backup, once all of it is where a node keeps it.

    The ledger comes last: a node refuses to start on objects without a ledger.

    Raises
    ------
    BackupError
        If the backup is damaged, or a place is not empty.
    """
    manifest = check(backup, progress)
    for place in (*kept.folders.values(), *filter(None, [kept.ledger])):
        if place.exists() and (place.is_file() or any(place.iterdir())):
            raise BackupError(f"{place} is not empty: nothing was restored")
    if kept.ledger is not None and LEDGER not in manifest.files:
        raise BackupError(f"{backup} has no ledger: it is of a node with PostgreSQL")
    for done, name in enumerate(manifest.files):
        progress("restoring", done, len(manifest.files))
        top, _, rest = name.partition("/")
        if rest and top in kept.folders:
            _copy(backup / name, kept.folders[top] / rest)
    for folder in kept.folders.values():
        if folder.exists():
            _sync(folder)
    if kept.ledger is not None:
        _copy(backup / LEDGER, kept.ledger)
        sync_folder(kept.ledger.parent)
    return manifest


def summary(manifest: Manifest) -> dict[str, object]:
    """Return how much a backup holds, for people and scripts."""
    names = [name.partition("/")[0] for name in manifest.files]
    sizes = (entry.size for entry in manifest.files.values())
    said = {key: value for key, value in asdict(manifest).items() if key != "files"}
    return {
        **said,
        "ledger": LEDGER in manifest.files,
        "instances": names.count("spool"),
        "objects": names.count("outbox"),
        "bytes": sum(sizes),
    }


def _files(folders: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Yield what is to be copied; not what is just being written."""
    for name, root in folders.items():
        for path in sorted(root.rglob("*")) if root.exists() else ():
            relative = path.relative_to(root)
            begun = path.name.startswith(".") or relative.parts[0] == "incoming"
            if path.is_file() and not begun:
                yield f"{name}/{relative.as_posix()}", path


def _copy_ledger(source: Path, target: Path) -> None:
    """Copy SQLite's database as it is at one moment, whoever writes meanwhile."""
    if not source.exists():
        raise BackupError(f"there is no ledger at {source}: was the node ever started?")
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as read,
            closing(sqlite3.connect(target)) as write,
        ):
            read.backup(write, pages=PAGES_AT_ONCE)
            (said,) = write.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"the ledger cannot be copied: {error}") from error
    if said != "ok":
        raise BackupError("the ledger is damaged: see docs/operate/lost-ledger.md")
    target.chmod(0o600)


def _link_or_copy(source: Path, target: Path, same: Path | None) -> None:
    """Link to the file, or to the same one in a former backup; else copy it.

    Nothing, where it was deleted meanwhile.
    """
    make_folder(target.parent)
    try:
        if same is not None and _alike(source, same):
            os.link(same, target)
        else:
            os.link(source, target)
    except FileNotFoundError:
        return
    except OSError:  # another file system, or one without links
        _copy(source, target)


def _alike(one: Path, other: Path) -> bool:
    mine, yours = one.stat(), other.stat()
    return (mine.st_size, mine.st_mtime_ns) == (yours.st_size, yours.st_mtime_ns)


def _copy(source: Path, target: Path) -> None:
    """Copy bytes, times and mode; others than the owner may do nothing."""
    make_folder(target.parent)
    shutil.copy2(source, target)
    target.chmod(target.stat().st_mode & 0o700)


def _write(target: Path, content: bytes) -> None:
    target.touch(mode=0o600)
    target.chmod(0o600)
    target.write_bytes(content)


def _digests(folder: Path, progress: Progress) -> dict[str, Entry]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = {}
    for done, path in enumerate(paths):
        progress("reading", done, len(paths))
        found[path.relative_to(folder).as_posix()] = _entry(path)
    return found


def _entry(path: Path) -> Entry:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return Entry(size=os.fstat(file.fileno()).st_size, sha256=digest)


def _sync(folder: Path) -> None:
    """Make every file and name under the folder durable."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


@contextmanager
def _in_one_piece(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes `out` if all goes well, and is gone otherwise."""
    try:
        make_folder(out.absolute().parent)
        with TemporaryDirectory(dir=out.absolute().parent, prefix=".") as scratch:
            folder = Path(scratch) / "backup"
            folder.mkdir(mode=0o700)
            yield folder
            folder.rename(out)
            sync_folder(out.absolute().parent)
    except OSError as error:
        name = error.filename or out
        raise BackupError(f"{name}: {error.strerror or error}") from error
