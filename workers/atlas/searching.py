"""What every way of searching has in common: exact, FAISS, Milvus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.atlas.scan import Nearest, Places


class Searcher(Protocol):
    """Finds the nearest rows: by cosine, best first, equal ones by row.

    `ExactScan`, `ApproximateSearch`, `MilvusSearch` and `FlatSearch` are such.
    """

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return the `k` nearest rows of each of `queries` (Q, D) of length one.

        Parameters
        ----------
        allowed
            (N,): rows that count; None for all.
        without
            For each query, rows that do not count for it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which cases count; empty or None: all."""

    modality: str = ""
    body_part: str = ""
    kind: CaseKind | None = None


class FlatSearch:
    """Rows in memory, all of them scored: for some thousands."""

    def __init__(self, vectors: Rows) -> None:
        self._vectors = unit(vectors).astype(np.float64)

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return the `k` nearest rows; see `Searcher`."""
        found = []
        for one, query in enumerate(queries.astype(np.float64)):
            scores = np.einsum("nd,d->n", self._vectors, query)
            counts = np.ones(len(scores), dtype=np.bool_)
            if allowed is not None:
                counts &= allowed
            if without is not None:
                counts[without[one]] = False
            rows = np.flatnonzero(counts)
            order = np.lexsort((rows, -scores[rows]))[:k]
            found.append(Nearest(rows=rows[order], scores=scores[rows[order]]))
        return found


def unit(vectors: Rows) -> Rows:
    """Return the rows made unit."""
    wide = vectors.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    rows: Rows = wide.astype(np.float32)
    return rows
