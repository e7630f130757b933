"""From a file to model input: frames a second, beside the plain ways to do it.

One core, processor time, medians of rounds in which all take turns; 512 x 512 CT, model
input of 480 x 480. The plain way is what a script would do: `dcmread`, ``pixel_array``,
rescale in double precision, `numpy.percentile` (1, 99), clip, 8 bits, Pillow's bicubic;
in grey, and in RGB from before the resize, as the model's own code does it. Both sides
have one thread of BLAS, as decode processes do."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median

os.putenv("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import numpy as np
from imagecodecs import jpeg2k_decode as codec
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.images import as_jpeg2000, image, save
from workers.decode import decode, read_header
from workers.decoding import DecodePool, FrameInput
from workers.policy import (
    IntensityRule,
    Method,
    Percentiles,
    Preprocessing,
    Window,
)
from workers.preprocess import intensities, prepare
from workers.resample import bicubic

SIZE = 480
ROUNDS = 60
FRAMES_WANTED = 250


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = write(Path(folder))
        frame = get_frame(dcmread(packed).PixelData, 0, number_of_frames=1)
        content = decode(plain).pixels.tobytes()
        grey = intensities(decode(plain), Percentiles())
        took = in_turns(
            {
                "plain": lambda: by_script(plain),
                "rgb": lambda: by_script(plain, mode="RGB"),
                "ours": lambda: ours(plain, Percentiles()),
                "window": lambda: ours(plain, Window(center=40, width=80)),
                "pillow": partial(by_pillow, grey),
                "resize": partial(bicubic, grey, SIZE),
                "decode": partial(decode, plain),
                "header": partial(read_header, plain),
                "digest": lambda: sha256(content).hexdigest(),
                "grey": partial(intensities, decode(plain), Percentiles()),
                "bare": partial(codec, frame),
                "packed": lambda: ours(packed, Percentiles()),
            }
        )
        report(took)
        for processes in (1, 2):
            through_a_pool(plain, processes)


def report(took: dict[str, float]) -> None:
    """Print what was measured beside what is wanted; `took` in seconds."""
    print(f"{'one core, 512 x 512 CT':<44}{'ms':>8}{'frames/s':>10}  wanted")
    for key, name in (
        ("plain", "plain script, percentiles, grey"),
        ("rgb", "plain script, percentiles, RGB"),
        ("ours", "pacsight, percentiles"),
        ("window", "pacsight, fixed window"),
        ("decode", "percentiles: reading and decoding"),
        ("header", "  of it, pydicom's reading of the header"),
        ("digest", "  of it, SHA-256 of the pixels"),
        ("grey", "percentiles: grey levels"),
        ("resize", "percentiles: resize"),
        ("pillow", "Pillow's resize"),
        ("bare", "JPEG 2000: the codec alone"),
        ("packed", "JPEG 2000: pacsight, percentiles"),
    ):
        wanted = f"at least {FRAMES_WANTED}" if key == "ours" else ""
        seconds = took[key]
        print(f"{name:<44}{1000 * seconds:>8.2f}{1 / seconds:>10.0f}  {wanted}")
    for name, ratio, wanted in (
        ("plain in grey to pacsight", took["plain"] / took["ours"], "at least 3"),
        ("plain in RGB to pacsight", took["rgb"] / took["ours"], "at least 3"),
        ("JPEG 2000: pacsight to codec", took["packed"] / took["bare"], "at most 1.2"),
    ):
        print(f"{name:<44}{ratio:>17.2f}x  {wanted}")


def write(folder: Path) -> tuple[Path, Path]:
    """Write a CT slice of a round object in noise, uncompressed and as JPEG 2000."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where(x**2 + y**2 < 0.6, 1060, 24) + rng.normal(0, 12, (512, 512))
    dataset = image(
        body.clip(0, 4095).astype(np.uint16),
        RescaleSlope="1",
        RescaleIntercept="-1024",
        BitsStored=12,
        HighBit=11,
    )
    plain = save(dataset, folder / "plain.dcm")
    return plain, save(as_jpeg2000(dataset), folder / "packed.dcm")


def by_script(path: Path, mode: str = "L") -> np.ndarray:
    """Return model input as a script would make it."""
    dataset = dcmread(path)
    values = dataset.pixel_array * float(dataset.RescaleSlope)
    values += float(dataset.RescaleIntercept)
    low, high = np.percentile(values, (1, 99))
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return by_pillow(grey, mode)


def by_pillow(grey: np.ndarray, mode: str = "L") -> np.ndarray:
    """Return grey levels (H, W) at the model's size."""
    image = Image.fromarray(grey).convert(mode)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def ours(path: Path, method: Method) -> np.ndarray:
    """Return model input as pacsight makes it, digest of the pixels included."""
    return prepare(decode(path), policy(method))


def policy(method: Method) -> Preprocessing:
    """Return a policy with this method for all images."""
    return Preprocessing(
        name="bench",
        size=SIZE,
        intensity=(IntensityRule(method=method),),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def in_turns(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of the seconds of processor time that each takes."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.process_time()
            work()
            spent[name].append(time.process_time() - start)
    return {name: median(seconds) for name, seconds in spent.items()}


def through_a_pool(path: Path, processes: int) -> None:
    """Print what a worker's decode processes deliver, start-up left out."""
    tasks = [FrameInput(path=path)] * 300
    with DecodePool(processes=processes, memory_bytes=2 << 30, timeout_s=30) as pool:
        pool.map(tasks[:processes], policy(Percentiles()))
        start = time.perf_counter()
        pool.map(tasks, policy(Percentiles()))
        spent = (time.perf_counter() - start) / len(tasks)
    print(
        f"{f'pool of {processes}, 300 files':<44}{spent * 1000:>8.2f}{1 / spent:>10.0f}"
    )


if __name__ == "__main__":
    main()
