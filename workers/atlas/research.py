"""Files of embeddings, searched like an atlas: for research, since results name instances.

Frames are compared with frames, and whole volumes with whole volumes; a volume goes by
the UID of its series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dicom_node.domain import EncoderKey
from dicom_node.errors import Permanent
from workers.atlas.answering import Answer, Asking, Hit
from workers.atlas.asking import Question
from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.atlas.comparing import METHOD
from workers.atlas.link import NOT_CHECKED
from workers.atlas.searchable import best_of
from workers.atlas.searching import Filters, FlatSearch, unit
from workers.cohort import EmbeddingFile
from workers.volumes import Kind, volume_embedding


class Drawing(Protocol):
    """Draws a frame of an instance, as PNG."""

    def __call__(self, instance: str, frame: int) -> bytes:
        """Return the PNG; empty where there is none."""
        ...


def no_picture(instance: str, frame: int) -> bytes:  # noqa: ARG001 - a `Drawing`
    """Return no picture."""
    return b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResearchShelf:
    """Embeddings of one's own.

    Parameters
    ----------
    files
        Of one encoder.
    pictures
        PNG of an instance's frame; empty where there is none.
    """

    files: tuple[EmbeddingFile, ...]
    pictures: Drawing

    def __post_init__(self) -> None:
        first = self.files[0]
        for other in self.files[1:]:
            if other.encoder_key != first.encoder_key:
                raise Permanent(f"{other.path} and {first.path} are of two encoders")

    def check_encoder(self, key: EncoderKey, whose: str) -> None:
        """Accept an encoder of which the embeddings can be compared with these."""
        if key != self.files[0].encoder_key:
            raise Permanent(f"{self.files[0].path} is of another encoder than {whose}")

    def answer(self, question: Question, k: int, filters: Filters) -> Answer:
        """Return the `k` nearest images, or volumes, of other studies."""
        if filters.modality or filters.body_part:
            raise Permanent("a file of embeddings says nothing to filter by")
        volumes = _volumes(self.files)
        kinds = [CaseKind.IMAGE, *([CaseKind.VOLUME] if volumes else [])]
        wanted = filters.kind
        if wanted is None and question.asker is None:
            wanted = CaseKind.IMAGE  # a text describes what an image shows
        asking = Asking.of(question, kinds, wanted)
        whole = asking.among is CaseKind.VOLUME
        places = volumes if whole else _frames(self.files)
        own = question.asker.studies if question.asker else frozenset[str]()
        other = np.array([place.study not in own for place in places], dtype=np.bool_)
        vectors = np.array([place.vector for place in places])
        each = FlatSearch(vectors).search(unit(asking.vectors), k, allowed=other)
        best = best_of(each, k)
        checked = "" if question.asker is None else NOT_CHECKED
        return Answer(
            question=question.words,
            source=", ".join(str(file.path) for file in self.files),
            compared=asking.words,
            hits=tuple(
                self._hit(places[int(row)], float(score))
                for row, score in zip(best.rows, best.scores, strict=True)
            ),
            remark="; ".join(filter(None, (*asking.remarks, checked))),
        )

    def _hit(self, place: "_Place", similarity: float) -> Hit:
        file, row = place.file, place.rows[len(place.rows) // 2]
        instance, frame = file.sop_instances[row], int(file.frames[row])
        whole = place.kind is CaseKind.VOLUME
        what = f"{len(place.rows)} slices" if whole else f"frame {frame + 1}"
        return Hit(
            name=file.series[row] if whole else instance,
            similarity=similarity,
            kind=place.kind,
            about=f"{what}, study {place.study}",
            picture=self.pictures(instance, frame),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """Rows of a file that are found together: a frame, or the slices of a volume."""

    file: EmbeddingFile
    rows: Sequence[int]

    @property
    def kind(self) -> CaseKind:
        return CaseKind.VOLUME if len(self.rows) > 1 else CaseKind.IMAGE

    @property
    def study(self) -> str:
        return self.file.studies[self.rows[0]]

    @property
    def vector(self) -> Rows:
        """Return what stands for it, (D,) float32."""
        vectors = self.file.vectors[self.rows]
        return volume_embedding(vectors, METHOD) if len(self.rows) > 1 else vectors[0]


def _frames(files: Sequence[EmbeddingFile]) -> list[_Place]:
    return [
        _Place(file=file, rows=[row])
        for file in files
        for row in range(len(file.sop_instances))
    ]


def _volumes(files: Sequence[EmbeddingFile]) -> list[_Place]:
    """Return the whole volumes, of localisers none."""
    found = list[_Place]()
    for file in files:
        runs = dict[int, list[int]]()
        for row, volume in enumerate(file.volumes.tolist()):
            runs.setdefault(volume, []).append(row)
        found += [
            _Place(file=file, rows=rows)
            for volume, rows in runs.items()
            if len(rows) > 1 and file.kind_of(volume) != Kind.LOCALISER
        ]
    return found
