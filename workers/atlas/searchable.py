"""An atlas that answers, wherever it lies: the same cases, filters and exclusions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import AtlasSearch, EncoderKey, ReferenceCase, Sha256
from dicom_node.errors import Permanent
from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind, Columns
from workers.atlas.comparing import Compared, compare
from workers.atlas.link import NOT_CHECKED, Asker, Link
from workers.atlas.manifest import AtlasManifest
from workers.atlas.scan import Nearest, Places
from workers.atlas.searching import Filters, Searcher, unit
from workers.cohort import Truth


class ExamLike(Protocol):
    """What is asked of an exam: which modality and body part its header states."""

    @property
    def modality(self) -> str:
        """Return Modality (0008,0060)."""
        ...

    @property
    def body_part(self) -> str:
        """Return BodyPartExamined (0018,0015); empty where unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searchable(ABC):
    """An atlas, open: `OpenAtlas` in a folder, `PublishedAtlas` in Milvus.

    Parameters
    ----------
    alive
        (N,): cases without a tombstone.
    exact, approximate
        The second is None where no index was made.
    link
        None where the link file is not here.
    """

    manifest: AtlasManifest
    digest: Sha256
    columns: Columns
    alive: NDArray[np.bool_]
    exact: Searcher
    approximate: Searcher | None
    link: Link | None

    @property
    @abstractmethod
    def place(self) -> str:
        """Return where it lies, for messages."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what it holds open."""

    @abstractmethod
    def thumbnail(self, row: int) -> bytes:
        """Return the PNG of a case; empty where there is none."""

    def nearest(
        self,
        runs: Sequence[Rows],
        exam: ExamLike,
        k: int,
        *,
        asker: Asker | None = None,
    ) -> AtlasSearch | None:
        """Return the cases that resemble a study most, of its modality and body part.

        Whole volumes are compared with whole volumes where the atlas has some of that
        modality; otherwise each image is compared with images. A case counts by the one
        that it resembles most. Of an exam without a body part, all count.

        Parameters
        ----------
        runs
            Of each volume of the study its slices (n, D) float32, of each image one row.
        asker
            Whose study it is.

        Returns
        -------
        AtlasSearch or None
            None where the atlas has no case of the kind.
        """
        if not runs:
            return None
        filters = Filters(modality=exam.modality, body_part=exam.body_part)
        compared = self.compared(runs, filters)
        filters = replace(filters, kind=compared.among)
        if not self.counting(filters).any():
            return None
        return self.search(compared.vectors, k, filters=filters, asker=asker)

    def compared(self, runs: Sequence[Rows], filters: Filters) -> Compared:
        """Return what is compared with what where `runs` ask, see `nearest`."""
        method = self.manifest.volume_embedding
        kinds = self.kinds(replace(filters, kind=None))
        return compare(runs, kinds, wanted=filters.kind, method=method)

    def kinds(self, filters: Filters) -> tuple[CaseKind, ...]:
        """Return of which kinds the cases that count are."""
        found = np.unique(self.columns.kind[self.counting(filters)]).tolist()
        return tuple(map(CaseKind, found))

    def search(
        self,
        vectors: Rows,
        k: int,
        *,
        filters: Filters | None = None,
        asker: Asker | None = None,
        approximate: bool = False,
    ) -> AtlasSearch:
        """Return the `k` cases nearest to any of `vectors` (Q, D)."""
        found, remark = self.rows(
            vectors, k, filters=filters, asker=asker, approximate=approximate
        )
        return AtlasSearch(
            atlas=self.manifest.name,
            version=self.manifest.version,
            digest=self.digest,
            metric=self.manifest.metric,
            cases=tuple(
                self.case(int(row), float(score))
                for row, score in zip(found.rows, found.scores, strict=True)
            ),
            remark=remark,
        )

    def rows(
        self,
        vectors: Rows,
        k: int,
        *,
        filters: Filters | None = None,
        asker: Asker | None = None,
        approximate: bool = False,
    ) -> tuple[Nearest, str]:
        """Return the `k` rows nearest to any of `vectors`, and a remark on the answer.

        Raises
        ------
        Permanent
            If the vectors are of another length, or no index was made.
        """
        self._check(vectors)
        searcher = self.approximate if approximate else self.exact
        if searcher is None:
            raise Permanent(f"{self.place} has no index: build it with --approximate")
        own, remark = self._own(asker)
        allowed = self.counting(filters or Filters())
        each = searcher.search(
            unit(vectors),
            k,
            allowed=None if allowed.all() else allowed,
            without=[own] * len(vectors),
        )
        return best_of(each, k), remark

    def counting(self, filters: Filters) -> NDArray[np.bool_]:
        """Return which cases count, (N,)."""
        columns, counts = self.columns, self.alive.copy()
        if filters.modality:
            names = self.manifest.modalities
            counts &= columns.modality == _place(filters.modality, names)
        if filters.body_part:
            names = self.manifest.body_parts
            counts &= columns.body_part == _place(filters.body_part, names)
        if filters.kind is not None:
            counts &= columns.kind == filters.kind
        return counts

    def case(self, row: int, similarity: float) -> ReferenceCase:
        """Return what is told of a case."""
        present = np.flatnonzero(self.columns.truth[row] == Truth.PRESENT)
        said = self.columns.source[row]
        by = sorted({self.manifest.sources[s] for s in said[said >= 0]})
        return ReferenceCase(
            identifier=self.identifier(row),
            similarity=similarity,
            labels=tuple(self.manifest.labels[label].concept for label in present),
            established_by=", ".join(by),
        )

    def identifier(self, row: int) -> str:
        """Return the identifier of a case."""
        return bytes(self.columns.identifier[row]).decode()

    def row_of(self, identifier: str) -> int:
        """Return which case has an identifier.

        Raises
        ------
        Permanent
            If none has.
        """
        found = np.flatnonzero(self.columns.identifier == identifier.encode())
        if not len(found) or not self.alive[found[0]]:
            raise Permanent(f"{self.place} has no case {identifier}")
        return int(found[0])

    def check_encoder(self, key: EncoderKey, whose: str) -> None:
        """Accept embeddings that can be compared with those of the atlas.

        Raises
        ------
        Permanent
            If another encoder made them, another preprocessing, or another precision.
        """
        for name in ("encoder", "preprocessing", "profile"):
            found, needed = getattr(key, name), getattr(self.manifest.encoder, name)
            if found != needed:
                raise Permanent(
                    f"atlas {self.manifest.name} was made with {name} {needed}, "
                    f"and {whose} has {found or 'none'}"
                )

    def _own(self, asker: Asker | None) -> tuple[Places, str]:
        """Return the rows of the asker's patient, and whether that could be told."""
        nobody = np.zeros(0, dtype=np.int64)
        if self.link is None or asker is None:
            return nobody, NOT_CHECKED
        groups, told = self.link.groups_of(asker)
        rows = np.flatnonzero(np.isin(self.columns.group, list(groups)))
        return rows, "" if told else NOT_CHECKED

    def _check(self, vectors: Rows) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self.manifest.dimension:  # noqa: PLR2004 - (Q, D)
            raise Permanent(
                f"atlas {self.manifest.name} has embeddings of "
                f"{self.manifest.dimension} numbers, not {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise Permanent("an embedding to search with is no row of numbers")


def best_of(each: list[Nearest], k: int) -> Nearest:
    """Return the `k` best rows of several queries, each row by its best score."""
    rows = np.concatenate([one.rows for one in each])
    scores = np.concatenate([one.scores for one in each])
    order = np.lexsort((rows, -scores))
    _, first = np.unique(rows[order], return_index=True)
    kept = order[np.sort(first)][:k]
    return Nearest(rows=rows[kept], scores=scores[kept])


def _place(name: str, names: tuple[str, ...]) -> int:
    return names.index(name.upper()) if name.upper() in names else -1
