"""One frame of a DICOM file: its stored values, and the facts that give them meaning.

Decoding goes through `pydicom.pixels`, with one named codec for each compressed transfer
syntax (`workers.codec`), so that the same file gives the same pixels everywhere. Files come from anyone:
whatever is wrong with one ends in `Permanent`, with a reason that a person understands.
What kills a decoder outright is the business of `workers.decoding`.

Knows PS3.5 (encoding) and which attributes of PS3.3 matter; what they do to the pixels
stands in `workers.preprocess`.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from functools import cache
from hashlib import sha256
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description, keyword_dict
from pydicom.pixels.decoders.base import Decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.domain import Sha256
from dicom_node.errors import PacsightError, Permanent, Transient
from workers import codec
from workers.facts import (
    Lut,
    Palette,
    Rescale,
    VoiWindow,
    aspect_of,
    group_of,
    lut_of,
    padding_of,
    palette_of,
    rescale_of,
    windows_of,
)
from workers.geometry import NOWHERE, Geometry, geometry_of


class TooLargeError(Permanent):
    """A frame needs more memory than decoding may use."""


Pixels = NDArray[Any]
"""(H, W) stored values, or (H, W, 3) RGB; integer or float of any width."""

_PIXEL_GROUP = 0x7FE0
_PIXEL_KEYWORDS = {
    0x0008: "FloatPixelData",
    0x0009: "DoubleFloatPixelData",
    0x0010: "PixelData",
}
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")

_LASTING = (None, ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG)
_QUOTED = re.compile(r"""b?'[^']*('|$)|b?"[^"]*("|$)""")
"""A value in a message: it may be a name."""
_PYDICOM_SAYS = (
    "Unable to decode as exceptions were raised by all available plugins: imagecodecs: "
)
_REASON_LENGTH = 200
TOO_LARGE = "it needs more memory than decoding may use"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """A frame as it is stored, and what its header says of it.

    Parameters
    ----------
    pixels
        Stored values (H, W); colour images are (H, W, 3) RGB, whatever they were
        stored as, except palettes, which are (H, W) with `palette` beside them.
    photometric
        MONOCHROME1, MONOCHROME2, PALETTE COLOR or RGB.
    bits
        BitsStored (0028,0101).
    modality
        Modality (0008,0060).
    modality_lut
        Takes the place of `rescale` where it is there.
    padding
        Lowest and highest stored value that stand for no image (PS3.3 C.7.5.1.1.2).
    aspect
        Height of a pixel over its width.
    digest
        sha256 of pixels and of what they mean (photometric, rescale, padding); the
        same in every lossless transfer syntax. Windows are no part of it.
    """

    pixels: Pixels
    photometric: str
    bits: int
    modality: str
    rescale: Rescale
    modality_lut: Lut | None
    voi_lut: Lut | None
    windows: tuple[VoiWindow, ...]
    padding: tuple[float, float] | None
    palette: Palette | None
    aspect: float
    digest: Sha256


class ImageFile:
    """A DICOM file that is open for decoding, one frame at a time."""

    def __init__(
        self,
        header: Dataset,
        syntax: UID,
        source: Dataset | BinaryIO,
        options: dict[str, Any],
    ) -> None:
        self._header = header
        self._syntax = syntax
        self._decoder = _decoder(syntax)
        self._source = source
        self._options = options

    @property
    def frames(self) -> int:
        """Return the number of frames."""
        return int(self._options["number_of_frames"])

    def decode(self, frame: int) -> Decoded:
        """Return frame `frame`, counted from 0.

        Raises
        ------
        Permanent
            If it cannot be decoded.
        """
        with _explained(), _quiet():
            if not 0 <= frame < self.frames:
                raise Permanent(f"there is no frame {frame + 1}: it has {self.frames}")
            pixels, photometric = self._pixels(frame)
            return _decoded(self._header, frame, pixels, photometric)

    def geometry(self, frame: int) -> Geometry:
        """Return where frame `frame` lies, as far as the header can be understood."""
        with _quiet():
            try:
                return geometry_of(self._header, frame)
            except Exception:  # noqa: BLE001 - pixels count, also without a place
                return NOWHERE

    def _pixels(self, frame: int) -> tuple[Pixels, str]:
        """Return the frame in this machine's byte order, and its photometric."""
        try:
            pixels, facts = self._decoder.as_array(
                self._source, index=frame, **self._options
            )
        except MemoryError:
            raise
        except Exception as error:
            raise Permanent(self._fault(_first_line(error))) from error
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return native, str(facts["photometric_interpretation"])

    def _fault(self, reason: str) -> str:
        if self._decoder.is_native:
            return f"the pixel data is not what the header says: {reason}"
        return f"transfer syntax {self._syntax.name} cannot be decoded: {reason}"


def decode(path: Path, frame: int = 0) -> Decoded:
    """Return one frame of the DICOM file at `path`, counted from 0.

    Raises
    ------
    Permanent
        If it cannot be decoded, with the reason.
    Transient
        If the disk failed while reading it.
    """
    with open_image(path) as image:
        return image.decode(frame)


def read_header(path: Path) -> Dataset:
    """Return the data set of the DICOM file at `path`, without its pixels.

    Raises
    ------
    Permanent
        If it is not DICOM.
    Transient
        If the disk failed while reading it.
    """
    with _explained(), _quiet(), path.open("rb") as file:
        return dcmread(file, stop_before_pixels=True, force=True)


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """Give the DICOM file at `path`, its header read, for decoding frame by frame.

    Raises
    ------
    Permanent
        If it is not DICOM, or has no pixels that a codec is known for.
    Transient
        If the disk failed while reading it.
    """
    with _explained():
        file = path.open("rb")
    with file:
        with _explained(), _quiet():
            image = _image(file)
        yield image


def _image(file: BinaryIO) -> ImageFile:
    header = dcmread(file, stop_before_pixels=True, force=True)
    syntax = _transfer_syntax(header)
    if syntax == DeflatedExplicitVRLittleEndian:  # read as a whole or not at all
        file.seek(0)
        header = dcmread(file, force=True)
        if not any(keyword in header for keyword in _PIXEL_KEYWORDS.values()):
            raise Permanent("no pixel data")
        return ImageFile(header, syntax, header, as_pixel_options(header))
    options = _enter_pixels(file, header)
    options |= as_pixel_options(header)
    return ImageFile(header, syntax, file, options)


def _enter_pixels(file: BinaryIO, header: Dataset) -> dict[str, Any]:
    """Move from the tag of the pixel data to its value, and return what the tag says.

    As the bytes are, whatever the transfer syntax claims (PS3.5 7.1): the VRs, read as
    the length of an implicit element, would be odd, which lengths never are.
    """
    start = file.read(8)
    if len(start) < 8:  # noqa: PLR2004 - a tag and a length
        raise Permanent(_why_no_pixels(header))
    little = header.original_encoding[1]
    group, element = unpack("<HH" if little else ">HH", start[:4])
    if group != _PIXEL_GROUP:
        raise Permanent(_why_no_pixels(header))
    options = {"pixel_keyword": _PIXEL_KEYWORDS[element]}
    if start[4:6] not in _PIXEL_VRS:
        return options
    file.read(4)
    return {**options, "pixel_vr": start[4:6].decode("ascii")}


def _why_no_pixels(header: Dataset) -> str:
    known = header.file_meta or "SOPClassUID" in header
    return "no pixel data" if known else "not a DICOM file"


def _decoder(syntax: UID) -> Decoder:
    try:
        return codec.decoder(syntax)
    except NotImplementedError:
        raise Permanent(
            f"transfer syntax {syntax.name} cannot be decoded: no codec knows it"
        ) from None


def _transfer_syntax(header: Dataset) -> UID:
    """Return what the file meta information says, or what the bytes look like."""
    if header.file_meta.get("TransferSyntaxUID"):
        return UID(header.file_meta.TransferSyntaxUID)
    implicit, little = header.original_encoding
    if implicit:
        return UID(ImplicitVRLittleEndian)
    return UID(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _decoded(header: Dataset, frame: int, pixels: Pixels, photometric: str) -> Decoded:
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"):
        raise Permanent(f"photometric interpretation {photometric!r} is not supported")
    if not pixels.size:
        raise Permanent("the image has no rows or no columns")
    signed = pixels.dtype.kind == "i"
    transform = group_of(header, frame, "PixelValueTransformationSequence")
    rescale = rescale_of(transform)
    modality_lut = lut_of(transform, "ModalityLUTSequence", signed=signed)
    padding = padding_of(header)
    voi = group_of(header, frame, "FrameVOILUTSequence")
    meaning = (photometric, pixels.shape, pixels.dtype.str, rescale, padding)
    return Decoded(
        pixels=pixels,
        photometric=photometric,
        bits=int(header.get("BitsStored") or 8 * pixels.dtype.itemsize),
        modality=str(header.get("Modality") or "").upper(),
        rescale=rescale,
        modality_lut=modality_lut,
        voi_lut=lut_of(voi, "VOILUTSequence", signed=signed),
        windows=windows_of(voi),
        padding=padding,
        palette=palette_of(header) if photometric == "PALETTE COLOR" else None,
        aspect=aspect_of(header, frame),
        digest=_digest(repr(meaning), modality_lut, pixels),
    )


def _digest(meaning: str, lut: Lut | None, pixels: Pixels) -> Sha256:
    digest = sha256(meaning.encode())
    if lut is not None:
        digest.update(f"{lut.first}/{lut.bits}".encode())
        digest.update(lut.entries.data)
    digest.update(np.ascontiguousarray(pixels).data)
    return Sha256(digest.hexdigest())


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever goes wrong with a file into a reason for it."""
    try:
        yield
    except PacsightError:
        raise
    except MemoryError:
        raise TooLargeError(TOO_LARGE) from None
    except OSError as error:
        reason = error.strerror or _first_line(error)
        if error.errno in _LASTING:
            raise Permanent(f"the file cannot be read: {reason}") from error
        raise Transient(f"the file cannot be read: {reason}") from error
    except Exception as error:
        raise Permanent(f"it cannot be read: {_first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries think of a header off standard error: it may quote it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    """Return what a library says, without the values that it quotes from the header."""
    text = " ".join(str(error).split()).removeprefix(_PYDICOM_SAYS)
    text = _QUOTED.sub(_unless_it_is_a_value, text)
    return text[:_REASON_LENGTH] or type(error).__name__


def _unless_it_is_a_value(quoted: re.Match[str]) -> str:
    """Return what a message quotes where it is the name of an attribute."""
    text = quoted.group()
    return text if text.strip("b'\"") in _attributes() else "…"


@cache
def _attributes() -> frozenset[str]:
    """Return the keywords and names of the data dictionary, and what holds them."""
    names = map(dictionary_description, keyword_dict.values())
    return frozenset({"Dataset", "FileDataset", *keyword_dict, *names})
