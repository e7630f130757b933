"""The same search in Milvus: for sites that have one, held to the same answers.

A collection holds the vectors, their numbers and pictures. Its index is FLAT, so that it
finds what an exact search finds; what it finds comes with its vectors, is checked against
the atlas's own columns, and scored again in double precision as every search does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent, Transient
from workers.atlas.codes import Rows, quantise
from workers.atlas.columns import Columns
from workers.atlas.scan import Nearest, Places, score_rows

KEY, VECTOR, TEXT = "row", "vector", "content"
MOST_TEXT = 65_535
"""Bytes of a text, at most."""

_PATIENCE_S = 10.0
_SAME = 1e-5
"""By what share scales may differ that two processors computed."""


class MilvusSearch:
    """A collection that was filled from an atlas.

    Parameters
    ----------
    count
        How many rows the atlas has, removed ones included.
    columns
        What the vectors have to agree with.
    """

    def __init__(
        self, client: Any, collection: str, count: int, columns: Columns
    ) -> None:
        self._client = client
        self._collection = collection
        self._count = count
        self._columns = columns

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return the `k` nearest rows; see `workers.atlas.searching.Searcher`.

        Raises
        ------
        Transient
            If Milvus does not answer.
        Permanent
            If what it holds are not the vectors of the atlas.
        """
        nobody = np.zeros(0, dtype=np.int64)
        left_out = list(without) if without else [nobody] * len(queries)
        return [
            self._one(query, k, self._counting(allowed, out))
            for query, out in zip(queries, left_out, strict=True)
        ]

    def _one(self, query: Rows, k: int, counts: str) -> Nearest:
        with answering():
            found = self._client.search(
                collection_name=self._collection,
                data=[query.tolist()],
                limit=min(2 * k, self._count),
                filter=counts,
                output_fields=[VECTOR],
                search_params={"metric_type": "IP"},
            )
        rows = np.array([int(hit[KEY]) for hit in found[0]], dtype=np.int64)
        vectors = np.array([hit["entity"][VECTOR] for hit in found[0]], np.float32)
        vectors = vectors.reshape(len(rows), len(query))
        self._check(rows, vectors)
        here = np.arange(len(rows))
        scores = score_rows(vectors, here, query.astype(np.float64))
        order = np.lexsort((rows, -scores))[:k]
        return Nearest(rows=rows[order], scores=scores[order])

    def _check(self, rows: Places, vectors: Rows) -> None:
        """Accept vectors that have the codes of the atlas's."""
        columns = self._columns
        codes = quantise(vectors, columns.mean)
        same = (rows < self._count).all() and all(
            np.allclose(found, told[rows], rtol=_SAME)
            for found, told in (
                (codes.scale, columns.scale),
                (codes.length, columns.length),
            )
        )
        if not same:
            raise Permanent(
                f"collection {self._collection} holds other vectors than its atlas: "
                "publish it again"
            )

    def _counting(self, allowed: NDArray[np.bool_] | None, without: Places) -> str:
        """Return which rows count, as Milvus' expressions have it.

        Cases of one kind, modality and body part lie together: a few runs of rows.
        """
        counts = np.ones(self._count, dtype=np.bool_)
        if allowed is not None:
            counts &= allowed
        counts[without] = False
        if counts.all():
            return ""
        edges = np.flatnonzero(np.diff(np.pad(counts.astype(np.int8), 1)))
        runs = [f"({KEY} >= {a} and {KEY} < {b})" for a, b in edges.reshape(-1, 2)]
        return " or ".join(runs) or f"{KEY} < 0"


def connect(uri: str, token: str = "") -> Any:
    """Return a client.

    Parameters
    ----------
    uri
        Of a server, or a file for Milvus Lite.

    Raises
    ------
    Permanent
        If pymilvus is not installed.
    Transient
        If nothing answers there, or not to this token.
    """
    try:
        from pymilvus import MilvusClient  # noqa: PLC0415 - optional
    except ImportError as error:
        raise Permanent(
            "an atlas in Milvus needs pymilvus: install pacsight[milvus]"
        ) from error
    with answering(f" at {uri}"):
        return MilvusClient(uri, token=token, timeout=_PATIENCE_S)


@contextmanager
def answering(where: str = "") -> Iterator[None]:
    """Raise what Milvus complains of as an error of ours.

    Raises
    ------
    Transient
        Whatever it is: the server is busy, away, or does not let us in.
    """
    from pymilvus.exceptions import MilvusException  # noqa: PLC0415 - optional

    try:
        yield
    except MilvusException as error:
        raise Transient(f"Milvus{where} does not do it: {error.message}") from error


def make_collection(client: Any, name: str, dimension: int) -> None:
    """Make an empty collection of vectors and texts; one of that name is replaced."""
    from pymilvus import DataType  # noqa: PLC0415 - optional

    schema = client.create_schema(auto_id=False)
    schema.add_field(KEY, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field(TEXT, DataType.VARCHAR, max_length=MOST_TEXT)
    index = client.prepare_index_params()
    index.add_index(field_name=VECTOR, index_type="FLAT", metric_type="IP")
    if client.has_collection(name):
        client.drop_collection(name)
    client.create_collection(
        collection_name=name,
        schema=schema,
        consistency_level="Strong",  # what is written is found at once
    )
    # not waited for: nothing is searched before the collection is loaded
    client.create_index(collection_name=name, index_params=index, sync=False)


def texts_of(client: Any, name: str, keys: range) -> list[str]:
    """Return the texts of some rows, in order; of rows that are not there, none."""
    found = client.query(
        collection_name=name,
        filter=f"{KEY} >= {keys.start} and {KEY} < {keys.stop}",
        output_fields=[KEY, TEXT],
    )
    return [one[TEXT] for one in sorted(found, key=lambda one: int(one[KEY]))]


def rows_in(client: Any, name: str) -> int:
    """Return how many rows a collection has."""
    found = client.query(collection_name=name, filter="", output_fields=["count(*)"])
    return int(found[0]["count(*)"])
