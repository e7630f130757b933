"""The images of a run as the model takes them, decoded once and mapped by everybody.

A memory-mapped file of uint8 beside the run: several processes share its pages, and a
run that goes on reads no DICOM again. Decoding is the node's: a file that kills its
decoder costs a sentence, not the node. Of an image of several frames, the first.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.decoding import DecodedInput, DecodePool, Failure, FrameInput
from workers.placing import Progress
from workers.policy import Preprocessing

_AT_ONCE = 64


def gather(
    files: Sequence[Path],
    target: Path,
    *,
    policy: Preprocessing,
    decoders: DecodePool,
    progress: Progress,
) -> None:
    """Write the images (N, 3, S, S) uint8 RGB to `target`, unless they are there.

    Raises
    ------
    Permanent
        If a file is missing, or no image that can be read.
    """
    mark = target.with_suffix(".sha256")
    digest = _digest(files, policy)
    if target.is_file() and mark.is_file() and mark.read_text("ascii") == digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".part")
    shape = (len(files), 3, policy.size, policy.size)
    images = np.lib.format.open_memmap(aside, mode="w+", dtype=np.uint8, shape=shape)
    for at in range(0, len(files), _AT_ONCE):
        some = files[at : at + _AT_ONCE]
        images[at : at + len(some)] = _read(some, policy, decoders)
        progress("decoding", at + len(some), len(files))
    images.flush()
    aside.replace(target)
    mark.write_text(digest, "ascii")


def mapped(target: Path) -> NDArray[np.uint8]:
    """Return the images (N, 3, S, S) that `gather` wrote, as a view of the file."""
    images: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return images


def _read(
    files: Sequence[Path], policy: Preprocessing, decoders: DecodePool
) -> NDArray[np.uint8]:
    outcomes = decoders.map([FrameInput(path=file) for file in files], policy)
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, Failure):
            raise Permanent(f"{file}: {outcome.reason}")
    return np.stack([o.image for o in outcomes if isinstance(o, DecodedInput)])


def _digest(files: Sequence[Path], policy: Preprocessing) -> str:
    """Return what the images depend on: which files, as they are now, and the policy."""
    digest = sha256(policy.digest.encode())
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:
            raise Permanent(f"{file}: {error.strerror}") from error
        digest.update(
            f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()
