"""Answers to a question, from an atlas or from any file of embeddings: hits, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from dicom_node.domain import EncoderKey
from dicom_node.errors import Permanent
from workers.atlas.asking import Question
from workers.atlas.columns import CaseKind
from workers.atlas.link import NOT_CHECKED
from workers.atlas.opened import OpenAtlas, best_of
from workers.atlas.searching import Filters, FlatSearch, unit
from workers.cohort import EmbeddingFile
from workers.encoder import Encoder
from workers.labels import label_weights, shares
from workers.volumes import volume_embedding


class Drawing(Protocol):
    """Draws a frame of an instance, as PNG."""

    def __call__(self, instance: str, frame: int) -> bytes:
        """Return the PNG; empty where there is none."""
        ...


def no_picture(instance: str, frame: int) -> bytes:  # noqa: ARG001 - a `Drawing`
    """Return no picture."""
    return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A case, or an image of a research file, that was found.

    Parameters
    ----------
    labelled
        Whether anybody looked for findings: then no labels mean none of them.
    about
        Modality, body part and the like, for people.
    picture
        PNG; empty for none.
    """

    name: str
    similarity: float
    labels: tuple[str, ...] = ()
    labelled: bool = False
    about: str = ""
    established_by: str = ""
    picture: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRank:
    """How well a text fits a picture.

    Parameters
    ----------
    share
        Of all texts that were given; no probability.
    """

    text: str
    similarity: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found, best first.

    Parameters
    ----------
    source
        What was searched.
    """

    question: str
    source: str
    hits: tuple[Hit, ...] = ()
    prompts: tuple[PromptRank, ...] = ()
    remark: str = ""

    def with_prompts(self, prompts: tuple[PromptRank, ...]) -> "Answer":
        """Return the same answer, with texts ranked."""
        return replace(self, prompts=prompts)

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "question": self.question,
            "source": self.source,
            "remark": self.remark,
            "hits": [
                {
                    "name": hit.name,
                    "similarity": round(hit.similarity, 6),
                    "labels": list(hit.labels),
                    "about": hit.about,
                    "established_by": hit.established_by,
                }
                for hit in self.hits
            ],
            "prompts": [
                {
                    "text": one.text,
                    "similarity": round(one.similarity, 6),
                    "share": round(one.share, 6),
                }
                for one in self.prompts
            ],
        }


class Shelf(Protocol):
    """What can be searched: an atlas, or a file of embeddings."""

    def check_encoder(self, key: EncoderKey, whose: str) -> None:
        """Accept an encoder of which the embeddings can be compared with these."""
        ...

    def answer(self, question: Question, k: int, filters: Filters) -> Answer:
        """Return the `k` nearest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasShelf:
    """An atlas that is searched."""

    atlas: OpenAtlas
    approximate: bool = False

    def check_encoder(self, key: EncoderKey, whose: str) -> None:
        """Accept an encoder of which the embeddings can be compared with these."""
        self.atlas.check_encoder(key, whose)

    def answer(self, question: Question, k: int, filters: Filters) -> Answer:
        """Return the `k` nearest cases."""
        atlas, manifest = self.atlas, self.atlas.manifest
        vectors, kind = atlas.as_asked(question.vectors, question.modality, filters)
        limits = Filters(
            modality=filters.modality, body_part=filters.body_part, kind=kind
        )
        found, remark = atlas.rows(
            vectors,
            k,
            filters=limits,
            asker=question.asker,
            approximate=self.approximate,
        )
        return Answer(
            question=question.words,
            source=f"{manifest.name} {manifest.version}, sha256:{atlas.digest}",
            hits=tuple(
                self._hit(int(row), float(score))
                for row, score in zip(found.rows, found.scores, strict=True)
            ),
            remark="" if question.asker is None else remark,
        )

    def _hit(self, row: int, similarity: float) -> Hit:
        atlas = self.atlas
        case = atlas.case(row, similarity)
        kind = CaseKind(int(atlas.columns.kind[row])).name.lower()
        modality = atlas.manifest.modalities[atlas.columns.modality[row]]
        part = atlas.manifest.body_parts[atlas.columns.body_part[row]]
        return Hit(
            name=case.identifier,
            similarity=similarity,
            labels=tuple(label.meaning for label in case.labels),
            labelled=True,
            about=" ".join(filter(None, (modality, part, kind))),
            established_by=case.established_by,
            picture=atlas.thumbnail(row),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResearchShelf:
    """Embeddings of one's own, for research: results name instances, not cases.

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
        """Return the `k` nearest images of other studies."""
        if filters.modality or filters.body_part or filters.kind is not None:
            raise Permanent("a file of embeddings says nothing to filter by")
        places = [(f, row) for f in self.files for row in range(len(f.sop_instances))]
        vectors = np.concatenate([file.vectors for file in self.files])
        own = question.asker.studies if question.asker else frozenset[str]()
        other = np.array([file.studies[row] not in own for file, row in places])
        each = FlatSearch(vectors).search(unit(question.vectors), k, allowed=other)
        best = best_of(each, k)
        return Answer(
            question=question.words,
            source=", ".join(str(file.path) for file in self.files),
            hits=tuple(
                self._hit(*places[int(row)], float(score))
                for row, score in zip(best.rows, best.scores, strict=True)
            ),
            remark="" if question.asker is None else NOT_CHECKED,
        )

    def _hit(self, file: EmbeddingFile, row: int, similarity: float) -> Hit:
        instance, frame = file.sop_instances[row], int(file.frames[row])
        return Hit(
            name=instance,
            similarity=similarity,
            about=f"frame {frame + 1}, study {file.studies[row]}",
            picture=self.pictures(instance, frame),
        )


def rank_prompts(
    question: Question, prompts: Sequence[str], encoder: Encoder
) -> tuple[PromptRank, ...]:
    """Return how well texts fit what is searched with, best first."""
    texts = encoder.embed_texts(prompts)
    head = label_weights(
        [text[None] for text in texts], logit_scale=encoder.logit_scale
    )
    of_study, _ = shares(head, question.vectors)
    mean = volume_embedding(question.vectors, "unit-mean")
    similar = texts.astype(np.float64) @ mean
    order = np.argsort(-similar, kind="stable")
    return tuple(
        PromptRank(
            text=prompts[one],
            similarity=float(similar[one]),
            share=float(of_study[one]),
        )
        for one in order
    )
