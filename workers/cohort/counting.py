"""What a data set holds, in numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workers.cohort.table import Cohort, Truth

_WORDS = {
    "1": Truth.PRESENT,
    "0": Truth.ABSENT,
    "uncertain": Truth.UNCERTAIN,
    "missing": Truth.MISSING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many there are; labels by finding, patients by role."""

    digest: str
    patients: int
    studies: int
    units: int
    findings: Mapping[str, Mapping[str, int]]
    patients_with: Mapping[str, int]
    roles: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return asdict(self)


def counted(cohort: Cohort) -> Counts:
    """Return what a cohort holds."""
    findings, patients_with = {}, {}
    for column, finding in enumerate(cohort.findings):
        truth = cohort.truth[:, column]
        counts = {word: int((truth == value).sum()) for word, value in _WORDS.items()}
        counts["values"] = int(np.isfinite(cohort.values[:, column]).sum())
        findings[finding] = counts
        ill = cohort.patient[truth == Truth.PRESENT]
        patients_with[finding] = len(np.unique(ill))
    roles = [role or "none" for role in cohort.roles]
    return Counts(
        digest=cohort.digest,
        patients=len(cohort.patients),
        studies=len(cohort.studies),
        units=len(cohort.units),
        findings=findings,
        patients_with=patients_with,
        roles={role: roles.count(role) for role in sorted({*roles})},
    )
