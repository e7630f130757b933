"""Whether an atlas is the one that it says it is, and when that was last looked at.

What is checked when:

- at every opening: the size of each file, the digest of the small ones, and that the
  large ones were not touched since their digests were last checked. The stamp
  (``verified.json``) says when that was, and which size, inode and time of change each
  had;
- by ``pacsight atlas verify``, after a build, and at an opening where the stamp is
  missing or does not match (a copy was installed): the digest of every file. Then the
  stamp is written, where the folder allows it.

The stamp guards against what happens to files. Who can write to the folder can forge
it: against that there is ``verify``, and the digest that a pack states of its atlas.
"""

import json
from hashlib import file_digest
from pathlib import Path

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from dicom_node.files import write_durably
from workers.atlas.manifest import LARGE, AtlasManifest, FileSpec
from workers.placing import Progress

STAMP = "verified.json"


def describe_files(folder: Path) -> dict[str, FileSpec]:
    """Return size and digest of each file in `folder`, the stamp and manifest apart."""
    return {
        path.name: FileSpec(size=path.stat().st_size, sha256=_sha256(path))
        for path in sorted(folder.iterdir())
        if path.suffix != ".json" or path.stem == "tombstones"
    }


def check(folder: Path, manifest: AtlasManifest) -> None:
    """Accept the files of an atlas that is opened.

    Raises
    ------
    Permanent
        If one is missing, or another one.
    """
    for name, spec in manifest.files.items():
        _check_size(folder / name, spec)
    _check_digests(folder, manifest, set(manifest.files) - LARGE)
    if _read_stamp(folder) != _stamp(folder, manifest):
        verify(folder, manifest)


def verify(
    folder: Path, manifest: AtlasManifest, progress: Progress | None = None
) -> None:
    """Accept the files of an atlas, every byte of them; write down that they were.

    Raises
    ------
    Permanent
        If one is missing, or another one.
    """
    for name, spec in manifest.files.items():
        _check_size(folder / name, spec)
    _check_digests(folder, manifest, set(manifest.files), progress)
    stamp_files(folder, manifest)


def stamp_files(folder: Path, manifest: AtlasManifest) -> None:
    """Write down that the files are what the manifest says, as far as one may write."""
    content = json.dumps(_stamp(folder, manifest), indent=2) + "\n"
    try:
        write_durably(folder / STAMP, content.encode())
    except OSError:  # a read-only folder: looked at in full each time
        return


def _stamp(folder: Path, manifest: AtlasManifest) -> dict[str, object]:
    found = {
        name: (folder / name).stat() for name in sorted(LARGE & manifest.files.keys())
    }
    files = {n: [s.st_size, s.st_ino, s.st_mtime_ns] for n, s in found.items()}
    return {"atlas": manifest.digest, "files": files}


def _read_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / STAMP).read_bytes())
    except (OSError, ValueError):
        return None


def _check_size(path: Path, spec: FileSpec) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    if size != spec.size:
        raise Permanent(
            f"{path} has {size} bytes, and its atlas says {spec.size}: "
            "it is not the file of this atlas"
        )


def _check_digests(
    folder: Path,
    manifest: AtlasManifest,
    names: set[str],
    progress: Progress | None = None,
) -> None:
    done, total = 0, sum(manifest.files[name].size for name in names)
    for name in sorted(names):
        if _sha256(folder / name) != manifest.files[name].sha256:
            raise Permanent(
                f"the digest of {folder / name} is not the one that its atlas states"
            )
        done += manifest.files[name].size
        if progress:
            progress("verifying atlas", done, total)


def _sha256(path: Path) -> Sha256:
    try:
        with path.open("rb") as file:
            return Sha256(file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
