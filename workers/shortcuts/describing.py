"""What is known of image files beside their anatomy: DICOM, PNG, JPEG; kept by digest.

Headers are read each time. The features of pixels are kept in a file of lines, each
under the digest of the image file that they are of: it holds nothing of the header.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicom_node.errors import Permanent
from workers.decode import open_image, read_header
from workers.placing import Progress
from workers.preprocess import display
from workers.shortcuts import traces
from workers.shortcuts.attributes import Attributes, attributes_of
from workers.shortcuts.headers import Header, header_of
from workers.shortcuts.nested import Features
from workers.shortcuts.texture import NO_TEXTURE, texture
from workers.shortcuts.traces import NO_TRACE, Trace, trace

_KEPT: Final = f"traces-{traces.VERSION}.jsonl"
_MAGIC: Final = slice(128, 132)
_PLAIN: Final = (b"\x89PNG", b"\xff\xd8\xff")
_COLOUR_DIMENSIONS: Final = 3


def describe_images(
    paths: Sequence[Path],
    *,
    cache: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Attributes:
    """Return what is known of image files, in the order of `paths`.

    Of a file of many frames, the middle one. Plain images have no header but their
    size; they go by the names of their files.

    Parameters
    ----------
    cache
        A folder where features are kept, so that a second run is quick.

    Raises
    ------
    Permanent
        If not one file can be read as an image.
    """
    names, headers, found, unreadable = [], [], [], []
    with _kept(cache) as known:
        for done, path in enumerate(paths, 1):
            name, header, features, reason = _described(path, known)
            names.append(name)
            headers.append(header)
            found.append(features)
            unreadable += [(name, reason)] if reason else []
            progress("describing images", done, len(paths))
    if len(unreadable) == len(paths):
        raise Permanent(f"none of {len(paths)} files can be read as an image")
    return attributes_of(names, headers, found, unreadable=tuple(unreadable))


def textures(
    paths: Sequence[Path], *, progress: Progress = lambda *_: None
) -> Features:
    """Return the texture of image files (N, D), nan of those that cannot be read.

    Of a file of many frames, the middle one, as `describe_images` takes it.
    """
    found = []
    for done, path in enumerate(paths, 1):
        try:
            found.append(texture(_read_grey(path)[None])[0])
        except (Permanent, OSError, ValueError, Image.DecompressionBombError):
            found.append(NO_TEXTURE)
        progress("texture", done, len(paths))
    return np.stack(found)


class _Known:
    """Features by digest of the file, and the file that new ones are added to."""

    def __init__(self, features: dict[str, Trace], file: TextIO | None) -> None:
        self._features, self._file = features, file

    def get(self, digest: str) -> Trace | None:
        return self._features.get(digest)

    def add(self, digest: str, features: Trace) -> None:
        self._features[digest] = features
        if self._file is not None:
            line = {"file": digest} | {
                name: base64.b85encode(getattr(features, name).tobytes()).decode()
                for name in ("histogram", "compressibility", "border")
            }
            self._file.write(json.dumps(line) + "\n")


@contextmanager
def _kept(folder: Path | None) -> Iterator[_Known]:
    if folder is None:
        yield _Known({}, None)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _KEPT).open("a+", encoding="ascii") as file:
            file.seek(0)
            known = dict(found for line in file if (found := _read(line)))
            file.write("\n")  # after a line that was cut short
            yield _Known(known, file)
    except OSError as error:
        raise Permanent(f"{folder}: {error.strerror or error}") from error


def _read(line: str) -> tuple[str, Trace] | None:
    """Return what a line holds; None of one that was cut short."""
    try:
        content: Mapping[str, Any] = json.loads(line)
        features = Trace(
            **{
                name: np.frombuffer(base64.b85decode(content[name]), np.float32)
                for name in ("histogram", "compressibility", "border")
            }
        )
        digest = str(content["file"])
    except (ValueError, KeyError, TypeError):
        return None
    fits = features.border.size == NO_TRACE.border.size
    return (digest, features) if fits else None


def _described(path: Path, known: _Known) -> tuple[str, Header, Trace, str]:
    """Return name, header, features, and why there are none."""
    name, header = path.name, Header()
    try:
        content = path.read_bytes()
        digest = sha256(content).hexdigest()
        if content.startswith(_PLAIN):
            with Image.open(path) as picture:
                header = Header(rows=picture.height, columns=picture.width)
            found = known.get(digest) or trace(_plain(path))
        else:
            dataset = read_header(path)
            name = str(dataset.get("SOPInstanceUID") or path.name)
            header, found = _dicom(path, dataset, known.get(digest))
    except (Permanent, OSError, ValueError, Image.DecompressionBombError) as error:
        return name, header, NO_TRACE, str(error) or type(error).__name__
    if known.get(digest) is None:
        known.add(digest, found)
    return name, header, found, ""


def _dicom(path: Path, dataset: Dataset, found: Trace | None) -> tuple[Header, Trace]:
    with open_image(path) as image:
        frame = image.frames // 2
        header = header_of(dataset, frame)
        return header, found or trace(_grey(display(image.decode(frame))))


def _read_grey(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        start = file.read(_MAGIC.stop)
    if start.startswith(_PLAIN):
        return _plain(path)
    with open_image(path) as image:
        return _grey(display(image.decode(image.frames // 2)))


def _plain(path: Path) -> NDArray[np.uint8]:
    """Return a plain image as grey levels; those of 16 bits from lowest to highest."""
    with Image.open(path) as picture:
        if not picture.mode.startswith(("I", "F")):
            return np.asarray(picture.convert("L"))
        values = np.asarray(picture, np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0) * 255
    return np.rint(scaled).astype(np.uint8)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == _COLOUR_DIMENSIONS:
        return np.asarray(Image.fromarray(image).convert("L"))
    return image
