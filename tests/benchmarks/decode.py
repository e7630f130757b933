"""From a file to model input: frames a second, beside the plain way to do it.

One core, medians of processor time, 512 x 512 CT, model input of 480 x 480. The plain
way is what a script would do: ``pixel_array``, rescale, `numpy.percentile`, Pillow. It
sees the same file in the same run.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.images import as_jpeg2000, image, save
from workers.decode import decode
from workers.decoding import DecodePool, FrameInput
from workers.policy import (
    IntensityRule,
    Method,
    Percentiles,
    Preprocessing,
    Window,
)
from workers.preprocess import prepare

SIZE = 480
REPEATS = 60


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = write(Path(folder))
        print(f"{'one core, 512 x 512 CT':<44}{'ms':>8}{'frames/s':>10}{'ratio':>8}")
        peer = measure(lambda: by_script(plain))
        show("plain script, percentiles", peer, peer)
        for name, method in (
            ("pacsight, percentiles", Percentiles()),
            ("pacsight, fixed window", Window(center=40, width=80)),
        ):
            show(name, measure(partial(ours, plain, method)), peer)
        bare = measure(lambda: pixel_array(packed))
        show("JPEG 2000: decoding alone", bare, bare)
        show("JPEG 2000: plain script", measure(lambda: by_script(packed)), bare)
        show("JPEG 2000: pacsight", measure(lambda: ours(packed, Percentiles())), bare)
        for processes in (1, 2):
            through_a_pool(plain, processes)


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


def by_script(path: Path) -> np.ndarray:
    """Return model input as a script would make it."""
    dataset = dcmread(path)
    values = dataset.pixel_array * float(dataset.RescaleSlope)
    values += float(dataset.RescaleIntercept)
    low, high = np.percentile(values, (1, 99))
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    resized = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized)


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


def measure(work: Callable[[], object]) -> float:
    """Return the median of the seconds of processor time that it takes."""
    work()
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return median(spent)


def show(name: str, seconds: float, peer: float) -> None:
    """Print a line: how long, how many a second, and how it compares."""
    print(
        f"{name:<44}{seconds * 1000:>8.2f}{1 / seconds:>10.0f}{peer / seconds:>7.2f}x"
    )


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
