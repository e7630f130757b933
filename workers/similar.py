"""The reference cases that a study resembles most: from an atlas, never from live ones.

Pure: the atlas comes in as a value. Of the images that the pack looked at, those of the
kind that most of them are ask together: volumes as a whole, where the atlas has some.
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
        runs: Sequence[NDArray[np.float32]],
        exam: Exam,
        k: int,
        *,
        study: StudyUid,
        patient: Sha256,
    ) -> AtlasSearch | None:
        """Return the `k` nearest cases, or None where there is none of such exams.

        Parameters
        ----------
        runs
            Of each volume of one study its slices, of each image one row: (n, D) float32
            of length one.
        exam
            How they were taken.
        study, patient
            Whose they are: the same study, and the patient, are no reference cases.
        """
        ...


def similar_cases(
    atlas: Atlas,
    runs: Sequence[Sequence[EmbeddedImage]],
    k: int,
    *,
    study: StudyUid,
    patient: Sha256,
) -> AtlasSearch | None:
    """Return the `k` cases nearest to a study; None where nothing can be asked.

    Parameters
    ----------
    runs
        Its images: the slices of each volume in order, other images one by one.
    """
    readable = [
        [frame for frame in run if np.isfinite(frame.vector).all()] for run in runs
    ]
    kinds = Counter(_kind(frame) for run in readable for frame in run)
    if not kinds:
        return None
    [(kind, _)] = kinds.most_common(1)
    alike = [run for run in readable if run and _kind(run[0]) == kind]
    vectors = [np.stack([frame.vector for frame in run]) for run in alike]
    exam = alike[0][0].source.exam
    return atlas.nearest(vectors, exam, k, study=study, patient=patient)


def _kind(frame: EmbeddedImage) -> tuple[str, str]:
    exam = frame.source.exam
    return exam.modality, exam.body_part
