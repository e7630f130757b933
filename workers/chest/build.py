"""The chest pack: an encoder of all patients, linear heads, a manifest.

The figures in it come from cross-validation, where no model judged a patient that it
had learned from; the weights that ship have learned from all of them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from workers.chest.crossing import TOPICS, Crossed
from workers.chest.folding import truths
from workers.chest.gating import FILE as GATE
from workers.chest.gating import (
    MODALITIES,
    RATE,
    SITE,
    body_part_finding,
    fit_gate,
    gate_spec,
)
from workers.chest.heads import fit_linear, fit_ordinary
from workers.chest.learning import TOKENIZER, train_encoder
from workers.chest.looking import embed_states, embed_views
from workers.chest.radiographs import Radiographs
from workers.chest.recipe import POLICY, Recipe
from workers.gate import Gate, encode_gate
from workers.measures import clustered_auc, threshold_at_sensitivity
from workers.medimageinsight import Ensemble
from workers.medimageinsight.training import Progress, save_half_ensemble
from workers.pack import Pack, open_pack, seal
from workers.placing import in_one_piece

VERSION: Final = "1.0.0"
STATEMENT: Final = (
    "Demonstration: learned from 318 patients of one public collection. For research, "
    "not for clinical use."
)
TRAINED_ON: Final = "NIH ChestX-ray14, 477 images of 318 patients at 320 x 320"
SENSITIVITY: Final = 0.95
"""Of a finding's operating point."""
SPECIFICITY: Final = 0.98
"""Of the operating point of a comparison with the header: most headers are right."""

_ACCEPTS: Final = {"modality": list(MODALITIES), "body_part": ["CHEST"]}


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


def build(
    out: Path,
    data: Radiographs,
    crossed: Crossed,
    *,
    seed: int,
    progress: Progress,
    rate: float = RATE,
) -> Pack:
    """Return the pack that was written to `out`: trained on all of `data`.

    Parameters
    ----------
    crossed
        Of the same images: what the figures are measured on. Its recipes are followed.
    rate
        Of the gate's false alarms.
    """
    rows = np.arange(len(data))
    members = [
        train_encoder(data, rows, recipe, seed=seed, progress=progress)
        for recipe in crossed.recipes
    ]
    return write_pack(out, Ensemble(members), (data, crossed), seed=seed, rate=rate)


def write_pack(
    out: Path,
    model: Ensemble,
    learned: tuple[Radiographs, Crossed],
    *,
    seed: int,
    rate: float = RATE,
) -> Pack:
    """Return the pack of an encoder that has learned from all of the radiographs."""
    data, crossed = learned
    with in_one_piece(out) as folder:
        shutil.copytree(TOKENIZER, folder / "tokenizer")
        stored = save_half_ensemble(model, folder / "weights.safetensors")
        heads = fit_all(stored, data, crossed.recipes[0], seed=seed)
        save_file(_tensors(heads), folder / "heads.safetensors")
        gate = fit_gate(stored, data, crossed.learned, rate=rate, seed=seed)
        (folder / GATE).write_bytes(encode_gate(gate))
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)
        seal(folder, manifest(stored, crossed, gate) | {"gate": gate_spec(gate, data)})
    return open_pack(out)


def fit_all(
    model: Ensemble, data: Radiographs, recipe: Recipe, *, seed: int
) -> dict[str, LogisticRegression]:
    """Return the linear head of each finding, fitted on all of `data`."""
    views = embed_views(model, data, recipe, seed=seed)
    truth = truths(data)
    heads = {
        name: fit_linear(views[:, use], truth[use, topic])
        for topic, name in enumerate(TOPICS)
        for use in [truth[:, topic] >= 0]
    }
    return heads | {"orientation": fit_ordinary(embed_states(model, data))}


def manifest(model: Ensemble, crossed: Crossed, gate: Gate) -> dict[str, Any]:
    """Return what `seal` makes ``pack.json`` of."""
    return {
        "format": 1,
        "name": "chest",
        "version": VERSION,
        "title": "Chest X-ray: exam check",
        "synthetic": False,
        "statement": STATEMENT,
        "encoder": {
            "config": asdict(model.config),
            "weights": "weights.safetensors",
            "dtype": "float16",
            "numeric_profile": "float32",
            "embedding_dim": model.dimension,
            "members": len(model.members),
            "tokenizer": "tokenizer",
            "training_data": [TRAINED_ON],
        },
        "preprocessing": asdict(POLICY),
        "accepts": [_ACCEPTS],
        "findings": [
            *(_finding(entry, crossed) for entry in CATALOGUE),
            body_part_finding(gate),
        ],
        "threshold_set": {"name": "chest-1", "created": "2026-11-22"},
    }


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


def _finding(entry: Entry, crossed: Crossed) -> dict[str, Any]:
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


def _tensors(
    heads: Mapping[str, LogisticRegression],
) -> dict[str, NDArray[np.float32]]:
    return {
        name: value.astype(np.float32)
        for key, head in heads.items()
        for name, value in (
            (f"{key}.weight", head.coef_[0]),
            (f"{key}.bias", head.intercept_),
        )
    }
