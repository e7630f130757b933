"""A labelled data set as columns: millions of labels in a few arrays.

Names (patients, studies, units, findings, sources) are kept once, sorted, and everything
else refers to them by number: the same labels in another order are the same cohort, with
the same digest. Knows nothing of files.
"""

import json
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256

UnitKind = Literal["sop_instance_uid", "series_uid"]
"""What is labelled: images, or whole series."""


class Truth(IntEnum):
    """What is said of a finding. Missing is never negative."""

    PRESENT = 1
    ABSENT = 0
    UNCERTAIN = -1
    MISSING = -2


class Role(StrEnum):
    """What a patient's images may be used for: one thing each."""

    TRAIN = "train"
    TUNE = "tune"
    CALIBRATE = "calibrate"
    TEST = "test"
    ATLAS = "atlas"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """Labels of U units on F findings.

    Parameters
    ----------
    patients, studies, units, findings, sources
        Distinct names, sorted. A unit is a SOP Instance UID or a Series UID.
    patient, study
        Of each unit, (U,) int32.
    truth
        (U, F) int8, values of `Truth`.
    values
        (U, F) float64, in the finding's unit; NaN where there is none.
    source
        Who said so, (U, F) int16; -1 where nobody is named.
    roles
        Of each patient; None: not assigned.
    unit_kind
        What the units are.
    origin
        Where the labels come from, for messages.
    digest
        Of everything above but the origin.
    """

    patients: tuple[str, ...]
    studies: tuple[str, ...]
    units: tuple[str, ...]
    patient: NDArray[np.int32]
    study: NDArray[np.int32]
    findings: tuple[str, ...]
    truth: NDArray[np.int8]
    values: NDArray[np.float64]
    sources: tuple[str, ...]
    source: NDArray[np.int16]
    roles: tuple[Role | None, ...]
    unit_kind: UnitKind = "sop_instance_uid"
    origin: str = "the labels"
    digest: Sha256 = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.units), len(self.findings))
        if not (self.truth.shape == self.values.shape == self.source.shape == shape):
            raise ValueError(f"labels must be {shape}: units by findings")
        if not self.patient.shape == self.study.shape == shape[:1]:
            raise ValueError(f"patient and study must be {shape[:1]}")
        if len(self.roles) != len(self.patients):
            raise ValueError("every patient has a role, or None")
        object.__setattr__(self, "digest", _digest(self))

    @property
    def has_roles(self) -> bool:
        """Return whether any patient has a role."""
        return any(role is not None for role in self.roles)

    @property
    def said(self) -> NDArray[np.bool_]:
        """Return of which units something is said, of each finding: (U, F)."""
        said: NDArray[np.bool_] = (self.truth != Truth.MISSING) | np.isfinite(
            self.values
        )
        return said

    def column(self, finding: str) -> int:
        """Return which column a finding is.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        return self.findings.index(finding)


def _digest(cohort: Cohort) -> Sha256:
    hashed = sha256(cohort.unit_kind.encode())
    names = (cohort.patients, cohort.studies, cohort.units, cohort.findings)
    for column in (*names, cohort.sources, cohort.roles):
        hashed.update(json.dumps(column).encode())
    # one NaN like another
    values = np.where(np.isnan(cohort.values), np.nan, cohort.values)
    for array, dtype in (
        (cohort.patient, "<i4"),
        (cohort.study, "<i4"),
        (cohort.truth, "<i1"),
        (values, "<f8"),
        (cohort.source, "<i2"),
    ):
        hashed.update(np.ascontiguousarray(array, dtype=dtype).data)
    return Sha256(hashed.hexdigest())
