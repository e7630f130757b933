"""What the report of a result has to say: the law that reading back is held to.

`read_report` of a composed object equals `report_of` of the result that it was composed
of. Left out is what no Structured Report carries: digests of images, the outcome number,
the urgency of findings that are not flagged, the unit of what was not estimated.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import (
    Algorithm,
    AtlasSearch,
    Category,
    Code,
    Estimate,
    Finding,
    Flag,
    ImageRef,
    ObjectKind,
    Result,
    Unreadable,
)
from sr_writer import codes
from sr_writer.content import summary_code
from sr_writer.document import Options, frame_numbers, long_string
from sr_writer.groups import obstacle_of
from sr_writer.identity import instance_uid, series_uid, tracking_uid
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

_DEFAULT = Options()


def report_of(result: Result, options: Options = _DEFAULT) -> Report:
    """Return what a report of the result says, if it says all that it can."""
    kind, profile = ObjectKind.REPORT, options.profile
    return Report(
        title=_code(codes.pydicom_code(options.title)),
        sop_instance_uid=instance_uid(result, kind, profile=profile),
        series_uid=series_uid(result, kind, profile=profile),
        study_uid=result.study_uid,
        completion=result.completion,
        summary=_code(summary_code(result)),
        obstacle=None if result.evaluated else _code(obstacle_of(result)),
        reason=_text(result.reason),
        revision=result.revision,
        images=len(result.images),
        algorithm=_algorithm(result.algorithm),
        findings=tuple(_finding(result, one) for one in result.findings),
        categories=tuple(_category(result, one) for one in result.categories),
        estimates=tuple(_estimate(result, one) for one in result.estimates),
        cases=_cases(result.cases),
        shadow=tuple(_text(one.concept.meaning) for one in result.shadow),
        unreadable=tuple(_unreadable(result.unreadable)),
        predecessors=_predecessors(result),
        site=long_string(result.site) or "unnamed site",
        software=long_string(result.software),
        concluded_at=result.concluded_at,
    )


def _algorithm(pack: Algorithm) -> Algorithm:
    return Algorithm(
        name=long_string(pack.name),
        version=long_string(pack.version),
        title=long_string(pack.title or pack.name),
        statement=_text(pack.statement),
        device_uid=pack.device_uid,
        encoder=pack.encoder,
        preprocessing=pack.preprocessing,
        profile=pack.profile,
    )


def _finding(result: Result, finding: Finding) -> SaidFinding:
    raised = finding.flag is Flag.ABOVE
    unanswered = finding.flag is Flag.NOT_EVALUATED
    return SaidFinding(
        key=finding.key,
        tracking_uid=tracking_uid(result, finding),
        concept=_known(finding.concept),
        site=_known(finding.site) if finding.site else None,
        laterality=_known(finding.laterality) if finding.laterality else None,
        score=finding.score,
        operating_point=finding.operating_point,
        flag=finding.flag,
        urgency=finding.urgency if raised else None,
        basis=_basis(finding, obstacle_of(result) if unanswered else None),
    )


def _category(result: Result, category: Category) -> SaidCategory:
    chosen, second = category.chosen, category.runner_up
    return SaidCategory(
        key=category.key,
        tracking_uid=tracking_uid(result, category),
        concept=_known(category.concept),
        chosen=_known(chosen.label) if chosen else None,
        score=chosen.score if chosen else None,
        runner_up=_known(second.label) if second else None,
        runner_up_score=second.score.value if second else None,
        labels=category.labels,
        basis=_basis(category, None if chosen else obstacle_of(result)),
    )


def _estimate(result: Result, estimate: Estimate) -> SaidEstimate:
    there = estimate.value is not None
    obstacle = codes.NO_REFERENCES if estimate.unequipped else obstacle_of(result)
    return SaidEstimate(
        key=estimate.key,
        tracking_uid=tracking_uid(result, estimate),
        concept=_known(estimate.concept),
        value=estimate.value,
        unit=_known(estimate.unit) if there else None,
        spread=estimate.spread if there else None,
        references=estimate.references,
        validated=estimate.validated,
        basis=_basis(estimate, None if there else obstacle),
    )


def _basis(asked: Finding | Category | Estimate, obstacle: PydicomCode | None) -> Basis:
    return Basis(
        images_scored=asked.images_scored,
        selection=_text(asked.selection),
        evidence=tuple(
            Evidence(image=_image(e.image, [e.frame]), score=e.score)
            for e in asked.evidence
        ),
        obstacle=None if obstacle is None else _code(obstacle),
        reason=_text(asked.reason),
    )


def _unreadable(unreadable: Sequence[Unreadable]) -> Iterator[UnreadableImages]:
    reasons = Counter(one.reason for one in unreadable)
    for reason, count in reasons.most_common():
        frames: dict[ImageRef, list[int]] = {}
        for one in unreadable:
            if one.reason == reason:
                frames.setdefault(one.image, []).append(one.frame)
        images = tuple(_image(image, indices) for image, indices in frames.items())
        yield UnreadableImages(reason=_text(reason), count=count, images=images)


def _predecessors(result: Result) -> tuple[Superseded, ...]:
    """Return the former reports, those of a series together."""
    first: dict[str, int] = {}
    for number, one in enumerate(result.predecessors):
        first.setdefault(one.series_uid, number)
    return tuple(
        Superseded(
            series_uid=one.series_uid,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
        )
        for one in sorted(result.predecessors, key=lambda p: first[p.series_uid])
    )


def _cases(search: AtlasSearch | None) -> AtlasSearch | None:
    if search is None:
        return None
    cases = (
        replace(
            case,
            identifier=_text(case.identifier),
            labels=tuple(_known(label) for label in case.labels),
            established_by=_text(case.established_by),
        )
        for case in search.cases
    )
    return replace(search, cases=tuple(cases))


def _image(image: ImageRef, indices: list[int]) -> Image:
    return Image(
        sop_class_uid=image.sop_class_uid,
        sop_instance_uid=image.sop_instance_uid,
        frames=tuple(frame_numbers(image, indices) or ()),
    )


def _known(code: Code) -> Code:
    """Return the code as a code sequence can hold it."""
    return _code(codes.pydicom_code(code))


def _code(code: PydicomCode) -> Code:
    return Code(value=code.value, scheme=code.scheme_designator, meaning=code.meaning)


def _text(words: str) -> str:
    """Return a text as UT keeps it: trailing spaces are padding (PS3.5 6.2)."""
    return words.rstrip(" \0")
