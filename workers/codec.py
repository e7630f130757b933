"""One compressed frame to the samples in it, by imagecodecs: a plugin of pydicom.

pydicom finds the frame in the file (PS3.5 A.4) and knows what its samples mean; this
module turns its bytes into samples. One library for every syntax, because each codec of
it was at least as fast as the others that can be had, gave the same pixels, and some
read what the others do not.

Knows the bit streams that PS3.5 section 8.2 and annex G name, not the data set.
"""

from collections.abc import Callable, Mapping
from functools import cache
from struct import unpack
from typing import Any
from zlib import decompressobj

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Samples = NDArray[Any]
"""(H, W), (H, W, 3) or flat: integer samples of one frame, colour by pixel."""

DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")
"""Deflated Image Frame Compression (PS3.5 A.4.13), which pydicom 3.0 does not know."""

_PLUGIN = "imagecodecs"
_END = b"\xff\xd9"
"""Marker at the end of a JPEG image, and of a JPEG 2000 codestream."""
_BYTE_BITS = 8
_RLE_HEADER = 64
_RAW_DEFLATE = -15


def decoder(syntax: UID) -> Decoder:
    """Return what decodes frames of a transfer syntax, native ones too.

    Raises
    ------
    NotImplementedError
        If no codec knows it.
    """
    return _decoder(syntax) if syntax in CODECS else get_decoder(syntax)


@cache
def _decoder(syntax: UID) -> Decoder:
    deflated = syntax == DEFLATED_FRAMES
    # a syntax that pydicom knows stands in, to find frames in their fragments
    made = Decoder(RLELossless if deflated else syntax)
    name = inflate_frame.__name__ if deflated else decode_frame.__name__
    made.add_plugin(_PLUGIN, (__name__, name))
    return made


def is_available(_uid: str) -> bool:
    """Return True: pydicom asks whether a plugin has what it needs."""
    return True


def decode_frame(frame: bytes, runner: DecodeRunner) -> memoryview:
    """Return the samples of `frame`, and tell `runner` how they lie."""
    return _hand_over(_DECODE[CODECS[runner.transfer_syntax]](frame, runner), runner)


def inflate_frame(frame: bytes, runner: DecodeRunner) -> memoryview:
    """Return the samples of a deflated frame (PS3.5 A.4.13)."""
    size = _frame_bytes(runner)
    content = decompressobj(_RAW_DEFLATE).decompress(frame, size)
    samples = _unpacked(np.frombuffer(content, dtype=np.uint8, count=size), runner)
    return _hand_over(samples, runner)


def _hand_over(samples: Samples, runner: DecodeRunner) -> memoryview:
    runner.set_option("bits_allocated", _BYTE_BITS * samples.dtype.itemsize)
    return np.ascontiguousarray(samples).data


def _jpeg(frame: bytes, runner: DecodeRunner) -> Samples:
    """Return samples as they are coded: colours are pydicom's to turn into RGB."""
    _ends(frame)
    if runner.samples_per_pixel == 1:
        return imagecodecs.jpeg8_decode(frame)
    runner.set_option("planar_configuration", 0)
    return imagecodecs.jpeg8_decode(frame, colorspace="YCBCR", outcolorspace="YCBCR")


def _ends(frame: bytes) -> None:
    """Make sure that a codestream has an end: some codecs paint what is missing grey."""
    if _END not in frame:
        raise ValueError("the frame is not complete")


def _ending(decode: Callable[[bytes], Samples]) -> Callable[[bytes], Samples]:
    def decoded(frame: bytes) -> Samples:
        _ends(frame)
        return decode(frame)

    return decoded


def _plain(decode: Callable[[bytes], Samples]) -> "_Decode":
    """Return a decoder of which the samples come colour by pixel."""

    def decoded(frame: bytes, runner: DecodeRunner) -> Samples:
        if runner.samples_per_pixel > 1:
            runner.set_option("planar_configuration", 0)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
        return decode(frame)

    return decoded


def _rle(frame: bytes, runner: DecodeRunner) -> Samples:
    """Return samples of which each byte is a segment of its own (PS3.5 annex G)."""
    count, *offsets = unpack("<16L", frame[:_RLE_HEADER])
    depth = max(runner.bits_allocated // _BYTE_BITS, 1)
    if count > len(offsets):
        raise ValueError(f"{count} RLE segments: a frame has {len(offsets)} at most")
    if count != depth * runner.samples_per_pixel:
        raise ValueError(
            f"{count} RLE segments, where the header asks for another number"
        )
    ends = [*offsets[1:count], len(frame)]
    size = _frame_bytes(runner) // count
    planes = np.empty((runner.samples_per_pixel, depth, size), dtype=np.uint8)
    for plane, start, end in zip(
        planes.reshape(-1, size), offsets[:count], ends, strict=True
    ):
        content = imagecodecs.packbits_decode(frame[start:end])
        plane[:] = np.frombuffer(content, dtype=np.uint8, count=size)
    if runner.bits_allocated == 1:
        return _unpacked(planes.ravel(), runner)
    runner.set_option("planar_configuration", 1)
    values = np.ascontiguousarray(planes.transpose(0, 2, 1))
    return values.view(f">u{depth}").astype(f"<u{depth}")


def _frame_bytes(runner: DecodeRunner) -> int:
    """Return how long a frame is when it is native: single bits fill up a byte."""
    samples = runner.rows * runner.columns * runner.samples_per_pixel
    return -(-samples * runner.bits_allocated // _BYTE_BITS)


def _unpacked(content: NDArray[np.uint8], runner: DecodeRunner) -> Samples:
    """Return samples of native bytes: single bits begin with the lowest (PS3.5 8.1.1)."""
    if runner.bits_allocated > 1:
        return content.view(f"<u{runner.bits_allocated // _BYTE_BITS}")
    count = runner.rows * runner.columns * runner.samples_per_pixel
    return np.unpackbits(content, bitorder="little", count=count)


_Decode = Callable[[bytes, DecodeRunner], Samples]

_DECODE: Mapping[str, _Decode] = {
    "libjpeg-turbo": _jpeg,
    "ljpeg": _plain(_ending(imagecodecs.ljpeg_decode)),
    "CharLS": _plain(_ending(imagecodecs.jpegls_decode)),
    "OpenJPEG": _plain(imagecodecs.jpeg2k_decode),
    "OpenJPH": _plain(_ending(imagecodecs.htj2k_decode)),
    "PackBits": _rle,
}

CODECS: Mapping[str, str] = {
    JPEGBaseline8Bit: "libjpeg-turbo",
    JPEGExtended12Bit: "libjpeg-turbo",
    JPEGLossless: "ljpeg",
    JPEGLosslessSV1: "ljpeg",
    JPEGLSLossless: "CharLS",
    JPEGLSNearLossless: "CharLS",
    JPEG2000Lossless: "OpenJPEG",
    JPEG2000: "OpenJPEG",
    HTJ2KLossless: "OpenJPH",
    HTJ2KLosslessRPCL: "OpenJPH",
    HTJ2K: "OpenJPEG",  # OpenJPH's lossy samples run over: 256 is 0
    RLELossless: "PackBits",
    DEFLATED_FRAMES: "zlib",
}
"""The name of the codec by transfer syntax."""
