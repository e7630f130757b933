"""Labels and embeddings together: what heads are fitted on and measured with.

Every label needs its embedding; an embedding without a label is left out. A study's
label follows from those of its images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort.embedded import EmbeddingFile
from workers.cohort.table import Cohort, Role, Truth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """N labelled frames, in the order of the embeddings' file.

    Parameters
    ----------
    vectors
        (N, D) float32 of length one.
    frame_unit, patient, study
        (N,) int32, into `units`, `patients`, `studies`.
    volume
        (N,) int32: frames with the same number are slices of one volume.
    truth
        (N, F) int8, values of `Truth`: that of the frame's image or series.
    values
        (N, F) float64; NaN where there is none.
    findings
        Of the columns.
    roles
        Of each patient.
    patients, studies, units
        Names, as in the cohort.
    """

    vectors: NDArray[np.float32]
    frame_unit: NDArray[np.int32]
    patient: NDArray[np.int32]
    study: NDArray[np.int32]
    volume: NDArray[np.int32]
    truth: NDArray[np.int8]
    values: NDArray[np.float64]
    findings: tuple[str, ...]
    roles: tuple[Role | None, ...]
    patients: tuple[str, ...]
    studies: tuple[str, ...]
    units: tuple[str, ...]

    def in_role(self, *roles: Role) -> NDArray[np.bool_]:
        """Return which rows are of patients with one of these roles, (N,)."""
        has = np.array([role in roles for role in self.roles], dtype=np.bool_)
        rows: NDArray[np.bool_] = has[self.patient]
        return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyTruth:
    """The labels of S studies.

    Parameters
    ----------
    study, patient
        (S,) int32, into the examples' names; `study` ascends.
    truth
        (S, F) int8, values of `Truth`.
    values
        (S, F) float64: the mean of the images' values; NaN where there is none.
    of_row
        (N,) int32: which of the S each frame belongs to.
    """

    study: NDArray[np.int32]
    patient: NDArray[np.int32]
    truth: NDArray[np.int8]
    values: NDArray[np.float64]
    of_row: NDArray[np.int32]


def join(
    cohort: Cohort, embeddings: EmbeddingFile, *, need: Sequence[str] = ()
) -> Examples:
    """Return the frames of which anything is labelled, with the labels.

    Parameters
    ----------
    need
        The findings that are wanted, in this order; none: all of the cohort.

    Raises
    ------
    Permanent
        If nobody labelled a finding, if a labelled image has no embedding, or one of
        another study.
    """
    findings = tuple(need) or cohort.findings
    columns = [_column(cohort, finding) for finding in findings]
    unit_of_row = _units_of(cohort, embeddings)
    labelled = np.logical_or.reduce(cohort.said[:, columns], axis=1)
    _check_known(cohort, embeddings, unit_of_row, labelled)
    rows = np.flatnonzero(unit_of_row >= 0)
    if not rows.size:
        raise Permanent(f"{cohort.origin} labels no image of {embeddings.path}")
    _check_studies(cohort, embeddings, unit_of_row, rows)
    unit = unit_of_row[rows]
    whole = len(rows) == len(unit_of_row)
    return Examples(
        vectors=embeddings.vectors if whole else embeddings.vectors[rows],
        frame_unit=unit,
        patient=cohort.patient[unit],
        study=cohort.study[unit],
        volume=embeddings.volumes[rows],
        truth=cohort.truth[unit][:, columns],
        values=cohort.values[unit][:, columns],
        findings=findings,
        roles=cohort.roles,
        patients=cohort.patients,
        studies=cohort.studies,
        units=cohort.units,
    )


def by_study(examples: Examples) -> StudyTruth:
    """Return the studies of the examples, and what is true of each.

    A finding is present in a study if it is in one of its images. It is absent only if
    it is in all: where one is uncertain the study is, and where one is missing, too.
    """
    study, first, of_row = np.unique(
        examples.study, return_index=True, return_inverse=True
    )
    shape = (len(study), len(examples.findings))
    return StudyTruth(
        study=study,
        patient=examples.patient[first],
        truth=_strongest(examples.truth, of_row, shape),
        values=_means(examples.values, of_row, shape),
        of_row=of_row.astype(np.int32),
    )


def _strongest(
    truth: NDArray[np.int8], of_row: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int8]:
    found = np.full(shape, Truth.ABSENT, dtype=np.int8)
    for weaker in (Truth.MISSING, Truth.UNCERTAIN, Truth.PRESENT):  # the last one wins
        row, column = (truth == weaker).nonzero()
        found[of_row[row], column] = weaker
    return found


def _means(
    values: NDArray[np.float64], of_row: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    sums, counts = np.zeros(shape), np.zeros(shape)
    row, column = np.isfinite(values).nonzero()
    np.add.at(sums, (of_row[row], column), values[row, column])
    np.add.at(counts, (of_row[row], column), 1)
    means: NDArray[np.float64] = np.where(
        counts > 0, sums / np.maximum(counts, 1), np.nan
    )
    return means


def _column(cohort: Cohort, finding: str) -> int:
    if finding not in cohort.findings:
        known = ", ".join(cohort.findings)
        raise Permanent(f"{cohort.origin} labels no {finding!r}: it has {known}")
    return cohort.column(finding)


def _units_of(cohort: Cohort, embeddings: EmbeddingFile) -> NDArray[np.int32]:
    """Return which unit of the cohort each row is of, (N,); -1: none."""
    of_images = cohort.unit_kind == "sop_instance_uid"
    names = embeddings.sop_instances if of_images else embeddings.series
    number = {name: i for i, name in enumerate(cohort.units)}
    found = (number.get(name, -1) for name in names)
    return np.fromiter(found, np.int32, len(names))


def _check_known(
    cohort: Cohort,
    embeddings: EmbeddingFile,
    unit_of_row: NDArray[np.int32],
    labelled: NDArray[np.bool_],
) -> None:
    embedded = np.zeros(len(cohort.units), dtype=np.bool_)
    embedded[unit_of_row[unit_of_row >= 0]] = True
    unknown = np.flatnonzero(labelled & ~embedded)
    if unknown.size:
        raise Permanent(
            f"{cohort.origin}: {unknown.size} of {int(labelled.sum())} labelled images "
            f"have no embedding in {embeddings.path}, "
            f"the first is {cohort.units[unknown[0]]}"
        )


def _check_studies(
    cohort: Cohort,
    embeddings: EmbeddingFile,
    unit_of_row: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> None:
    """Refuse a table that puts an image into another study than the image itself does.

    Patients are told apart by the table alone, so at least its studies must be right.
    """
    for row in rows.tolist():
        unit = int(unit_of_row[row])
        said = cohort.studies[int(cohort.study[unit])]
        if said != embeddings.studies[row]:
            raise Permanent(
                f"{cohort.origin}: {cohort.units[unit]} is not of study {said}, "
                f"it is of {embeddings.studies[row]}"
            )
