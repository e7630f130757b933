"""Folds of cross-validation: no patient in two of them, each label in all of them."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from dicom_node.errors import Permanent

_TOO_RARE = "The least populated class"


def folds(
    patient: NDArray[np.integer], truth: NDArray[np.int8], n: int, *, seed: int
) -> NDArray[np.int8]:
    """Return the fold of each row, (N,) int8 from 0 to n-1; a patient is in one only.

    Parameters
    ----------
    patient
        (N,) of each row.
    truth
        (N,) or (N, F), values of `Truth`: each combination is spread over the folds.
    seed
        The same seed gives the same folds.

    Raises
    ------
    Permanent
        If there are fewer patients than folds.
    """
    patients = len(np.unique(patient))
    if patients < n:
        raise Permanent(f"{patients} patients are too few for {n} folds")
    kind = _kinds(truth.reshape(len(patient), -1), n)
    splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed)
    found = np.full(len(patient), -1, dtype=np.int8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_TOO_RARE, category=UserWarning)
        for number, (_, inside) in enumerate(splitter.split(kind, kind, patient)):
            found[inside] = number
    return found


def _kinds(truth: NDArray[np.int8], n: int) -> NDArray[np.int64]:
    """Return a number for each combination of labels; those too rare share one."""
    _, kind, count = np.unique(truth, axis=0, return_inverse=True, return_counts=True)
    rare = count < n
    if rare.all():
        return np.zeros(len(truth), dtype=np.int64)
    kinds: NDArray[np.int64] = np.where(rare[kind], -1, kind)
    return kinds
