"""A large atlas: opened, searched exactly and approximately, FAISS beside it.

``OMP_NUM_THREADS=2 python -P tests/benchmarks/atlas.py [--cases N] [--std S]``: vectors
are those of scikit-learn's ``make_blobs`` (isotropic Gaussian blobs around centres
uniform in [-10, 10], its defaults but for the dimension and 1,000 centres), made unit;
``--std 10`` is a harder setting: within a blob, cases lie further apart than centres do.
A million cases of 1024 numbers need 6.5 GB of disk in ``--folder`` and 11 GB of memory,
page cache included; all of it is removed afterwards. Everything runs on two cores.
Seconds of the processor are printed beside those on the wall, and the load of the
machine with them: what else runs there makes the wall longer.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_blobs

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.domain import Code, EncoderKey, Sha256
from workers.atlas.approximate import build_index, recall_of
from workers.atlas.checking import stamp_files
from workers.atlas.codes import Codes, Rows
from workers.atlas.columns import Columns, write_columns
from workers.atlas.deidentify import statement
from workers.atlas.identifiers import draw_groups, draw_identifiers
from workers.atlas.manifest import APPROXIMATE, COLUMNS, THUMBNAILS, LabelSpec
from workers.atlas.opened import OpenAtlas, open_atlas
from workers.atlas.scan import ExactScan, Nearest
from workers.atlas.shelf import map_vectors, write_codes, write_vectors
from workers.atlas.writing import About, Names, seal_atlas

AT_ONCE = 20_000
THREADS = 2
K = 10
TIE = 1e-6
"""Scores that differ by less are equal in single precision."""

OPEN_S, EXACT_S, APPROXIMATE_S, RECALL = 1.0, 0.4, 0.01, 0.98
"""Bars, for a million cases of 1024 numbers on two cores, page cache warm."""

RUNS = 15


def main() -> None:
    """Build, measure, print, remove."""
    asked = options()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    faiss.omp_set_num_threads(THREADS)
    print(
        f"{asked.cases:,} cases x {asked.dimension}, make_blobs of {asked.centres} "
        f"centres, std {asked.std}; FAISS {faiss.__version__}; {load()}"
    )
    _, whole = timed(lambda: measure(asked))
    print(f"{'all of it':<26}{whole}; {load()}")


def measure(asked: argparse.Namespace) -> None:
    """Measure an atlas in a folder that is removed."""
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="atlas-") as scratch:
        folder = Path(scratch)
        _, seconds = timed(lambda: write_vectors(blobs(asked), folder))
        told("drawing vectors", f"{seconds} (not part of the build)")
        _, seconds = timed(lambda: build(folder, asked))
        told("build, all of it", str(seconds))
        size = sum(path.stat().st_size for path in folder.iterdir())
        queries = drawn_queries(asked)
        before = resident()
        atlas, opened = timed(lambda: open_atlas(folder, threads=THREADS))
        told("open", str(opened), met=opened.wall < OPEN_S)
        ours = exact(atlas, queries[: asked.queries])
        approximate(atlas, queries)
        grown = [now - then for now, then in zip(resident(), before, strict=True)]
        told(
            "resident memory",
            f"+{grown[0] / 1e9:.2f} GB, {grown[1] / 1e9:.2f} GB of it private; "
            f"files {size / 1e9:.2f} GB",
            met=grown[0] <= size,
        )
        beside_faiss(atlas, queries, asked.queries, ours)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--agreement", type=int, default=1000)
    parser.add_argument("--centres", type=int, default=1000)
    parser.add_argument("--std", type=float, default=1.0)
    parser.add_argument("--folder", default=None, help="where there is room")
    return parser.parse_args()


def build(folder: Path, asked: argparse.Namespace) -> None:
    """Make an atlas of the vectors in a folder."""
    count = asked.cases
    (mean, codes), seconds = timed(lambda: write_codes(folder, asked.dimension))
    told("build: codes", str(seconds))
    (folder / THUMBNAILS).touch()
    write_columns(columns(count, mean, codes), folder / COLUMNS)
    vectors = map_vectors(folder, asked.dimension)
    scan = ExactScan(vectors, codes, mean, threads=THREADS)
    index, seconds = timed(lambda: build_index(vectors, scan, folder / APPROXIMATE))
    told(
        f"build: {index.kind}",
        f"{seconds}, {index.probes} probes, recall {index.recall:.4f}",
    )
    about = About(
        name="blobs",
        version="1",
        created=date(2026, 1, 1),
        encoder=EncoderKey(
            encoder=Sha256("e"), preprocessing=Sha256("p"), profile="float32"
        ),
        floor=1,
        volume_embedding="unit-mean",
        labels=(
            LabelSpec(key="a", concept=Code(value="1", scheme="99T", meaning="A")),
        ),
        cells=(),
        left_out={},
        deidentification=statement(),
    )
    names = Names(sources=(), modalities=("DX",), body_parts=("CHEST",))
    manifest, seconds = timed(
        lambda: seal_atlas(folder, about, names, (count, asked.dimension), index)
    )
    stamp_files(folder, manifest)
    told("build: digests", str(seconds))


def blobs(asked: argparse.Namespace) -> Iterator[Rows]:
    """Yield the cases, some at a time."""
    for start in range(0, asked.cases, AT_ONCE):
        yield blob(asked, min(AT_ONCE, asked.cases - start), seed=start + 1)


def blob(asked: argparse.Namespace, count: int, *, seed: int) -> Rows:
    """Return points around the same centres, whatever the seed."""
    centres = np.random.default_rng(0).uniform(
        -10, 10, (asked.centres, asked.dimension)
    )
    points, _ = make_blobs(
        count, centers=centres, cluster_std=asked.std, random_state=seed
    )
    rows: Rows = points.astype(np.float32)
    return rows


def drawn_queries(asked: argparse.Namespace) -> Rows:
    """Return queries of the same kind, of length one."""
    points = blob(asked, max(asked.agreement, asked.queries), seed=asked.cases + 7)
    rows: Rows = points / np.linalg.norm(points, axis=1, keepdims=True)
    return rows


def columns(count: int, mean: Rows, codes: Codes) -> Columns:
    """Return what else an atlas keeps of its cases."""
    return Columns(
        identifier=np.array([i.encode() for i in draw_identifiers(count)]),
        group=np.array(draw_groups(count), dtype=np.int32),
        kind=np.zeros(count, np.uint8),
        modality=np.zeros(count, np.int16),
        body_part=np.zeros(count, np.int16),
        truth=np.ones((count, 1), np.int8),
        source=np.full((count, 1), -1, np.int16),
        thumbnail=np.zeros((count, 2), np.int64),
        mean=mean,
        scale=codes.scale,
        residual=codes.residual,
        length=codes.length,
    )


def exact(atlas: OpenAtlas, queries: Rows) -> "Seconds":
    """Print how long an exact search takes, warm; return the median."""
    atlas.exact.search(queries, K)
    runs = [timed(lambda: atlas.exact.search(queries, K))[1] for _ in range(RUNS)]
    middle = median(runs)
    told(f"exact, {len(queries)} queries", spread(runs), met=middle.wall < EXACT_S)
    return middle


def approximate(atlas: OpenAtlas, queries: Rows) -> None:
    """Print how long an approximate search takes, query by query, and what it finds."""
    search = atlas.approximate
    assert search is not None
    search.search(queries[:1], K)
    found, runs = list[Nearest](), list[Seconds]()
    for query in queries:
        hits, seconds = timed(partial(search.search, query[None], K))
        found += hits
        runs.append(seconds)
    told("approximate, one query", spread(runs), met=median(runs).wall < APPROXIMATE_S)
    recall = recall_of(found, atlas.exact.search(queries, K))
    told(
        "its recall@10", f"{recall:.4f} of {len(queries)} queries", met=recall >= RECALL
    )


def beside_faiss(atlas: OpenAtlas, queries: Rows, batch: int, ours: "Seconds") -> None:
    """Print how long FAISS takes, and whether the ten nearest are the same."""
    flat = faiss.IndexFlatIP(atlas.manifest.dimension)
    for start in range(0, len(atlas.vectors), AT_ONCE):
        flat.add(atlas.vectors[start : start + AT_ONCE])
    flat.search(queries[:batch], K)
    runs = [timed(lambda: flat.search(queries[:batch], K))[1] for _ in range(5)]
    ratio = median(runs).wall / ours.wall
    told(f"IndexFlatIP, {batch} queries", f"{spread(runs)}: {ratio:.1f} times as long")
    found = atlas.exact.search(queries, K)
    scores, rows = flat.search(queries, K)
    pairs = zip(found, rows, scores, strict=True)
    same = sum(agrees(one, theirs, values) for one, theirs, values in pairs)
    told(
        "same ten as IndexFlatIP",
        f"{same} of {len(queries)} queries, ties within {TIE} apart",
        met=same == len(queries),
    )


def agrees(
    ours: Nearest, theirs: NDArray[np.int64], scores: NDArray[np.float32]
) -> bool:
    """Return whether what differs between two answers is a tie with the last place."""
    last = min(float(ours.scores[-1]), float(scores[-1]))
    strangers = np.concatenate(
        [
            ours.scores[~np.isin(ours.rows, theirs)],
            scores[~np.isin(theirs, ours.rows)].astype(np.float64),
        ]
    )
    return bool((np.abs(strangers - last) < TIE).all())


@dataclass(frozen=True, slots=True, order=True)
class Seconds:
    """Seconds on the wall, and of the processor, all threads together."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{show(self.wall)} (processor {show(self.processor)})"


def show(seconds: float) -> str:
    """Return a duration as people read it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def timed(do: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Return what `do` returns, and how long it took."""
    wall, processor = time.perf_counter(), time.process_time()
    found = do()
    return found, Seconds(time.perf_counter() - wall, time.process_time() - processor)


def spread(runs: Sequence[Seconds]) -> str:
    """Return median, best and 95th percentile of runs."""
    ordered = sorted(runs)
    late = ordered[-(-95 * len(ordered) // 100) - 1]
    return (
        f"median {median(runs)}, best {show(ordered[0].wall)}, "
        f"95 % within {show(late.wall)}, {len(runs)} runs"
    )


def median(runs: Sequence[Seconds]) -> Seconds:
    """Return the middle run."""
    return sorted(runs)[len(runs) // 2]


def told(what: str, figure: str, *, met: bool | None = None) -> None:
    """Print a figure, and whether its bar is met, where it has one."""
    verdict = "" if met is None else f"  [{'met' if met else 'MISSED'}]"
    print(f"{what:<26}{figure}{verdict}", flush=True)


def load() -> str:
    """Return how busy the machine is, other processes included."""
    return f"load {os.getloadavg()[0]:.1f}"


def resident() -> tuple[int, int]:
    """Return the resident memory of this process in bytes, and what no file backs."""
    resident_pages, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    page = os.sysconf("SC_PAGE_SIZE")
    return page * resident_pages, page * (resident_pages - shared)


if __name__ == "__main__":
    main()
