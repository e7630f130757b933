"""How well something that should not tell a label tells it: one probe a family.

Logistic regression or a support vector machine with an RBF kernel, chosen in inner
folds; out of fold on the outer folds of the model that is judged. For a single
attribute of kinds, a column each, logistic regression can already say everything.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from workers.measures import Area
from workers.shortcuts.areas import area
from workers.shortcuts.families import Family
from workers.shortcuts.nested import Candidate, Machine, Rowed, out_of_fold

_PENALTIES: Final = (0.03, 1.0)
_MARGINS: Final = (1.0, 10.0)
_WIDTH: Final = 0.3
"""Of the kernel: gamma times the number of features."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What one family tells of the label, by itself.

    Parameters
    ----------
    area
        None where nothing could be learnt; `reason` says why.
    logit
        (N,) out of fold, log odds at even prevalence; zeros where nothing was learnt.
    counts
        Whether the verdict looks at it.
    chosen
        The classifier of each outer fold.
    """

    name: str
    area: Area | None
    logit: NDArray[np.float64]
    counts: bool
    reason: str = ""
    chosen: tuple[str, ...] = ()


def probe(family: Family, rowed: Rowed, *, seed: int) -> Probe:
    """Return what `family` tells of the label, with the area's limits by patient."""
    silent = family.silent
    if silent:
        return Probe(
            name=family.name,
            area=None,
            logit=np.zeros(len(rowed.truth)),
            counts=family.counts,
            reason=silent,
        )
    candidates = LINEAR if family.kinds else LINEAR + CURVED
    found = out_of_fold(family.features, rowed, candidates, seed=seed)
    return Probe(
        name=family.name,
        area=area(found.logit, rowed.truth, rowed.patient),
        logit=found.logit,
        counts=family.counts,
        chosen=found.chosen,
    )


def _linear(penalty: float) -> Machine:
    return _prepared(
        LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000)
    )


def _prepared(machine: Machine) -> Machine:
    pipeline: Machine = make_pipeline(
        SimpleImputer(keep_empty_features=True, add_indicator=True),
        StandardScaler(),
        machine,
    )
    return pipeline


class _Scaled:
    """A support vector machine whose kernel is as wide as there are features."""

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty
        self._machine: Machine = self

    def fit(self, features: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        gamma = _WIDTH / features.shape[1]
        self._machine = _prepared(
            SVC(C=self._penalty, gamma=gamma, class_weight="balanced")
        )
        self._machine.fit(features, truth)

    def decision_function(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._machine.decision_function(features)
        return found


LINEAR: Final = tuple(
    Candidate(name=f"logistic regression, C {c:g}", make=partial(_linear, c))
    for c in _PENALTIES
)
CURVED: Final = tuple(
    Candidate(name=f"RBF SVM, C {c:g}", make=partial(_Scaled, c)) for c in _MARGINS
)
"""What a probe's classifier is chosen from; of kinds alone, from the linear ones."""
