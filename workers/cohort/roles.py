"""Who is used for what: patients are dealt to roles once, and stay there."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort.table import Cohort, Role, Truth

_TOLERANCE = 1e-6


def assign_roles(cohort: Cohort, shares: Mapping[Role, float], seed: int) -> Cohort:
    """Return the cohort with a role for each patient, the same for the same seed.

    Patients with the same findings are spread over the roles as `shares` say, so that
    a rare finding is in each of them as far as there are patients.

    Raises
    ------
    Permanent
        If there are roles already, or the shares do not add up to 1.
    """
    if cohort.has_roles:
        raise Permanent(f"{cohort.origin} assigns roles already: they stay as they are")
    wanted = {role: share for role, share in shares.items() if share}
    if min(wanted.values(), default=0) < 0 or (
        abs(sum(wanted.values()) - 1) > _TOLERANCE
    ):
        raise Permanent("the shares of the roles have to add up to 1")
    order = _alike(cohort, np.random.default_rng(seed))
    given: list[Role | None] = [None] * len(cohort.patients)
    counts = dict.fromkeys(wanted, 0)
    for dealt, patient in enumerate(order.tolist(), start=1):
        # the role that lacks most of its share
        role = max(wanted, key=lambda r: wanted[r] * dealt - counts[r])
        counts[role] += 1
        given[patient] = role
    return replace(cohort, roles=tuple(given))


def _alike(cohort: Cohort, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the patients in random order, those with the same findings together."""
    present = np.zeros((len(cohort.patients), len(cohort.findings)), dtype=np.bool_)
    unit, column = (cohort.truth == Truth.PRESENT).nonzero()
    present[cohort.patient[unit], column] = True
    _, kind = np.unique(present, axis=0, return_inverse=True)
    order = rng.permutation(len(cohort.patients))
    together: NDArray[np.int64] = order[np.argsort(kind[order], kind="stable")]
    return together
