"""The chest pack's gate: its limit is set on patients that an encoder has not seen.

The encoder that ships has learned from every patient. Those of the outer folds have not:
each judges the patients that it was not shown, and what it finds there sets the limit.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.chest.folding import Fold, ensemble_of, outer_folds
from workers.chest.radiographs import Radiographs, resized
from workers.chest.recipe import NORMALISATION, SIZE_PX
from workers.gate import Gate
from workers.gate.fitting import HeldOut, Validation, fit_across, validation
from workers.medimageinsight import Ensemble
from workers.medimageinsight.training import embed_images

FILE: Final = "gate.safetensors"
RATE: Final = 0.02
SITE: Final = ("51185008", "SCT", "Thoracic structure")
MODALITIES: Final = ("DX", "CR")


def fit_gate(
    model: Ensemble,
    data: Radiographs,
    folds: Sequence[Sequence[Fold]],
    *,
    rate: float = RATE,
    seed: int,
) -> Gate:
    """Return the gate of an encoder that has learned from all of `data`.

    Parameters
    ----------
    folds
        Of the same data, all of them, each with its members, whose encoders are there.
    """
    rows = np.arange(len(data))
    held_out = [held_out_of(members, data, seed=seed) for members in folds]
    return fit_across(
        shown(model, data, rows, seed=seed), held_out, rate=rate, seed=seed
    )


def held_out_of(members: Sequence[Fold], data: Radiographs, *, seed: int) -> HeldOut:
    """Return the patients that a fold's ensemble has not seen, and the others."""
    fold = members[0]
    outer = outer_folds(data, fold.folds, fold.seed)
    seen, unseen = (
        np.flatnonzero(x) for x in (outer != fold.number, outer == fold.number)
    )
    model = ensemble_of(members)
    plain = resized(data, SIZE_PX).images[unseen]
    return HeldOut(
        fitted=shown(model, data, seen, seed=seed),
        vectors=embed_images(model, plain, NORMALISATION),
        groups=data.patient[unseen],
    )


def shown(
    model: Ensemble, data: Radiographs, rows: NDArray[np.int64], *, seed: int
) -> Validation:
    """Return some of the radiographs, and strangers made of them, as a model has them."""
    images = resized(data, SIZE_PX).images[rows]

    def embed(some: NDArray[np.uint8]) -> NDArray[np.float32]:
        return embed_images(model, some, NORMALISATION)

    return validation(
        embed(images),
        data.patient[rows],
        lambda chosen: images[chosen],
        modalities=MODALITIES,
        embed=embed,
        seed=seed,
    )


def body_part_finding(gate: Gate) -> dict[str, Any]:
    """Return what the manifest says of the comparison with BodyPartExamined.

    The threshold is the gate's limit: an image that is outside is not what a chest
    looks like, whatever it is.
    """
    meaning = "Body part differs from the image"
    return {
        "key": "body_part",
        "meaning": meaning,
        "code": ["PS0004", "99PACSIGHT", meaning],
        "site": list(SITE),
        "urgency": "routine",
        "aggregation": "max",
        "head": {"kind": "gate"},
        "operating_point": {
            "name": f"false alarms<={gate.scopes[0].rate:g}",
            "threshold": 0.5,
            "evidence": {
                "measured_on": "as the gate; its figures are in the model card"
            },
        },
        "mode": "live",
        "ungated": True,
        "against": {"attribute": "BodyPartExamined", "expects": {"CHEST": 1}},
    }


def gate_spec(gate: Gate, data: Radiographs) -> dict[str, Any]:
    """Return what the manifest says of the gate."""
    return {
        "file": FILE,
        "kind": gate.kind,
        "threshold": 1.0,
        "rate": gate.scopes[0].rate,
        "evidence": {
            "validated_on": "each patient by the ensemble of an outer fold that has not "
            "seen the patient",
            "patients": len(data.patients),
            "images": len(data),
            "strangers": "the same images inverted, turned by 90, 180 and 270 degrees, "
            "and blank ones",
        },
    }
