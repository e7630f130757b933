"""What the chest pack looks for, and what its figures are: judged out of fold.

No row is scored by an encoder or a head that has seen its patient, nor flagged at a
threshold that was chosen on it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from workers.chest.crossing import TOPICS, Crossed
from workers.chest.gating import SITE
from workers.measures import clustered_auc, threshold_at_sensitivity

SENSITIVITY: Final = 0.95
"""Of a finding's operating point."""
SPECIFICITY: Final = 0.98
"""Of the operating point of a comparison with the header: most headers are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finding of the pack.

    Parameters
    ----------
    key
        Also the name of its head: a topic, or "orientation".
    expects
        1 or -1 by what the header says of `attribute`; empty where no header knows.
    """

    key: str
    code: tuple[str, str, str]
    mode: Literal["live", "shadow"]
    attribute: str = ""
    expects: Mapping[str, int] | None = None

    @property
    def against(self) -> dict[str, Any] | None:
        """What the header is compared with, as a manifest says it."""
        if self.expects is None:
            return None
        return {"attribute": self.attribute, "expects": dict(self.expects)}


CATALOGUE: Final = (
    Entry(
        key="sex",
        code=("PS0001", "99PACSIGHT", "Patient's sex differs from the image"),
        mode="live",
        attribute="PatientSex",
        expects={"M": 1, "F": -1},
    ),
    Entry(
        key="view",
        code=("PS0002", "99PACSIGHT", "View position differs from the image"),
        mode="shadow",  # the verdict: grey levels alone tell most of it
        attribute="ViewPosition",
        expects={"AP": 1, "PA": -1},
    ),
    Entry(
        key="orientation",
        code=("PS0003", "99PACSIGHT", "Orientation differs from the image"),
        mode="live",
        attribute="PatientOrientation",
        expects={"L\\F": 1, "": 1},
    ),
    Entry(
        key="pneumonia",
        code=("233604007", "SCT", "Pneumonia"),
        mode="shadow",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Rows of a finding, out of fold: of a comparison, each image with each header.

    Parameters
    ----------
    scores
        (N,) probabilities that are not calibrated.
    truth
        (N,) bool: shown; of a comparison, the header is wrong.
    patient, fold
        (N,) whose image, and in which fold it was left out.
    """

    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]
    patient: NDArray[np.int32]
    fold: NDArray[np.int8]


def judged(entry: Entry, crossed: Crossed) -> Judged:
    """Return the rows of a finding.

    Of a comparison with the header every image counts twice, once with the header that
    is right, once with a wrong one; orientation: in each of `STATES`.
    """
    patient, fold = crossed.patient, crossed.fold
    if entry.key == "orientation":
        wrong = expit(-crossed.states)  # (6, N)
        times = len(wrong)
        return Judged(
            scores=wrong.ravel(),
            truth=np.repeat(np.arange(times) > 0, len(patient)),
            patient=np.tile(patient, times),
            fold=np.tile(fold, times),
        )
    topic = TOPICS.index(entry.key)
    use = crossed.truth[:, topic] >= 0
    positive = crossed.truth[use, topic] == 1
    scores, patient, fold = expit(crossed.scores[use, topic]), patient[use], fold[use]
    if entry.expects is None:
        return Judged(scores=scores, truth=positive, patient=patient, fold=fold)
    right = np.where(positive, 1 - scores, scores)
    return Judged(
        scores=np.concatenate([right, 1 - right]),
        truth=np.repeat([False, True], len(right)),
        patient=np.tile(patient, 2),
        fold=np.tile(fold, 2),
    )


def flagged(entry: Entry, rows: Judged) -> NDArray[np.bool_]:
    """Return which rows are flagged (N,), each at a threshold of the other folds."""
    found = np.zeros(len(rows.scores), np.bool_)
    for number in np.unique(rows.fold):
        here, others = rows.fold == number, rows.fold != number
        threshold = _threshold(entry, rows.scores[others], rows.truth[others])
        found[here] = rows.scores[here] >= threshold
    return found


def finding(entry: Entry, crossed: Crossed) -> dict[str, Any]:
    rows = judged(entry, crossed)
    found = flagged(entry, rows)
    comparison = entry.expects is not None
    stated: dict[str, Any] = {
        "key": entry.key,
        "meaning": entry.code[2],
        "code": list(entry.code),
        "site": list(SITE),
        "urgency": "routine",
        "aggregation": "max",
        "head": {"kind": "linear", "weights": "heads.safetensors", "key": entry.key},
        "operating_point": {
            "name": f"spec>={SPECIFICITY}" if comparison else f"sens>={SENSITIVITY}",
            "threshold": _threshold(entry, rows.scores, rows.truth),
            "evidence": {
                "measured_on": "out-of-fold scores, all folds pooled, by patient; each "
                "fold at the threshold of the others",
                "auc": asdict(clustered_auc(rows.scores, rows.truth, rows.patient)),
                "sensitivity": float(found[rows.truth].mean()),
                "specificity": float((~found[~rows.truth]).mean()),
            },
        },
        "mode": entry.mode,
        "ungated": entry.key == "orientation",
    }
    against = entry.against
    return stated if against is None else stated | {"against": against}


def _threshold(
    entry: Entry, scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> float:
    if entry.expects is None:
        found = threshold_at_sensitivity(scores, truth, sensitivity=SENSITIVITY)
        return float(found)
    # just above what the largest allowed number of right headers reaches
    right = np.sort(scores[~truth])
    highest = right[int(np.ceil(SPECIFICITY * len(right) - 1e-9)) - 1]
    return float(np.nextafter(highest, np.inf))
