"""Exact search: what the scan in eight bits leaves, scored in full, is the answer."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.atlas.approximate import ApproximateSearch, build_index, recall_of
from workers.atlas.codes import Codes, Rows, mean_of, quantise
from workers.atlas.scan import TILE, ExactScan, Nearest
from workers.atlas.searching import FlatSearch

TIE = 1e-6


def unit(vectors: NDArray[np.float64]) -> Rows:
    """Return rows of length one."""
    rows: Rows = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        np.float32
    )
    return rows


def scan_of(vectors: Rows, *, threads: int = 1) -> ExactScan:
    """Return a scan of rows in memory."""
    mean = mean_of(vectors)
    return ExactScan(vectors, quantise(vectors, mean), mean, threads=threads)


def assert_same_as_faiss(vectors: Rows, queries: Rows, k: int) -> None:
    """Compare with IndexFlatIP, ties apart."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    scores, rows = flat.search(queries, min(k, len(vectors)))
    found = scan_of(vectors).search(queries, k)
    for one, theirs, values in zip(found, rows, scores, strict=True):
        np.testing.assert_allclose(one.scores, values, atol=TIE)
        strange = one.scores[~np.isin(one.rows, theirs)]
        np.testing.assert_allclose(strange, np.full(len(strange), values[-1]), atol=TIE)


@given(
    rows=st.integers(1, 3 * TILE // 2),
    dimension=st.sampled_from([4, 48, 64, 200]),
    spread=st.sampled_from([1.0, 1e-1, 1e-3, 1e-6, 0.0]),
    k=st.integers(1, 12),
    seed=st.integers(0, 1 << 16),
)
@settings(max_examples=30, deadline=None)
def test_the_nearest_are_those_of_faiss(
    rows: int, dimension: int, spread: float, k: int, seed: int
) -> None:
    """Also of rows that differ by less than their codes do, or not at all."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, dimension))
    noise = spread * rng.normal(size=(rows, dimension))
    vectors = unit(centres[rng.integers(0, 3, rows)] + noise)
    queries = unit(
        np.concatenate([centres, rng.normal(size=(4, dimension))])
        + spread * rng.normal(size=(7, dimension))
    )
    assert_same_as_faiss(vectors, queries, k)


def test_rows_that_one_code_cannot_tell_apart() -> None:
    """The codes of all rows are the same; in full they differ, and that decides."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=64)
    steps = 1e-5 * np.arange(5000)[:, None]
    away = rng.permutation(5000)
    vectors = unit(base + steps[away] * rng.normal(size=64))
    found = scan_of(vectors).search(unit(base[None]), 10)[0]
    truth = vectors.astype(np.float64) @ unit(base[None])[0].astype(np.float64)
    order = np.lexsort((np.arange(5000), -truth))[:10]
    assert found.rows.tolist() == order.tolist()


def test_equal_rows_come_in_their_order() -> None:
    """Whatever the batch, the threads, and what else is asked."""
    vectors = unit(np.tile(np.random.default_rng(0).normal(size=(3, 32)), (200, 1)))
    alone = scan_of(vectors).search(vectors[:1], 5)[0]
    assert alone.rows.tolist() == [0, 3, 6, 9, 12]
    many = scan_of(vectors, threads=3).search(vectors[:70], 5)
    assert many[0].rows.tolist() == alone.rows.tolist()
    assert many[0].scores.tolist() == alone.scores.tolist()


@given(seed=st.integers(0, 1 << 16), scale=st.sampled_from([1e-6, 1.0, 1e3]))
@settings(max_examples=40, deadline=None)
def test_a_code_never_promises_less_than_there_is(seed: int, scale: float) -> None:
    """The score of a row lies within the bound around that of its code."""
    rng = np.random.default_rng(seed)
    vectors = (scale * rng.standard_cauchy((50, 24))).astype(np.float32)
    query = rng.normal(size=24)
    mean = mean_of(vectors)
    codes = quantise(vectors, mean)
    said = codes.codes * codes.scale.astype(np.float64)[:, None] + mean
    off = np.abs((vectors.astype(np.float64) - said) @ query)
    assert (off <= np.linalg.norm(query) * codes.residual.astype(np.float64)).all()
    lengths = np.linalg.norm(said - mean, axis=1)
    assert (lengths <= codes.length.astype(np.float64) * (1 + 1e-12)).all()


def test_coarse_codes_cost_time_not_the_answer() -> None:
    """With codes that say nothing, every row is scored in full."""
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(6000, 32)))
    blank = Codes(
        codes=np.zeros((6000, 32), np.int8),
        scale=np.ones(6000, np.float32),
        residual=np.full(6000, 1.01, np.float32),
        length=np.zeros(6000, np.float32),
    )
    blind = ExactScan(vectors, blank, np.zeros(32, np.float32), threads=1)
    queries = unit(rng.normal(size=(5, 32)))
    for one, other in zip(
        blind.search(queries, 10), scan_of(vectors).search(queries, 10), strict=True
    ):
        assert one.rows.tolist() == other.rows.tolist()


def test_rows_that_do_not_count_are_not_found() -> None:
    """Filters hold for all queries, exclusions for one; the rest is as without them."""
    rng = np.random.default_rng(6)
    vectors = unit(rng.normal(size=(9000, 48)))
    queries = unit(rng.normal(size=(6, 48)))
    allowed = rng.random(9000) < 0.3
    without = [rng.choice(9000, 400, replace=False) for _ in queries]
    found = scan_of(vectors).search(queries, 10, allowed=allowed, without=without)
    expected = FlatSearch(vectors).search(queries, 10, allowed=allowed, without=without)
    assert rows_of(found) == rows_of(expected)


def test_fewer_rows_than_are_wanted() -> None:
    """All that count are found, and no more."""
    vectors = unit(np.random.default_rng(7).normal(size=(100, 16)))
    allowed = np.zeros(100, dtype=np.bool_)
    allowed[[3, 50, 99]] = True
    found = scan_of(vectors).search(vectors[:2], 10, allowed=allowed)
    assert [sorted(one.rows.tolist()) for one in found] == [[3, 50, 99]] * 2
    allowed[:] = False
    assert rows_of(scan_of(vectors).search(vectors[:1], 10, allowed=allowed)) == [[]]


def test_the_index_finds_most(tmp_path_factory: pytest.TempPathFactory) -> None:
    """On clusters: as many as were measured when it was made, at least nearly."""
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(50, 64))
    drawn = centres[rng.integers(0, 50, 8200)] + 0.4 * rng.normal(size=(8200, 64))
    vectors, queries = unit(drawn[:8000]), unit(drawn[8000:])
    scan = scan_of(vectors)
    path = tmp_path_factory.mktemp("index") / "approximate.faiss"
    spec = build_index(vectors, scan, path)
    search = ApproximateSearch.open(path, vectors, spec)
    recall = recall_of(search.search(queries, 10), scan.search(queries, 10))
    assert recall >= 0.98
    allowed = np.zeros(8000, dtype=np.bool_)
    allowed[:4000] = True
    out = [np.arange(2000)] * len(queries)
    limited = search.search(queries, 10, allowed=allowed, without=out)
    assert all(2000 <= row < 4000 for one in limited for row in one.rows)


def rows_of(found: list[Nearest]) -> list[list[int]]:
    """Return the rows of all answers."""
    return [one.rows.tolist() for one in found]
