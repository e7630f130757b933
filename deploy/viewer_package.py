"""OHIF as its makers publish it: fetched with npm, held to a digest, unpacked once.

It is prebuilt: nothing of it is run here, and npm is needed for the fetching alone.
Knows nothing of Orthanc, nor of how it is served.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from sandbox_services import REPOSITORY, SandboxError, die_with_parent

VERSION = "3.13.2"
PACKAGE = f"@ohif/app@{VERSION}"
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
SIZE_MB = 50
CACHE = REPOSITORY / "build"
INSIDE = "package/dist/"
LEFT_OUT = ("ort/", "dicom-microscopy-viewer/")
"""What shows no radiology: 156 of 204 MB."""
NPM_TIMEOUT_S = 300


def is_there(cache: Path = CACHE) -> bool:
    """Return whether it has been fetched before."""
    return _place(cache).exists()


def fetch(work: Path, cache: Path = CACHE) -> Path:
    """Return the folder that holds OHIF; it is fetched if it is not there.

    Parameters
    ----------
    work
        Where the download and npm's own cache lie meanwhile.

    Raises
    ------
    SandboxError
        If it cannot be had, or is not what it should be.
    """
    there = _place(cache)
    if not there.exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            archive = _download(work)
            _verify(archive)
            _unpack(archive, there)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return there


def _place(cache: Path) -> Path:
    return cache / f"ohif-{VERSION}"


def _download(work: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SandboxError("npm is not installed (as root: apt-get install npm)")
    command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts"]
    folders = ["--cache", str(work / "npm"), "--pack-destination", str(work)]
    try:
        done = subprocess.run(
            command + folders,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
            check=False,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired:
        raise SandboxError(f"npm did not end within {NPM_TIMEOUT_S} s") from None
    found = sorted(work.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        why = said[-1] if said else f"exit status {done.returncode}"
        raise SandboxError(f"npm could not fetch {PACKAGE} ({why})")
    return found[0]


def _verify(archive: Path) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise SandboxError(f"what npm fetched as {PACKAGE} has another sha512 digest")


def _unpack(archive: Path, there: Path) -> None:
    """Fill the folder all at once, so that it is whole wherever it exists."""
    partial = there.with_name(f"{there.name}.{os.getpid()}")
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(INSIDE)
            if not member.isfile() or name == member.name or name.startswith(LEFT_OUT):
                continue
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101 - it is a file
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
    try:
        partial.rename(there)
    except OSError:  # another process was faster
        shutil.rmtree(partial)
        if not there.exists():
            raise
