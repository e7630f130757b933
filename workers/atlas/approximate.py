"""The nearest rows, approximately: FAISS' inverted lists, what they find scored in full.

Rows are put into lists around centres (k-means), in eight bits; a query looks at the
lists nearest to it. How many of them is measured when the index is made, against the
exact scan, on cases of the atlas itself.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.atlas.codes import Rows
from workers.atlas.manifest import ApproximateSpec
from workers.atlas.scan import ExactScan, Nearest, Places, let_go, score_rows
from workers.placing import Progress

REFINED = 8
RECALL = 0.995
"""Share of the ten nearest that has to be found when an index is made."""

_QUERIES, _K = 256, 10
_PER_LIST, _FEWEST, _ROUNDS, _AT_ONCE = 64, 40, 10, 50_000


def build_index(
    vectors: Rows,
    scan: ExactScan,
    path: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> ApproximateSpec:
    """Write an index of `vectors` (N, D) to `path`; return how it is to be used.

    Raises
    ------
    Permanent
        If FAISS is not installed.
    """
    faiss = _faiss()
    count, dimension = vectors.shape
    lists = max(1, min(round(2 * math.sqrt(count)), count // _FEWEST))
    kind = f"IVF{lists},SQ8"
    # of rows of length one the nearest are those with the largest product, and k-means
    # finds better centres by distance
    index = faiss.index_factory(dimension, kind, faiss.METRIC_L2)
    rng = np.random.default_rng(seed)
    sample = rng.choice(count, min(count, lists * _PER_LIST), replace=False)
    index.cp.seed, index.cp.niter = seed, _ROUNDS
    index.train(vectors[np.sort(sample)])
    for start in range(0, count, _AT_ONCE):
        index.add(vectors[start : start + _AT_ONCE])
        if progress:
            progress("indexing", min(start + _AT_ONCE, count), count)
    faiss.write_index(index, str(path))
    return _tuned(index, vectors, scan, (kind, lists), rng)


def _tuned(
    index: Any,
    vectors: Rows,
    scan: ExactScan,
    made: tuple[str, int],
    rng: np.random.Generator,
) -> ApproximateSpec:
    """Return the fewest lists with which enough of the nearest are found."""
    rows = rng.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    queries = vectors[rows]
    exact = scan.search(queries, _K)
    kind, lists = made
    probes, recall = 1, 0.0
    while True:
        search = ApproximateSearch(index, vectors, probes=probes, refined=REFINED)
        found = search.search(queries, _K)
        recall = recall_of(found, exact)
        if recall >= RECALL or probes >= lists:
            break
        probes = min(2 * probes, lists)
    return ApproximateSpec(
        kind=kind, probes=probes, refined=REFINED, recall=recall, queries=len(rows)
    )


def recall_of(found: Sequence[Nearest], exact: Sequence[Nearest]) -> float:
    """Return the share of the exact answers that was found."""
    hits = [np.isin(e.rows, f.rows).sum() for f, e in zip(found, exact, strict=True)]
    return float(np.sum(hits) / max(sum(len(e.rows) for e in exact), 1))


class ApproximateSearch:
    """An index in memory, or memory-mapped, and the vectors that it is of."""

    def __init__(self, index: Any, vectors: Rows, *, probes: int, refined: int) -> None:
        self._index = index
        self._vectors = vectors
        self._probes = probes
        self._refined = refined

    @classmethod
    def open(
        cls, path: Path, vectors: Rows, spec: ApproximateSpec
    ) -> "ApproximateSearch":
        """Return the index of a file, its lists memory-mapped.

        Raises
        ------
        Permanent
            If FAISS is not installed, or the file is none of its.
        """
        faiss = _faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise Permanent(f"{path} is no index that FAISS can read") from error
        return cls(index, vectors, probes=spec.probes, refined=spec.refined)

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return some of the `k` nearest rows of each of `queries`; see `ExactScan`."""
        faiss = _faiss()
        more: dict[str, Any] = {}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            more["sel"] = faiss.IDSelectorBitmap(bits)
        params = faiss.SearchParametersIVF(nprobe=self._probes, **more)
        left_out = without or [np.zeros(0, dtype=np.int64)] * len(queries)
        most = max((len(rows) for rows in left_out), default=0)
        wanted = min(k * self._refined + most, len(self._vectors))
        _, found = self._index.search(queries, wanted, params=params)
        best = [
            self._refine(rows[(rows >= 0) & ~np.isin(rows, out)], query, k)
            for rows, query, out in zip(found, queries, left_out, strict=True)
        ]
        let_go(self._vectors)
        return best

    def _refine(self, rows: Places, query: Rows, k: int) -> Nearest:
        scores = score_rows(self._vectors, rows, query.astype(np.float64))
        order = np.lexsort((rows, -scores))[:k]
        return Nearest(rows=rows[order], scores=scores[order])


def _faiss() -> Any:
    try:
        import faiss  # noqa: PLC0415 - optional
    except ImportError as error:
        raise Permanent(
            "approximate search needs FAISS: install pacsight[atlas]"
        ) from error
    return faiss
