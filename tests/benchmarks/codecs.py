"""Compressed frames of the corpus, codec by codec: which decode them, and how fast.

pacsight's codec beside every other that pydicom finds installed, on each compressed file
of the corpus that is worth measuring. To see the others:
``pip install python-gdcm pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle
pyjpegls``.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import Decoder, get_decoder

sys.path.insert(0, str(Path(__file__).parents[2]))

from workers import codec

REPEATS = 5
WORTH_MEASURING = 60_000
"""Pixels; smaller frames take no time to speak of."""


def main() -> None:
    """Print a line for each file and codec."""
    logging.disable()
    warnings.simplefilter("ignore")
    print(f"{'file':<42}{'codec':<24}{'ms':>8}  pixels")
    for path, dataset in compressed_files():
        syntax = dataset.file_meta.TransferSyntaxUID
        ours = codec.decoder(syntax)
        expected = pixels(ours, dataset, "")
        for decoder, plugin, name in codecs(ours, syntax):
            found = pixels(decoder, dataset, plugin)
            if isinstance(found, str) or isinstance(expected, str):
                print(f"{path.name:<42}{name:<24}{'-':>8}  {str(found)[:60]}")
                continue
            off = np.abs(found.astype(np.int64) - expected).max()
            spent = measure(lambda: pixels(decoder, dataset, plugin))  # noqa: B023 - called at once
            print(f"{path.name:<42}{name:<24}{spent:>8.2f}  differ by {off} at most")


def compressed_files() -> Iterator[tuple[Path, Dataset]]:
    """Yield the files of the corpus whose frames are compressed and large."""
    here = Path(__file__).resolve().parents[3] / "shared"
    shared = Path(os.environ.get("PACSIGHT_SHARED") or here)  # noqa: TID251 - as in tests
    for path in sorted((shared / "data" / "dicom").rglob("*.dcm")):
        dataset = dcmread(path, force=True)
        syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
        if syntax in codec.CODECS and syntax != codec.DEFLATED_FRAMES:
            size = int(dataset.get("Rows", 0)) * int(dataset.get("Columns", 0))
            if size >= WORTH_MEASURING:
                yield path, dataset


def codecs(ours: Decoder, syntax: str) -> Iterator[tuple[Decoder, str, str]]:
    """Yield our codec, then those that pydicom brings or finds."""
    yield ours, "", f"pacsight: {codec.CODECS[syntax]}"
    theirs = get_decoder(syntax)
    yield from ((theirs, plugin, plugin) for plugin in theirs.available_plugins)


def pixels(decoder: Decoder, dataset: Dataset, plugin: str) -> np.ndarray | str:
    """Return the first frame as it is stored, or why there is none."""
    try:
        return decoder.as_array(dataset, index=0, raw=True, decoding_plugin=plugin)[0]
    except Exception as error:  # noqa: BLE001 - codecs raise anything
        return " ".join(str(error).split())


def measure(work: Callable[[], object]) -> float:
    """Return the median of the milliseconds of processor time that it takes."""
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * median(spent)


if __name__ == "__main__":
    main()
