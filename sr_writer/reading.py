"""What a report of ours says, from the object alone.

The inverse of `sr_writer.content` and `sr_writer.groups`: TID 1500 and 1501, our own
containers, and the modules around them. Nothing is looked up anywhere else.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, Comprehensive3DSRStorage

from dicom_node.domain import (
    Algorithm,
    AtlasSearch,
    Code,
    Completion,
    Flag,
    OperatingPoint,
    ReferenceCase,
    Score,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
    Urgency,
)
from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from dicom_node.errors import PacsightError, Permanent
from sr_writer import codes
from sr_writer.said import (
    Basis,
    Evidence,
    Image,
    Report,
    SaidCategory,
    SaidEstimate,
    SaidFinding,
    Superseded,
    UnreadableImages,
)
from sr_writer.tree import Node, joined

_FLAGS = {code.value: flag for flag, code in codes.FLAG_VALUES.items()}
_URGENCIES = {code.value: urgency for urgency, code in codes.URGENCY_VALUES.items()}
_NOT_EVALUATED = codes.FLAG_VALUES[Flag.NOT_EVALUATED].value
_ATLAS = re.compile(
    r"(?P<atlas>.*) v(?P<version>\S*) sha256:(?P<digest>\w*);"
    r" metric=(?P<metric>.*?); k=\d+(?:; (?P<remark>.*))?",
    re.DOTALL,
)
_ENCODER = re.compile(
    r"encoder=sha256:(?P<encoder>\w*); preprocessing=(?P<preprocessing>.*);"
    r" profile=(?P<profile>.*)",
    re.DOTALL,
)
_COUNTED = re.compile(r"(?P<count>\d+) x ?(?P<reason>.*)", re.DOTALL)

Parameters = Mapping[str, str]


def read_report(dataset: Dataset) -> Report:
    """Return what a Structured Report of ours says.

    Raises
    ------
    Permanent
        If it is another kind of object, somebody else's, or damaged.
    """
    try:
        _check_ours(dataset)
        return _report(dataset)
    except PacsightError:
        raise
    except Exception as error:
        # whatever a tree leads to that is not as we write it: pydicom reads values late
        raise Permanent("the report is damaged: its content is not as written") from (
            error
        )


def _check_ours(dataset: Dataset) -> None:
    sop_class = UID(joined(dataset.get("SOPClassUID")))
    ours = joined(dataset.get("InstanceCreatorUID")) == INSTANCE_CREATOR_UID
    if sop_class == Comprehensive3DSRStorage and ours:
        return
    what = sop_class.name if sop_class else "object without a SOP Class"
    if ours:
        raise Permanent(f"no report, but {what} of pacsight: the report is its SR")
    if sop_class == Comprehensive3DSRStorage:
        raise Permanent("a Structured Report that pacsight did not write")
    raise Permanent(f"no report of pacsight: {what}")


def _report(dataset: Dataset) -> Report:
    root = Node(dataset)
    run = root.get(codes.QUALITATIVE_EVALUATIONS)
    read = _answers(root, run)
    return Report(
        title=root.name,
        sop_instance_uid=SopInstanceUid(joined(dataset.SOPInstanceUID)),
        series_uid=SeriesUid(joined(dataset.SeriesInstanceUID)),
        study_uid=StudyUid(joined(dataset.StudyInstanceUID)),
        completion=Completion(joined(dataset.CompletionFlag)),
        summary=run.get(codes.CAD_SUMMARY).code,
        obstacle=run.code_of(codes.OBSTACLE),
        reason=run.text_of(codes.REASON),
        revision=int(run.get(codes.REVISION).text.partition(" ")[0]),
        images=_evidence_instances(dataset),
        algorithm=_algorithm(dataset, run),
        findings=tuple(a for a in read if isinstance(a, SaidFinding)),
        categories=tuple(a for a in read if isinstance(a, SaidCategory)),
        estimates=tuple(a for a in read if isinstance(a, SaidEstimate)),
        cases=_cases(root.find(codes.SIMILAR_CASES)),
        shadow=tuple(item.text for item in run.all(codes.SHADOW)),
        unreadable=_unreadable(run.find(codes.UNREADABLE_IMAGES)),
        predecessors=_predecessors(dataset),
        site=joined(dataset.DeviceSerialNumber),
        software=joined(dataset.SoftwareVersions),
        concluded_at=_moment(dataset),
    )


# ── the document ────────────────────────────────────────────────────────────


def _evidence_instances(dataset: Dataset) -> int:
    return sum(
        len(series.ReferencedSOPSequence)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
    )


def _predecessors(dataset: Dataset) -> tuple[Superseded, ...]:
    return tuple(
        Superseded(
            series_uid=SeriesUid(joined(series.SeriesInstanceUID)),
            sop_class_uid=SopClassUid(joined(instance.ReferencedSOPClassUID)),
            sop_instance_uid=SopInstanceUid(joined(instance.ReferencedSOPInstanceUID)),
        )
        for study in dataset.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    )


def _moment(dataset: Dataset) -> datetime:
    """Return when it was concluded, in the zone that the object states."""
    stated = f"{dataset.ContentDate}{dataset.ContentTime}"
    zone = joined(dataset.TimezoneOffsetFromUTC)
    fraction = ".%f" if "." in stated else ""
    return datetime.strptime(f"{stated}{zone}", f"%Y%m%d%H%M%S{fraction}%z")


def _algorithm(dataset: Dataset, run: Node) -> Algorithm:
    """Return the pack: of the equipment, what has the observer's UID."""
    root = Node(dataset)
    device_uid = root.get(codes.DEVICE_OBSERVER_UID).text
    for item in dataset.ContributingEquipmentSequence:
        described = _ENCODER.fullmatch(joined(item.get("ContributionDescription")))
        if joined(item.get("DeviceUID")) == device_uid and described:
            return Algorithm(
                name=joined(item.ManufacturerModelName),
                version=joined(item.SoftwareVersions),
                title=root.text_of(codes.DEVICE_OBSERVER_NAME),
                statement=run.text_of(codes.STATEMENT),
                device_uid=device_uid,
                encoder=Sha256(described["encoder"]),
                preprocessing=described["preprocessing"],
                profile=described["profile"],
            )
    raise Permanent("the report does not say which pack made it")


def _unreadable(container: Node | None) -> tuple[UnreadableImages, ...]:
    """Return the images by reason: each reason is followed by its images."""
    read: list[tuple[re.Match[str], list[Image]]] = []
    for item in container or ():
        if item.is_called(codes.REASON) and (said := _COUNTED.fullmatch(item.text)):
            read.append((said, []))
        elif item.is_called(codes.UNREADABLE_IMAGE):
            read[-1][1].append(_image(item))
    return tuple(
        UnreadableImages(
            reason=said["reason"], count=int(said["count"]), images=tuple(images)
        )
        for said, images in read
    )


def _cases(container: Node | None) -> AtlasSearch | None:
    if container is None:
        return None
    atlas = _ATLAS.fullmatch(container.get(codes.REFERENCE_ATLAS).text)
    if atlas is None:
        raise Permanent("the report names its reference atlas in other words")
    return AtlasSearch(
        atlas=atlas["atlas"],
        version=atlas["version"],
        digest=Sha256(atlas["digest"]),
        metric=atlas["metric"],
        cases=tuple(_case(item) for item in container.all(codes.REFERENCE_CASE)),
        remark=atlas["remark"] or "",
    )


def _case(item: Node) -> ReferenceCase:
    return ReferenceCase(
        identifier=item.get(codes.CASE_IDENTIFIER).text,
        similarity=next(child.number for child in item if child.type == "NUM"),
        labels=tuple(label.code for label in item.all(codes.FINDING)),
        established_by=item.text_of(codes.ESTABLISHED_BY),
    )


# ── findings, categories, estimates ─────────────────────────────────────────


def _answers(root: Node, run: Node) -> list[SaidFinding | SaidCategory | SaidEstimate]:
    """Return what the groups say: there are some wherever an algorithm succeeded."""
    measured = root.find(codes.IMAGING_MEASUREMENTS)
    groups = [] if measured is None else measured.all(codes.MEASUREMENT_GROUP)
    if not groups and not run.get(codes.CAD_SUMMARY).has_value(codes.NONE_SUCCEEDED):
        raise Permanent("the report lacks its findings")
    return [_answer(group) for group in groups]


def _answer(group: Node) -> SaidFinding | SaidCategory | SaidEstimate:
    """Return what a measurement group says; its contents tell what was asked."""
    parameters = {
        key: value
        for key, _, value in (
            item.text.partition("=") for item in group.all(codes.ALGORITHM_PARAMETERS)
        )
    }
    if group.find(codes.FLAG) is not None:
        return _finding(group, parameters)
    if "labels" in parameters:
        return _category(group, parameters)
    return _estimate(group, parameters)


def _finding(group: Node, parameters: Parameters) -> SaidFinding:
    site = group.find(codes.FINDING_SITE)
    side = group if site is None else site
    urgency = group.code_of(codes.URGENCY)
    return SaidFinding(
        key=_key(group),
        tracking_uid=group.get(codes.TRACKING_UID).text,
        concept=group.get(codes.FINDING).code,
        site=None if site is None else site.code,
        laterality=side.code_of(codes.LATERALITY),
        score=_score(group, parameters),
        operating_point=_operating_point(parameters),
        flag=_FLAGS[group.get(codes.FLAG).code.value],
        urgency=None if urgency is None else _urgency(urgency),
        basis=_basis(group, parameters),
    )


def _urgency(code: Code) -> Urgency:
    return _URGENCIES[code.value]


def _category(group: Node, parameters: Parameters) -> SaidCategory:
    question = _evaluation(group)
    chosen = None if question.code.value == _NOT_EVALUATED else question.code
    second = parameters.get("runner-up-score")
    return SaidCategory(
        key=_key(group),
        tracking_uid=group.get(codes.TRACKING_UID).text,
        concept=question.name,
        chosen=chosen,
        score=_score(group, parameters),
        runner_up=None if second is None else _label(parameters["runner-up"]),
        runner_up_score=None if second is None else float(second),
        labels=int(parameters["labels"]),
        basis=_basis(group, parameters),
    )


def _estimate(group: Node, parameters: Parameters) -> SaidEstimate:
    number = _number(group)
    asked = _evaluation(group) if number is None else number
    spread = parameters.get("spread")
    return SaidEstimate(
        key=_key(group),
        tracking_uid=group.get(codes.TRACKING_UID).text,
        concept=asked.name,
        value=None if number is None else number.number,
        unit=None if number is None else number.unit,
        spread=None if spread is None else float(spread),
        references=int(parameters["references"]),
        validated=parameters["validated"] == "yes",
        basis=_basis(group, parameters),
    )


def _key(group: Node) -> str:
    """Return the name inside the pack: it stands behind the pack's."""
    pack = group.get(codes.ALGORITHM_NAME).text
    return group.get(codes.TRACKING_IDENTIFIER).text.removeprefix(f"{pack}/")


def _number(group: Node) -> Node | None:
    return next((item for item in group if item.type == "NUM"), None)


def _evaluation(group: Node) -> Node:
    """Return the coded answer: the first code that is no obstacle."""
    return next(
        item
        for item in group
        if item.type == "CODE" and not item.is_called(codes.OBSTACLE)
    )


def _score(group: Node, parameters: Parameters) -> Score | None:
    number = _number(group)
    if number is None:
        return None
    low, _, high = parameters.get("interval", "").partition(",")
    return Score(
        value=number.number,
        calibration_set=parameters.get("calibration-set", ""),
        interval=(float(low), float(high)) if low else None,
    )


def _operating_point(parameters: Parameters) -> OperatingPoint | None:
    if "threshold" not in parameters:
        return None
    name, _, digest = parameters["threshold-set"].rpartition(" sha256:")
    return OperatingPoint(
        name=parameters["operating-point"],
        threshold=float(parameters["threshold"]),
        threshold_set=name,
        threshold_set_digest=Sha256(digest),
        tolerance=float(parameters.get("tolerance", "0")),
        rule_out=float(parameters["rule-out"]) if "rule-out" in parameters else None,
    )


def _label(text: str) -> Code:
    scheme, _, rest = text.partition(":")
    value, _, meaning = rest.partition(" ")
    return Code(value=value, scheme=scheme, meaning=meaning)


def _basis(group: Node, parameters: Parameters) -> Basis:
    scores = [s for s in parameters.get("evidence-scores", "").split(",") if s]
    images = [
        _image(item)
        for item in group.all(codes.SOURCE_OF_MEASUREMENT)
        if item.type in {"IMAGE", "COMPOSITE"}
    ]
    return Basis(
        images_scored=int(parameters["images-scored"]),
        selection=parameters.get("selection", ""),
        evidence=tuple(
            Evidence(image=image, score=float(score))
            for image, score in zip(images, scores, strict=True)
        ),
        obstacle=group.code_of(codes.OBSTACLE),
        reason=group.text_of(codes.REASON),
    )


def _image(item: Node) -> Image:
    referred = item.item.ReferencedSOPSequence[0]
    numbers = referred.get("ReferencedFrameNumber")
    several = numbers if isinstance(numbers, MultiValue) else [numbers]
    return Image(
        sop_class_uid=SopClassUid(joined(referred.ReferencedSOPClassUID)),
        sop_instance_uid=SopInstanceUid(joined(referred.ReferencedSOPInstanceUID)),
        frames=tuple(int(number) for number in several if number is not None),
    )
