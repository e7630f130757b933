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
from workers.chest.heads import fit_linear, fit_ordinary
from workers.chest.learning import TOKENIZER, train_encoder
from workers.chest.looking import embed_states, embed_views
from workers.chest.radiographs import Radiographs
from workers.chest.recipe import POLICY, Recipe
from workers.measures import clustered_auc, threshold_at_sensitivity
from workers.medimageinsight import MedImageInsight
from workers.medimageinsight.training import Progress, save_half
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

_SITE: Final = ("51185008", "SCT", "Thoracic structure")
_ACCEPTS: Final = {"modality": ["DX", "CR"], "body_part": ["CHEST"]}


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
        mode="live",
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
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress,
) -> Pack:
    """Return the pack that was written to `out`: trained on all of `data`.

    Parameters
    ----------
    crossed
        Of the same images and recipe: what the figures are measured on.
    """
    rows = np.arange(len(data))
    model = train_encoder(data, rows, recipe, seed=seed, progress=progress)
    return write_pack(out, model, (data, crossed), recipe, seed=seed)


def write_pack(
    out: Path,
    model: MedImageInsight,
    learned: tuple[Radiographs, Crossed],
    recipe: Recipe,
    *,
    seed: int,
) -> Pack:
    """Return the pack of an encoder that has learned from all of the radiographs."""
    data, crossed = learned
    with in_one_piece(out) as folder:
        shutil.copytree(TOKENIZER, folder / "tokenizer")
        stored = save_half(model, folder / "weights.safetensors")
        heads = fit_all(stored, data, recipe, seed=seed)
        save_file(_tensors(heads), folder / "heads.safetensors")
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)
        seal(folder, manifest(stored, crossed))
    return open_pack(out)


def fit_all(
    model: MedImageInsight, data: Radiographs, recipe: Recipe, *, seed: int
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


def manifest(model: MedImageInsight, crossed: Crossed) -> dict[str, Any]:
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
            "embedding_dim": model.config.embedding,
            "tokenizer": "tokenizer",
            "training_data": [TRAINED_ON],
        },
        "preprocessing": asdict(POLICY),
        "accepts": [_ACCEPTS],
        "findings": [_finding(entry, crossed) for entry in CATALOGUE],
        "threshold_set": {"name": "chest-1", "created": "2025-01-01"},
    }


def contradictions(
    entry: Entry, crossed: Crossed
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]:
    """Return scores, truth and patient of a finding, out of fold.

    Of a comparison with the header every image counts twice: once with the header that
    is right, once with a wrong one.
    """
    patient = crossed.patient
    if entry.key == "orientation":
        wrong = expit(-crossed.states)  # (6, N)
        truth = np.arange(len(wrong)) > 0
        shape = wrong.shape
        return (
            wrong.ravel(),
            np.broadcast_to(truth[:, None], shape).ravel(),
            np.broadcast_to(patient, shape).ravel(),
        )
    topic = TOPICS.index(entry.key)
    use = crossed.truth[:, topic] >= 0
    positive = crossed.truth[use, topic] == 1
    scores, patient = expit(crossed.scores[use, topic]), patient[use]
    if entry.expects is None:
        return scores, positive, patient
    right = np.where(positive, 1 - scores, scores)
    truth = np.repeat([False, True], len(right))
    return np.concatenate([right, 1 - right]), truth, np.tile(patient, 2)


def _finding(entry: Entry, crossed: Crossed) -> dict[str, Any]:
    scores, truth, patient = contradictions(entry, crossed)
    name, threshold = _point(entry, scores, truth)
    flagged = scores >= threshold
    stated: dict[str, Any] = {
        "key": entry.key,
        "meaning": entry.code[2],
        "code": list(entry.code),
        "site": list(_SITE),
        "urgency": "routine",
        "aggregation": "max",
        "head": {"kind": "linear", "weights": "heads.safetensors", "key": entry.key},
        "operating_point": {
            "name": name,
            "threshold": threshold,
            "evidence": {
                "measured_on": "out-of-fold scores, all folds pooled, by patient",
                "auc": asdict(clustered_auc(scores, truth, patient)),
                "sensitivity": float(flagged[truth].mean()),
                "specificity": float((~flagged[~truth]).mean()),
            },
        },
        "mode": entry.mode,
        "ungated": entry.key == "orientation",
    }
    against = entry.against
    return stated if against is None else stated | {"against": against}


def _point(
    entry: Entry, scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[str, float]:
    if entry.expects is None:
        found = threshold_at_sensitivity(scores, truth, sensitivity=SENSITIVITY)
        return f"sens>={SENSITIVITY}", float(found)
    # just above what the largest allowed number of right headers reaches
    right = np.sort(scores[~truth])
    highest = right[int(np.ceil(SPECIFICITY * len(right) - 1e-9)) - 1]
    return f"spec>={SPECIFICITY}", float(np.nextafter(highest, np.inf))


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
