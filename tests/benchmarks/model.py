"""The model at its full size: speed, memory and accuracy, beside what the device can do.

Weights are made by the golden recipe, damped, so no download is needed. Every row is a
process of its own. The share is 626 GFLOP an image over the time that it takes, to the
median rate of ``torch.matmul`` of two matrices of 4096 x 4096 in the same dtype and
threads, measured before and after every pass. ``python tests/benchmarks/model.py``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.golden import recipe
from workers.encoder import open_encoder
from workers.medimageinsight import FULL, MedImageInsight, load, save
from workers.pack import locate, open_pack
from workers.phantoms import CHEST_KINDS, ChestPhantom, phantom, radiograph_grey

GFLOP_AN_IMAGE = 626
MATRIX = 4096
IMAGES = 16
NEAREST = 10
BATCHES = (1, 8, 32)
PASSES = {1: IMAGES, 8: 2, 32: 1}
"""On a CPU: at batch 1, every image once."""
CORPUS = Path(__file__).parents[3] / "shared" / "data" / "nih_cxr" / "images"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is measured in a process of its own."""

    device: str
    dtype: str
    prepared: bool
    batch: int

    @property
    def name(self) -> str:
        """Return how the table calls it."""
        return f"{self.device} {self.dtype}{'' if self.prepared else ', plain'}"


def main() -> None:
    """Print the table, or measure the row that the parent process asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, choices=BATCHES, help="only this one")
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measure(Row(**json.loads(given.row)), given.weights)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table(Path(folder), (given.batch,) if given.batch else BATCHES)
    neighbours()


def table(folder: Path, batches: tuple[int, ...]) -> None:
    """Print a line for every device, precision and batch."""
    write_weights(folder / "weights.safetensors")
    heads = ("", "batch", "images/s", "GFLOP/s", "share", "cosine", "anon MB", "ready")
    print(f"{heads[0]:<24}" + "".join(f"{head:>10}" for head in heads[1:]))
    exact: NDArray[np.float32] | None = None
    for row in rows(batches):
        words = [sys.executable, __file__, "--weights", str(folder)]
        child = subprocess.run(
            [*words, "--row", json.dumps({k: getattr(row, k) for k in Row.__slots__})],
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(child.stdout)
        vectors = np.array(found.pop("vectors"), dtype=np.float32)
        exact = vectors if exact is None else exact
        cosines = (vectors * exact[: len(vectors)]).sum(axis=1)
        print(
            f"{row.name:<24}{row.batch:>10}{found['images_per_s']:>10.2f}"
            f"{found['images_per_s'] * GFLOP_AN_IMAGE:>10.0f}{found['share']:>10.1%}"
            f"{cosines.mean():>10.6f}{found['anonymous_mb']:>10.0f}"
            f"{found['ready_s']:>9.1f}s   worst cosine {cosines.min():.6f}, "
            f"matmul {found['matmul']:.0f} GFLOP/s",
            flush=True,
        )


def rows(batches: tuple[int, ...]) -> Iterator[Row]:
    """Yield what there is to measure, the plain model in single precision first."""
    for prepared, dtype in ((False, "float32"), (True, "float32"), (True, "bfloat16")):
        for batch in batches:
            yield Row(device="cpu", dtype=dtype, prepared=prepared, batch=batch)
    if torch.cuda.is_available():
        for dtype in ("float32", "bfloat16", "float16"):
            for batch in batches:
                yield Row(device="cuda", dtype=dtype, prepared=True, batch=batch)


def write_weights(path: Path) -> None:
    """Write the full model with the recipe's damped weights."""
    with torch.device("meta"):
        model = MedImageInsight(FULL)
    save(recipe.fill(model.to_empty(device="cpu"), damped=True), path)


def measure(row: Row, folder: Path) -> dict[str, object]:
    """Return what one row of the table says."""
    pixels = images()
    with anonymous_memory() as peak:
        begun = time.perf_counter()
        model = load(
            folder / "weights.safetensors",
            dtype=getattr(torch, row.dtype),
            device=row.device,
            sha256=None,
        )
        model = model.prepare() if row.prepared else model
        ready_s = time.perf_counter() - begun
        with torch.inference_mode():
            batches = [part.to(row.device) for part in parts(pixels, row)]
            embed(model, batches[0][:2])
            spent, rates, vectors = passes(model, batches, row)
    rate, seconds = statistics.median(rates), statistics.median(spent)
    return {
        "images_per_s": row.batch / seconds,
        "share": GFLOP_AN_IMAGE * row.batch / seconds / rate,
        "matmul": rate,
        "anonymous_mb": peak[0] / 1e6,
        "ready_s": ready_s,
        "vectors": vectors[:IMAGES].cpu().tolist(),
    }


def parts(pixels: Tensor, row: Row) -> list[Tensor]:
    """Return the batch of each pass: the images in turn, over and over."""
    count = PASSES[row.batch] if row.device == "cpu" else IMAGES
    places = torch.arange(count * row.batch).view(count, row.batch)
    return list(pixels[places % len(pixels)])


def passes(
    model: MedImageInsight, batches: list[Tensor], row: Row
) -> tuple[list[float], list[float], Tensor]:
    """Return seconds of each pass, matrix rates measured around them, and embeddings."""
    multiply = multiplier(row)
    spent, rates, vectors = [], [multiply()], []
    for batch in batches:
        begun = time.perf_counter()
        vectors.append(embed(model, batch))
        spent.append(time.perf_counter() - begun)
        rates.append(multiply())
    return spent, rates, torch.cat(vectors)


def embed(model: MedImageInsight, batch: Tensor) -> Tensor:
    """Return embeddings, when they are there."""
    vectors = model.encode_image(batch)
    if batch.device.type == "cuda":
        torch.cuda.synchronize()
    return vectors


def multiplier(row: Row) -> Callable[[], float]:
    """Return what gives the rate of a matrix product, GFLOP/s."""
    dtype = getattr(torch, row.dtype)
    a, b = (torch.randn(MATRIX, MATRIX, device=row.device).to(dtype) for _ in range(2))
    torch.matmul(a, b)

    def rate() -> float:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            torch.matmul(a, b)
            if row.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        return 2 * MATRIX**3 / statistics.median(times) / 1e9

    return rate


@contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """Yield a list of which the one number becomes the peak of RssAnon, in bytes."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            text = Path("/proc/self/status").read_text("ascii")
            kilobytes = int(text.split("RssAnon:")[1].split()[0])
            peak[0] = max(peak[0], kilobytes * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def images() -> Tensor:
    """Return chests (16, 3, 480, 480), normalised: real ones where the corpus is."""
    size = FULL.image_size_px
    grey = [read(path, size) for path in corpus()[::30][:IMAGES]] or drawn(size)
    pixels = torch.from_numpy(np.stack(grey)).float() / 255
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
    return (pixels[:, None].expand(-1, 3, -1, -1) - mean) / std


def corpus() -> list[Path]:
    """Return real chest X-rays, none where there is no corpus."""
    return sorted(CORPUS.glob("*.png"))


def read(path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image (S, S)."""
    image = Image.open(path).convert("L")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def drawn(size: int) -> list[NDArray[np.uint8]]:
    """Return phantoms (S, S)."""
    made = [phantom(CHEST_KINDS[n % len(CHEST_KINDS)], n) for n in range(IMAGES)]
    return [
        radiograph_grey(one.pixels(size), size, inverted=one.inverted)
        for one in made
        if isinstance(one, ChestPhantom)
    ]


def neighbours() -> None:
    """Print how many of the nearest images half precision leaves the same."""
    if not corpus():
        print("nearest images: not measured, the corpus of chest X-rays is not here")
        return
    pack = open_pack(locate("phantoms"))
    size = pack.preprocessing.size
    grey = np.stack([read(path, size) for path in corpus()])
    pixels = np.repeat(grey[:, None], 3, axis=1)
    nearest = []
    for profile in ("float32", "bfloat16"):
        encoder = replace(pack.manifest.encoder, numeric_profile=profile)
        variant = replace(pack, manifest=replace(pack.manifest, encoder=encoder))
        vectors = open_encoder(variant).embed_images(pixels)
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -2)
        nearest.append(np.argsort(-similar, axis=1, kind="stable")[:, :NEAREST])
    same = [len(np.intersect1d(*pair)) for pair in zip(*nearest, strict=True)]
    print(
        f"demo pack, bfloat16 to float32: {np.mean(same) / NEAREST:.4f} of the "
        f"{NEAREST} nearest among {len(grey)} images are the same"
    )


if __name__ == "__main__":
    main()
