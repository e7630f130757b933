"""Embedded studies, and what a pack concludes of them.

A frame's vector has its logit on the first axis, which is all that `HEADS` look at.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import (
    Exam,
    Finding,
    InputFile,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    Unreadable,
)
from tests.packs import CONFIG
from workers.accepting import Accepts
from workers.asked import CategorySpec, EstimateSpec, LabelSpec, NeighboursHead
from workers.classify import Conclusion, conclude
from workers.heads import Heads
from workers.labels import LabelWeights
from workers.neighbours import References
from workers.pack import Pack
from workers.study import EmbeddedImage, image_ref
from workers.trained import LinearWeights

DIMENSION = CONFIG.embedding
AXIS = np.eye(DIMENSION, dtype=np.float32)
HEADS: Heads = {
    key: LinearWeights(weight=AXIS[0], bias=0.0)
    for key in ("pneumothorax", "effusion", "haemorrhage")
}
LABELS = {"view": LabelWeights(texts=AXIS[:3], temperature=4.0)}


def about(pack: Pack, *frames: EmbeddedImage, **changes: Any) -> Conclusion:
    """Return what the pack concludes of a study that holds just these frames."""
    images = list({f.source.sop_instance_uid: f.source for f in frames}.values())
    return conclude(pack, HEADS, **{"images": images, "frames": frames} | changes)


def asking(pack: Pack, **changes: Any) -> Pack:
    """Return the pack, asking for a view and an age, too."""
    chest = Accepts(modality=("DX", "CR"), body_part=("CHEST",))
    view = CategorySpec(
        key="view",
        meaning="View",
        code=("111031", "DCM", "Image View"),
        accepts=chest,
        labels=tuple(
            LabelSpec(key=key, meaning=key, code=(key, "99TEST", key), prompts=(key,))
            for key in ("ap", "pa", "lateral")
        ),
    )
    age = EstimateSpec(
        key="age",
        meaning="Age",
        code=("AGE", "99TEST", "Age"),
        unit=("mo", "UCUM", "month"),
        head=NeighboursHead(k=1),
        accepts=chest,
    )
    manifest = replace(pack.manifest, categories=(view,), estimates=(age,))
    known = References(
        embeddings=AXIS[:2], values=np.array([12.0, 24.0], dtype=np.float32)
    )
    values: dict[str, Any] = {"manifest": manifest, "references": {"age": known}}
    return replace(pack, **values | changes)


def source(number: int = 1, **changes: Any) -> InputFile:
    """Return a chest radiograph of the study."""
    values: dict[str, Any] = {
        "version": number,
        "path": f"{number}.dcm",
        "sha256": Sha256(f"{number:064x}"),
        "series_uid": SeriesUid("1.2.3"),
        "sop_instance_uid": SopInstanceUid(f"1.2.3.{number}"),
        "sop_class_uid": SopClassUid("1.2.840.10008.5.1.4.1.1.1.1"),
        "frames": 1,
        "instance_number": number,
    }
    return InputFile(**{"exam": exam(changes)} | values | changes)


def exam(changes: dict[str, Any]) -> Exam:
    """Return a chest radiograph's exam; what `changes` say of one is taken out of them."""
    own = {f.name: changes.pop(f.name) for f in fields(Exam) if f.name in changes}
    values: dict[str, Any] = {"modality": "DX", "body_part": "CHEST", "view": "PA"}
    return Exam(**values | own)


def head_slice(number: int) -> InputFile:
    """Return a slice of a head CT."""
    return source(number, modality="CT", body_part="HEAD", view="")


def embedded(file: InputFile, logit: float, frame: int = 0) -> EmbeddedImage:
    """Return a frame to which `HEADS` gives this logit."""
    vector: NDArray[np.float32] = (AXIS[0] * logit).astype(np.float32)
    return EmbeddedImage(source=file, frame=frame, vector=vector)


def unreadable(file: InputFile, reason: str = "no pixel data") -> Unreadable:
    """Return an image that could not be read."""
    return Unreadable(image=image_ref(file), frame=0, reason=reason)


def found(conclusion: Conclusion, key: str) -> Finding:
    """Return one finding of a conclusion."""
    return next(f for f in conclusion.findings if f.key == key)


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-x))."""
    return float(1 / (1 + np.exp(-logit)))
