"""Answers to a question: hits, in order, and what was compared with what."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from dicom_node.domain import EncoderKey
from dicom_node.errors import Permanent
from workers.atlas.asking import Question
from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.atlas.comparing import METHOD, compare, counted, of_kind
from workers.atlas.searchable import Searchable
from workers.atlas.searching import Filters
from workers.encoder import Encoder
from workers.labels import label_weights, shares
from workers.manifest import VolumeMethod
from workers.volumes import volume_embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A case, or an image of a research file, that was found.

    Parameters
    ----------
    kind
        What it is: never compared with another unless the answer says so.
    labelled
        Whether anybody looked for findings: then no labels mean none of them.
    about
        Modality, body part and the like, for people.
    picture
        PNG; empty for none.
    """

    name: str
    similarity: float
    kind: CaseKind = CaseKind.IMAGE
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
    compared
        What with what, e.g. ``1 volume with volumes``.
    """

    question: str
    source: str
    compared: str = ""
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
            "compared": self.compared,
            "remark": self.remark,
            "hits": [
                {
                    "name": hit.name,
                    "kind": hit.kind.name.lower(),
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

    atlas: Searchable
    approximate: bool = False

    def check_encoder(self, key: EncoderKey, whose: str) -> None:
        """Accept an encoder of which the embeddings can be compared with these."""
        self.atlas.check_encoder(key, whose)

    def answer(self, question: Question, k: int, filters: Filters) -> Answer:
        """Return the `k` nearest cases.

        Raises
        ------
        Permanent
            If only cases of the other kind are there, and that is not what was asked.
        """
        atlas, manifest = self.atlas, self.atlas.manifest
        kinds = atlas.kinds(replace(filters, kind=None))
        asking = Asking.of(question, kinds, filters.kind, manifest.volume_embedding)
        found, remark = atlas.rows(
            asking.vectors,
            k,
            filters=replace(filters, kind=asking.among),
            asker=question.asker,
            approximate=self.approximate,
        )
        checked = "" if question.asker is None else remark
        return Answer(
            question=question.words,
            source=f"{manifest.name} {manifest.version}, sha256:{atlas.digest}",
            compared=asking.words,
            hits=tuple(
                self._hit(int(row), float(score))
                for row, score in zip(found.rows, found.scores, strict=True)
            ),
            remark="; ".join(filter(None, (*asking.remarks, checked))),
        )

    def _hit(self, row: int, similarity: float) -> Hit:
        atlas = self.atlas
        case = atlas.case(row, similarity)
        modality = atlas.manifest.modalities[atlas.columns.modality[row]]
        part = atlas.manifest.body_parts[atlas.columns.body_part[row]]
        return Hit(
            name=case.identifier,
            similarity=similarity,
            kind=CaseKind(int(atlas.columns.kind[row])),
            labels=tuple(label.meaning for label in case.labels),
            labelled=True,
            about=" ".join(filter(None, (modality, part))),
            established_by=case.established_by,
            picture=atlas.thumbnail(row),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asking:
    """A question as it is put to a shelf.

    Parameters
    ----------
    vectors
        (Q, D) float32.
    among
        Of which kind an answer is; None for any.
    words
        What is compared with what.
    """

    vectors: Rows
    among: CaseKind | None
    words: str
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        question: Question,
        kinds: Collection[CaseKind],
        wanted: CaseKind | None,
        method: VolumeMethod = METHOD,
    ) -> "Asking":
        """Return how `question` is put where `kinds` are there to compare with.

        Raises
        ------
        Permanent
            If there is only the other kind, and that is not `wanted`.
        """
        if question.asker is None:
            among = [wanted] if wanted is not None else sorted(kinds)
            words = (
                f"the text with {' and '.join(map(of_kind, among))}" if among else ""
            )
            return cls(vectors=question.vectors, among=wanted, words=words)
        found = compare(question.runs, kinds, wanted=wanted, method=method)
        if kinds and wanted is None and found.among not in kinds:
            raise Permanent(
                f"{counted(len(found.vectors), found.asked)} to search with, and only "
                "volumes to compare with: ask with a whole study, or --kind volume"
            )
        more = (f"not compared: {counted(found.unasked, CaseKind.IMAGE)} of the study",)
        remarks = question.remarks + (more if found.unasked else ())
        return cls(
            vectors=found.vectors, among=found.among, words=str(found), remarks=remarks
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
