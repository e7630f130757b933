"""The reference cases that a study resembles most: from an atlas, never from live ones.

Pure: the atlas comes in as a value. Of the images that the pack looked at, those of the
kind that most of them are ask together.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import AtlasSearch, Exam, Sha256, StudyUid
from workers.study import EmbeddedImage


class Atlas(Protocol):
    """Curated, labelled cases of others, and the search in them."""

    def nearest(
        self,
        vectors: NDArray[np.float32],
        exam: Exam,
        k: int,
        *,
        study: StudyUid,
        patient: Sha256,
    ) -> AtlasSearch | None:
        """Return the `k` nearest cases, or None where there is none of such exams.

        Parameters
        ----------
        vectors
            (N, D) float32 of length one: of all images of one study.
        exam
            How they were taken.
        study, patient
            Whose they are: the same study, and the patient, are no reference cases.
        """
        ...


def similar_cases(
    atlas: Atlas,
    frames: Sequence[EmbeddedImage],
    k: int,
    *,
    study: StudyUid,
    patient: Sha256,
) -> AtlasSearch | None:
    """Return the `k` cases nearest to a study; None where nothing can be asked."""
    frames = [frame for frame in frames if np.isfinite(frame.vector).all()]
    if not frames:
        return None
    kinds = Counter(_kind(frame) for frame in frames)
    [(kind, _)] = kinds.most_common(1)
    alike = [frame for frame in frames if _kind(frame) == kind]
    vectors = np.stack([frame.vector for frame in alike])
    return atlas.nearest(vectors, alike[0].source.exam, k, study=study, patient=patient)


def _kind(frame: EmbeddedImage) -> tuple[str, str]:
    exam = frame.source.exam
    return exam.modality, exam.body_part
