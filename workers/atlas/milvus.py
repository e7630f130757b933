"""The same search in Milvus: for sites that have one, held to the same answers.

A collection holds the vectors and their numbers; names, labels and pictures stay in the
atlas. Identifiers of patients are in neither.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.atlas.codes import Rows
from workers.atlas.scan import Nearest, Places, score_rows

_VECTOR, _KEY = "vector", "row"
_AT_ONCE = 1000


class MilvusSearch:
    """A collection, and the vectors of the atlas that it was filled from.

    What Milvus finds is scored again in double precision, as every other search does.
    Its index is FLAT, so that it finds what an exact search finds.

    Parameters
    ----------
    uri
        Of a server, or a file for Milvus Lite.
    """

    def __init__(self, uri: str, collection: str, vectors: Rows) -> None:
        self._client = _client(uri)
        self._collection = collection
        self._vectors = vectors

    def fill(self) -> None:
        """Write all vectors into a new collection; one of that name is replaced."""
        client, name = self._client, self._collection
        if client.has_collection(name):
            client.drop_collection(name)
        index = client.prepare_index_params()
        index.add_index(field_name=_VECTOR, index_type="FLAT", metric_type="IP")
        client.create_collection(
            collection_name=name, schema=self._schema(), index_params=index
        )
        for start in range(0, len(self._vectors), _AT_ONCE):
            part = self._vectors[start : start + _AT_ONCE]
            rows = [
                {_KEY: start + place, _VECTOR: vector}
                for place, vector in enumerate(part)
            ]
            client.insert(collection_name=name, data=rows)
        client.load_collection(name)

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        without: Sequence[Places] | None = None,
    ) -> list[Nearest]:
        """Return the `k` nearest rows; see `workers.atlas.searching.Searcher`."""
        nobody = np.zeros(0, dtype=np.int64)
        left_out = list(without) if without else [nobody] * len(queries)
        return [
            self._one(query, k, self._counting(allowed, out))
            for query, out in zip(queries, left_out, strict=True)
        ]

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _one(self, query: Rows, k: int, counts: str) -> Nearest:
        found = self._client.search(
            collection_name=self._collection,
            data=[query.tolist()],
            limit=min(2 * k, len(self._vectors)),
            filter=counts,
            search_params={"metric_type": "IP"},
        )
        rows = np.array([int(hit[_KEY]) for hit in found[0]], dtype=np.int64)
        scores = score_rows(self._vectors, rows, query.astype(np.float64))
        order = np.lexsort((rows, -scores))[:k]
        return Nearest(rows=rows[order], scores=scores[order])

    def _counting(self, allowed: NDArray[np.bool_] | None, without: Places) -> str:
        """Return which rows count, as Milvus' expressions have it.

        Cases of one kind, modality and body part lie together: a few runs of rows.
        """
        counts = np.ones(len(self._vectors), dtype=np.bool_)
        if allowed is not None:
            counts &= allowed
        counts[without] = False
        if counts.all():
            return ""
        edges = np.flatnonzero(np.diff(np.pad(counts.astype(np.int8), 1)))
        runs = [f"({_KEY} >= {a} and {_KEY} < {b})" for a, b in edges.reshape(-1, 2)]
        return " or ".join(runs) or f"{_KEY} < 0"

    def _schema(self) -> Any:
        from pymilvus import DataType  # noqa: PLC0415 - optional

        schema = self._client.create_schema(auto_id=False)
        schema.add_field(_KEY, DataType.INT64, is_primary=True)
        dimension = self._vectors.shape[1]
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
        return schema


def _client(uri: str) -> Any:
    try:
        from pymilvus import MilvusClient  # noqa: PLC0415 - optional
    except ImportError as error:
        raise Permanent(
            "an atlas in Milvus needs pymilvus: install pacsight[milvus]"
        ) from error
    return MilvusClient(uri)
