"""The nearest rows, exactly: a scan in eight bits, what it cannot rule out in full.

Three steps for each batch of queries:

1. all codes times all queries, as integers; of every sixteen rows the best is kept;
2. the rows of the most promising blocks are scored in double precision. The k-th best
   of them is a floor: a row of which the score cannot reach it is not among the k;
3. blocks, then rows, that could reach it by the bounds of `workers.atlas.codes` are
   scored in double precision as well, and the k best of them are the answer.

So the answer does not depend on how coarse the codes are, only the time does: at worst
every row is scored in full. Equal scores are in the order of the rows. Torch multiplies
the integers (VNNI or AMX where there is one); each tile is computed by one thread.
"""

import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.atlas.codes import LEVELS, Codes, Rows, quantise

TILE = 4096
BLOCK = 16
QUERIES = 32
"""Rows of a tile, rows of a block, and queries of a batch."""

_FEW, _AT_ONCE = 128, 4096
"""Rows that are scored in double precision; of more, those that are best in single."""

_ROUNDING = 2.0**-23
_SLACK = 1e-5
"""What single precision may lose in a few operations, of the largest score."""

Scores = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearest:
    """The k best rows of one query, best first; fewer where there are not so many."""

    rows: Places
    scores: Scores


class ExactScan:
    """Rows and their codes, ready to be searched by any number of threads.

    Parameters
    ----------
    vectors
        (N, D) float32; may be memory-mapped.
    codes
        Of `vectors` around `mean`; their ``codes`` may be memory-mapped.
    threads
        None: as many as this process may use cores.
    """

    def __init__(
        self, vectors: Rows, codes: Codes, mean: Rows, *, threads: int | None = None
    ) -> None:
        self._vectors = vectors
        self._codes = codes
        self._mean = mean.astype(np.float64)
        starts = np.arange(0, max(len(vectors), 1), BLOCK)
        self._residual = _of_blocks(codes.residual, starts)
        self._length = _of_blocks(codes.length, starts)
        longest = float(codes.length.max(initial=0.0)) + float(
            codes.residual.max(initial=0.0)
        )
        self._reach = longest + float(np.linalg.norm(self._mean))
        self._tiles = torch.from_numpy(codes.codes)
        self._scale = torch.from_numpy(codes.scale)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._exact = _multiplies_exactly(vectors.shape[1])

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return the `k` nearest rows of each of `queries` (Q, D).

        Parameters
        ----------
        allowed
            (N,): rows that count; None for all.
        without
            For each query, rows that do not count for it.
        """
        nobody = np.zeros(0, dtype=np.int64)
        left_out = list(without) if without else [nobody] * len(queries)
        found: list[Nearest] = []
        own = torch.get_num_threads()
        with ThreadPoolExecutor(self._threads, initializer=_one_thread) as pool:
            for start in range(0, len(queries), QUERIES):
                part = slice(start, start + QUERIES)
                asked = _Batch.of(queries[part], self._mean)
                limits = _Limits(allowed=allowed, without=left_out[part])
                found += self._batch(asked, k, limits, pool)
        torch.set_num_threads(own)  # the pool set it to one
        let_go(self._vectors)
        return found

    def _batch(
        self, asked: "_Batch", k: int, limits: "_Limits", pool: ThreadPoolExecutor
    ) -> list[Nearest]:
        ceilings = self._ceilings(asked, limits.allowed, pool)
        found = pool.map(
            lambda one: self._nearest(asked, one, ceilings[one], k, limits),
            range(len(asked.queries)),
        )
        return list(found)

    def _ceilings(
        self,
        asked: "_Batch",
        allowed: NDArray[np.bool_] | None,
        pool: ThreadPoolExecutor,
    ) -> NDArray[np.float32]:
        """Return what no row of a block can exceed, (Q, blocks)."""
        best = torch.empty(len(self._residual), len(asked.queries))
        codes = torch.from_numpy(asked.codes.codes).T
        mask = None if allowed is None else torch.from_numpy(allowed)

        def scan(start: int) -> None:
            rows = slice(start, min(start + TILE, len(self._tiles)))
            blocks = slice(start // BLOCK, -(-rows.stop // BLOCK))
            inside = None if mask is None else mask[rows]
            if inside is not None and not bool(inside.any()):
                best[blocks] = -torch.inf
            else:
                best[blocks] = self._best(rows, codes, inside)

        list(pool.map(scan, range(0, len(self._tiles), TILE)))
        found = best.T.contiguous().numpy()
        found *= asked.codes.scale[:, None]
        found += asked.norm[:, None] * self._residual
        found += asked.codes.residual[:, None] * self._length
        found += (asked.offset + _SLACK * self._reach * asked.norm)[:, None]
        return found

    def _best(self, rows: slice, codes: Tensor, allowed: Tensor | None) -> Tensor:
        """Return the best of each block (blocks, Q), but for the queries' scales."""
        scores = self._product(self._tiles[rows], codes) * self._scale[rows, None]
        if allowed is not None:
            scores.masked_fill_(~allowed[:, None], -torch.inf)
        odd = -len(scores) % BLOCK
        if odd:
            scores = torch.nn.functional.pad(scores, (0, 0, 0, odd), value=-torch.inf)
        return scores.view(-1, BLOCK, scores.shape[1]).amax(1)

    def _nearest(
        self,
        asked: "_Batch",
        one: int,
        ceilings: NDArray[np.float32],
        k: int,
        limits: "_Limits",
    ) -> Nearest:
        """Return the `k` best rows of query `one`."""
        query = asked.queries[one]
        floor, taken = -np.inf, 2 * k
        while np.isneginf(floor) and taken < 2 * len(ceilings):
            promising = torch.topk(
                torch.from_numpy(ceilings), min(taken, len(ceilings))
            )
            first = self._counting(promising.indices.numpy(), one, limits)
            if len(first) >= k:
                likely = self._ceiling(first, asked, one).argsort()[::-1][: 2 * k]
                floor = float(
                    np.sort(score_rows(self._vectors, first[likely], query))[-k]
                )
            taken *= 4
        rows = self._counting(np.flatnonzero(ceilings >= floor), one, limits)
        rows = rows[self._ceiling(rows, asked, one) >= floor]
        return self._best_of(rows, query, k)

    def _counting(self, blocks: Places, one: int, limits: "_Limits") -> Places:
        """Return the rows of `blocks` that count, ascending."""
        allowed, without = limits.allowed, limits.without[one]
        rows = (np.sort(blocks)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        rows = rows[rows < len(self._vectors)]
        if allowed is not None:
            rows = rows[allowed[rows]]
        return rows[~np.isin(rows, without)] if len(without) else rows

    def _ceiling(self, rows: Places, asked: "_Batch", one: int) -> Scores:
        """Return what the score of each of `rows` cannot exceed, by its own code.

        The query is in sixteen bits here, twice eight: what it loses is next to nothing.
        """
        codes, fine = self._codes, asked.fine[one]
        both = torch.from_numpy(fine.codes).T
        products = np.empty((len(rows), 2))
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            # numpy copies whole rows here, torch number by number
            tile = torch.from_numpy(codes.codes.take(rows[part], axis=0))
            products[part] = self._product(tile, both).numpy()
        length = codes.length[rows].astype(np.float64)
        margin = (codes.residual[rows] + _SLACK * self._reach) * float(asked.norm[one])
        margin += float(fine.residual[1]) * length
        scores: Scores = products @ fine.scale.astype(np.float64) * codes.scale[rows]
        scores += margin + asked.offset[one]
        return scores

    def _product(self, tile: Tensor, codes: Tensor) -> Tensor:
        """Return the products (N, Q) of codes (N, D) and (D, Q), exact."""
        if self._exact:
            return torch._int_mm(tile, codes)  # noqa: SLF001 - the only integer product
        return tile.float() @ codes.float()  # integers below 2 ** 24: exact, too

    def _best_of(self, rows: Places, query: Scores, k: int) -> Nearest:
        """Return the `k` best of `rows`, all of them scored in double precision."""
        if len(rows) > _FEW:
            asked = torch.from_numpy(query.astype(np.float32))
            single = torch.cat(
                [
                    torch.from_numpy(self._vectors.take(part, axis=0)) @ asked
                    for part in np.array_split(rows, -(-len(rows) // _AT_ONCE))
                ]
            ).numpy()
            margin = _ROUNDING * len(query) * self._reach * float(np.linalg.norm(query))
            least = np.partition(single, -k)[-k] - 2 * margin if k < len(rows) else -1e9
            rows = rows[single >= least]
        scores = score_rows(self._vectors, rows, query)
        order = np.lexsort((rows, -scores))[:k]
        return Nearest(rows=rows[order], scores=scores[order])


def score_rows(vectors: Rows, rows: Places, query: Scores) -> Scores:
    """Return the scores (n,) of `rows` of `vectors`, the same in any company."""
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _AT_ONCE):
        part = vectors[rows[start : start + _AT_ONCE]].astype(np.float64)
        scores[start : start + _AT_ONCE] = np.einsum("nd,d->n", part, query)
    return scores


def let_go(vectors: Rows) -> None:
    """Take the pages of memory-mapped vectors out of this process.

    They stay in the page cache; else, searches would come to hold the whole file.
    """
    base: object = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Limits:
    """Rows that count (N,), or None for all; and for each query, rows that do not."""

    allowed: NDArray[np.bool_] | None
    without: Sequence[Places]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Batch:
    """Queries (Q, D) float64, their codes, lengths and what the mean adds to a score.

    Of each, `fine` are two codes: the second is of what the first leaves.
    """

    queries: Scores
    codes: Codes
    fine: tuple[Codes, ...]
    norm: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def of(cls, queries: Rows, mean: Scores) -> "_Batch":
        wide = queries.astype(np.float64)
        codes = quantise(wide, np.zeros(wide.shape[1]))
        return cls(
            queries=wide,
            codes=codes,
            fine=tuple(_twice(query, codes, one) for one, query in enumerate(wide)),
            norm=(np.linalg.norm(wide, axis=1) * (1 + 1e-6)).astype(np.float32),
            offset=(wide @ mean).astype(np.float32),
        )


def _twice(query: Scores, codes: Codes, one: int) -> Codes:
    """Return the code of a query (D,), and that of what it leaves, as two rows."""
    first = codes.codes[one] * codes.scale[one].astype(np.float64)
    second = quantise((query - first)[None], np.zeros(len(query)))
    return Codes(
        codes=np.stack([codes.codes[one], second.codes[0]]),
        scale=np.array([codes.scale[one], second.scale[0]]),
        residual=np.array([codes.residual[one], second.residual[0]]),
        length=np.array([codes.length[one], second.length[0]]),
    )


def _of_blocks(values: NDArray[np.float32], starts: Places) -> NDArray[np.float32]:
    if not len(values):
        return np.zeros(0, dtype=np.float32)
    largest: NDArray[np.float32] = np.maximum.reduceat(values, starts)
    return largest


def _multiplies_exactly(dimension: int) -> bool:
    """Return whether the largest codes multiply without saturation on this processor.

    Some without VNNI add pairs of products in sixteen bits.
    """
    ones = torch.full((32, dimension), LEVELS, dtype=torch.int8)
    signs = torch.ones(dimension, 16, dtype=torch.int8) * LEVELS
    signs[:, ::2] = -LEVELS
    exact = signs.long().sum(0) * LEVELS
    return bool((torch._int_mm(ones, signs).long() == exact).all())  # noqa: SLF001


def _one_thread() -> None:
    """Keep torch to this thread: tiles are computed side by side."""
    torch.set_num_threads(1)
