"""The results of the matrix: every way in which a run over a study can come out."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dicom_node.domain import (
    Completion,
    Flag,
    ImageRef,
    Result,
    Score,
    SopClassUid,
    Urgency,
)
from tests.builders import (
    EFFUSION,
    LEFT,
    atlas_search,
    category,
    ct_images,
    estimate,
    finding,
    image_ref,
    operating_point,
    predecessor,
    result,
    unreadable,
)
from tests.unit.sr_writer.test_compose import RESULTS as COMPOSED

T = TypeVar("T")

MORE: dict[str, Result] = {
    "indeterminate within its tolerance": result(
        [
            finding(
                0.4999999,
                operating_point=operating_point(0.5, tolerance=0.001),
                flag=Flag.INDETERMINATE,
            )
        ]
    ),
    "probability with its interval": result(
        [finding(Score(value=0.9, calibration_set="cal-2026", interval=(0.8, 0.95)))]
    ),
    "indeterminate between rule-out and rule-in": result(
        [
            finding(
                Score(value=0.4, calibration_set="cal-2026"),
                operating_point=operating_point(0.8, rule_out=0.2),
                flag=Flag.INDETERMINATE,
            )
        ]
    ),
    "some in shadow mode": result(
        [finding(0.2)],
        shadow=(finding(0.9, key="s"), finding(None, key="t", concept=EFFUSION)),
        cases=atlas_search(2),
    ),
    "all in shadow mode": result(
        [],
        shadow=(finding(0.9, key="s"),),
        reason="all that this pack looks for runs in shadow mode",
    ),
    "three urgencies": result(
        [finding(0.9, key=f"k{u}", urgency=u) for u in Urgency], revision=7
    ),
    "both sides": result(
        [
            finding(0.9, laterality=LEFT),
            finding(0.8, key="b", site=None, laterality=LEFT),
        ]
    ),
    "evidence of the study as a whole": result([finding(0.9, evidence=())]),
    "partial": result(
        [finding(0.2)],
        images=(image_ref(1), image_ref(2)),
        completion=Completion.PARTIAL,
        unreadable=(unreadable(2),),
    ),
    "wrong body part, and unreadable images": result(
        [finding(None), finding(None, key="b", concept=EFFUSION)],
        images=ct_images(3),
        completion=Completion.PARTIAL,
        unreadable=tuple(unreadable(image=i) for i in ct_images(3)),
        reason="no image could be read",
    ),
    "superseding, with everything that is asked": result(
        [finding(0.9)],
        categories=(category(),),
        estimates=(estimate(),),
        cases=atlas_search(5),
        predecessors=(predecessor(1), predecessor(2)),
        revision=3,
    ),
}
RESULTS = {**COMPOSED, **MORE}


def on_images_of(sop_class: SopClassUid, frames: int, made_from: Result) -> Result:
    """Return the result as if its images were of this class, with so many frames."""

    def changed(value: T) -> T:
        new: Any = value
        if isinstance(value, ImageRef):
            most = max(frames, value.frames)
            new = replace(value, sop_class_uid=sop_class, frames=most)
        elif isinstance(value, tuple):
            new = tuple(changed(one) for one in value)
        elif is_dataclass(value) and not isinstance(value, type):
            parts = {f.name: changed(getattr(value, f.name)) for f in fields(value)}
            new = replace(value, **parts)
        return new  # type: ignore[no-any-return]

    return changed(made_from)
