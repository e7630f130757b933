"""What the report says: the content tree, TID 1500 "Measurement Report".

One TID 1501 group per finding, per category (a coded evaluation with its score) and per
estimate (a NUM in its unit); whole-study statements in "Qualitative Evaluations"
(row 12), similar reference cases in a container of our own. Containers are SEPARATE,
so that viewers show each item with its name. Coordinates are never invented: a score
that belongs to an image refers to the image.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode
from pydicom.valuerep import format_number_as_ds

from dicom_node.domain import (
    AtlasSearch,
    Category,
    Completion,
    Estimate,
    Finding,
    Flag,
    FrameScore,
    ImageRef,
    ReferenceCase,
    Result,
    Score,
)
from sr_writer import codes
from sr_writer.document import (
    MANUFACTURER,
    Basis,
    code_of,
    frame_numbers,
    long_string,
    text_of,
)
from sr_writer.identity import tracking_uid

_CONTAINS = RelationshipTypeValues.CONTAINS
_NOT_EVALUATED = codes.FLAG_VALUES[Flag.NOT_EVALUATED]


def content_tree(basis: Basis) -> ContainerContentItem:
    """Return the root of the report, and in it everything that the result says."""
    result = basis.result
    children: list[ContentItem] = [
        *LanguageOfContentItemAndDescendants(CodedConcept.from_code(codes.ENGLISH)),
        *_observation_context(result),
        *(
            CodeContentItem(
                name=codes.PROCEDURE_REPORTED,
                value=procedure,
                relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
            )
            for procedure in _procedures(basis.source)
        ),
    ]
    groups = [
        *(item for one in result.findings for item in _measurement_group(result, one)),
        *(item for one in result.categories for item in _category_group(result, one)),
        *(item for one in result.estimates for item in _estimate_group(result, one)),
    ]
    if groups:
        children.append(_container(codes.IMAGING_MEASUREMENTS, groups))
    children.append(_container(codes.QUALITATIVE_EVALUATIONS, list(_whole_run(result))))
    if result.cases is not None:
        children.append(_similar_cases(result.cases))
    root = ContainerContentItem(
        name=codes.pydicom_code(basis.options.title),
        is_content_continuous=False,
        template_id="1500",
    )
    root.ContentSequence = ContentSequence(children)
    return root


def summary_code(result: Result) -> PydicomCode:
    """Return how the run as a whole went (CID 6047)."""
    if not result.evaluated:
        return codes.NONE_SUCCEEDED
    whole = result.completion is Completion.COMPLETE and result.whole
    if result.flagged:
        return (
            codes.ALL_SUCCEEDED_WITH_FINDINGS
            if whole
            else codes.SOME_SUCCEEDED_WITH_FINDINGS
        )
    return (
        codes.ALL_SUCCEEDED_WITHOUT_FINDINGS
        if whole
        else codes.SOME_SUCCEEDED_WITHOUT_FINDINGS
    )


def _observation_context(result: Result) -> ObservationContext:
    """Return who observed: a device, TID 1004."""
    algorithm = result.algorithm
    device = DeviceObserverIdentifyingAttributes(
        uid=algorithm.device_uid,
        name=long_string(algorithm.title or algorithm.name),
        manufacturer_name=MANUFACTURER,
        model_name=long_string(f"{algorithm.name} {algorithm.version}"),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=device,
        )
    )


def _procedures(source: Dataset) -> list[PydicomCode]:
    """Return the imaging procedures: as the source codes them, else by modality."""
    for keyword in (
        "ProcedureCodeSequence",
        "RequestedProcedureCodeSequence",
        "PerformedProtocolCodeSequence",
    ):
        coded = [code_of(item) for item in source.get(keyword) or ()]
        if found := [code for code in coded if code is not None]:
            return found
    modality = text_of(source, "Modality").upper()
    return [codes.PROCEDURE_BY_MODALITY.get(modality, codes.IMAGING_PROCEDURE)]


def _measurement_group(
    result: Result, finding: Finding
) -> MeasurementsAndQualitativeEvaluations:
    """Return what the pack says of one finding: TID 1501."""
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, finding),
        finding_type=codes.pydicom_code(finding.concept),
        finding_sites=_sites(finding),
        algorithm_id=_algorithm(result, list(_parameters(finding))),
        measurements=[_measurement(result, finding.score)] if finding.score else None,
        qualitative_evaluations=list(_evaluations(result, finding)),
        source_images=[_source_image(e) for e in finding.evidence] or None,
    )
    return _finished(group, finding.reason)


def _category_group(
    result: Result, category: Category
) -> MeasurementsAndQualitativeEvaluations:
    """Return the label that was chosen, its score and the next best: TID 1501."""
    concept, chosen = codes.pydicom_code(category.concept), category.chosen
    label = codes.pydicom_code(chosen.label) if chosen else _NOT_EVALUATED
    evaluations = [QualitativeEvaluation(concept, label)]
    if chosen is None:
        evaluations.append(QualitativeEvaluation(codes.OBSTACLE, _obstacle(result)))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, category),
        algorithm_id=_algorithm(result, list(_category_parameters(category))),
        measurements=[_measurement(result, chosen.score)] if chosen else None,
        qualitative_evaluations=evaluations,
        source_images=[_source_image(e) for e in category.evidence] or None,
    )
    return _finished(group, category.reason)


def _estimate_group(
    result: Result, estimate: Estimate
) -> MeasurementsAndQualitativeEvaluations:
    """Return the value that was estimated, in its unit: TID 1501."""
    concept = codes.pydicom_code(estimate.concept)
    measurements, evaluations = [], []
    if estimate.value is not None:
        unit = codes.pydicom_code(estimate.unit)
        measurements.append(_number(result, concept, estimate.value, unit))
    else:
        lacking = estimate.unequipped
        obstacle = codes.NO_REFERENCES if lacking else _obstacle(result)
        evaluations.append(QualitativeEvaluation(concept, _NOT_EVALUATED))
        evaluations.append(QualitativeEvaluation(codes.OBSTACLE, obstacle))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, estimate),
        algorithm_id=_algorithm(result, list(_estimate_parameters(estimate))),
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
        source_images=[_source_image(e) for e in estimate.evidence] or None,
    )
    return _finished(group, estimate.reason)


def _finished(
    group: MeasurementsAndQualitativeEvaluations, reason: str
) -> MeasurementsAndQualitativeEvaluations:
    """Return the group, separate as viewers want it, and why there is no answer."""
    group[0].ContinuityOfContent = "SEPARATE"
    if reason:
        group[0].ContentSequence.append(_text(codes.REASON, reason))
    return group


def _tracking(
    result: Result, asked: Finding | Category | Estimate
) -> TrackingIdentifier:
    return TrackingIdentifier(
        identifier=f"{result.algorithm.name}/{asked.key}",
        uid=tracking_uid(result, asked),
    )


def _sites(finding: Finding) -> list[FindingSite] | None:
    if finding.site is None:
        return None
    side = finding.laterality
    return [
        FindingSite(
            anatomic_location=codes.pydicom_code(finding.site),
            laterality=codes.pydicom_code(side) if side else None,
        )
    ]


def _algorithm(
    result: Result, parameters: list[str] | None = None
) -> AlgorithmIdentification:
    """Return which pack it was: TID 4019."""
    algorithm = result.algorithm
    return AlgorithmIdentification(
        name=algorithm.name, version=algorithm.version, parameters=parameters or None
    )


def _parameters(finding: Finding) -> Iterator[str]:
    """Yield what it takes to come from the score to the flag again."""
    if finding.score is not None:
        yield f"score={finding.score.value:.6f}"
        if finding.score.calibration_set:
            yield f"calibration-set={finding.score.calibration_set}"
    if (point := finding.operating_point) is not None:
        yield f"threshold={point.threshold:.6f}"
        if point.tolerance:
            yield f"tolerance={point.tolerance:.6f}"
        yield f"operating-point={point.name}"
        yield f"threshold-set={point.threshold_set} sha256:{point.threshold_set_digest}"
    yield from _rests_on(finding)


def _category_parameters(category: Category) -> Iterator[str]:
    """Yield how sure the choice is: its score, and the next best label's."""
    if category.chosen is not None:
        yield f"score={category.chosen.score.value:.6f}"
    if (second := category.runner_up) is not None:
        label = second.label
        yield f"runner-up={label.scheme}:{label.value} {label.meaning}"[:64]
        yield f"runner-up-score={second.score.value:.6f}"
    yield f"labels={category.labels}"
    yield from _rests_on(category)


def _estimate_parameters(estimate: Estimate) -> Iterator[str]:
    """Yield what the value rests on, and whether its error was ever measured."""
    if estimate.value is not None and estimate.spread is not None:
        yield f"value={estimate.value:.6f}"
        yield f"spread={estimate.spread:.6f}"
    yield f"references={estimate.references}"
    yield f"validated={'yes' if estimate.validated else 'no'}"
    yield from _rests_on(estimate)


def _rests_on(asked: Finding | Category | Estimate) -> Iterator[str]:
    yield f"images-scored={asked.images_scored}"
    if isinstance(asked, Finding) and asked.selection:
        yield f"selection={asked.selection}"
    if asked.evidence:
        scores = ",".join(f"{e.score:.6f}" for e in asked.evidence)
        yield f"evidence-scores={scores}"


def _measurement(result: Result, score: Score) -> Measurement:
    """Return the score: a probability only where it was calibrated, TID 300."""
    properties = None
    if score.interval is not None:
        low, high = score.interval
        properties = MeasurementProperties(
            upper_measurement_uncertainty=max(high - score.value, 0.0),
            lower_measurement_uncertainty=max(score.value - low, 0.0),
        )
    measurement = Measurement(
        name=codes.PROBABILITY if score.calibration_set else codes.CLASSIFIER_SCORE,
        value=float(score.value),
        unit=codes.NO_UNITS,
        algorithm_id=_algorithm(result),
        properties=properties,
    )
    _round_numeric_value(measurement[0])
    for item in properties or ():
        _round_numeric_value(item)
    return measurement


def _evaluations(result: Result, finding: Finding) -> Iterator[QualitativeEvaluation]:
    """Yield the flag; for a flagged finding its urgency; for none, what stood in the way."""
    yield QualitativeEvaluation(codes.FLAG, codes.FLAG_VALUES[finding.flag])
    if finding.flag is Flag.ABOVE:
        yield QualitativeEvaluation(
            codes.URGENCY, codes.URGENCY_VALUES[finding.urgency]
        )
    if finding.flag is Flag.NOT_EVALUATED:
        yield QualitativeEvaluation(codes.OBSTACLE, _obstacle(result))
    if finding.site is None and finding.laterality is not None:
        yield QualitativeEvaluation(
            codes.LATERALITY, codes.pydicom_code(finding.laterality)
        )


def _number(
    result: Result, name: PydicomCode, value: float, unit: PydicomCode
) -> Measurement:
    """Return a value in its unit, with who measured it, TID 300."""
    measurement = Measurement(
        name=name, value=value, unit=unit, algorithm_id=_algorithm(result)
    )
    _round_numeric_value(measurement[0])
    return measurement


def _obstacle(result: Result) -> PydicomCode:
    lacking = [estimate.unequipped for estimate in result.estimates]
    if lacking and all(lacking) and not (result.findings or result.categories):
        return codes.NO_REFERENCES
    if result.unreadable and not result.evaluated:
        return codes.IMAGES_UNREADABLE
    return codes.OUTSIDE_VALIDATED_RANGE


def _source_image(evidence: FrameScore) -> SourceImageForMeasurementGroup:
    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=evidence.image.sop_class_uid,
        referenced_sop_instance_uid=evidence.image.sop_instance_uid,
        referenced_frame_numbers=frame_numbers(evidence.image, [evidence.frame]),
    )


def _whole_run(result: Result) -> Iterator[ContentItem]:
    """Yield what holds for the run: TID 1500, row 12."""
    yield _code(codes.CAD_SUMMARY, summary_code(result))
    if not result.evaluated:
        yield _code(codes.OBSTACLE, _obstacle(result))
    if result.reason:
        yield _text(codes.REASON, result.reason)
    images = f"{len(result.images)} image{'s' if len(result.images) != 1 else ''}"
    yield _text(codes.REVISION, f"{result.revision} ({images})")
    if result.algorithm.statement:
        yield _text(codes.STATEMENT, result.algorithm.statement)
    if result.unreadable:
        yield _container(codes.UNREADABLE_IMAGES, list(_unreadable(result)))


def _unreadable(result: Result) -> Iterator[ContentItem]:
    """Yield the reasons, most frequent first, then the images."""
    for reason, count in Counter(u.reason for u in result.unreadable).most_common():
        yield _text(codes.REASON, f"{count} x {reason}")
    frames: dict[ImageRef, list[int]] = {}
    for unreadable in result.unreadable:
        frames.setdefault(unreadable.image, []).append(unreadable.frame)
    for image, indices in frames.items():
        yield ImageContentItem(
            name=codes.UNREADABLE_IMAGE,
            referenced_sop_class_uid=image.sop_class_uid,
            referenced_sop_instance_uid=image.sop_instance_uid,
            referenced_frame_numbers=frame_numbers(image, indices),
            relationship_type=_CONTAINS,
        )


def _similar_cases(search: AtlasSearch) -> ContainerContentItem:
    """Return the nearest reference cases: opaque, de-identified, no evidence."""
    atlas = (
        f"{search.atlas} v{search.version} sha256:{search.digest}; "
        f"metric={search.metric}; k={len(search.cases)}"
    )
    disclaimer = (
        "De-identified reference cases, not this patient. "
        "Similarity is not evidence of diagnosis."
    )
    return _container(
        codes.SIMILAR_CASES,
        [
            _text(codes.REFERENCE_ATLAS, atlas),
            _text(codes.DISCLAIMER, disclaimer),
            *(_case(case, search.metric) for case in search.cases),
        ],
    )


def _case(case: ReferenceCase, metric: str) -> ContainerContentItem:
    similarity = NumContentItem(
        name=codes.COSINE_SIMILARITY if metric == "cosine" else codes.SIMILARITY,
        value=float(case.similarity),
        unit=codes.NO_UNITS,
        relationship_type=_CONTAINS,
    )
    _round_numeric_value(similarity)
    labels = [_code(codes.FINDING, codes.pydicom_code(c)) for c in case.labels]
    items = [_text(codes.CASE_IDENTIFIER, case.identifier), similarity, *labels]
    if case.established_by:
        items.append(_text(codes.ESTABLISHED_BY, case.established_by))
    return _container(codes.REFERENCE_CASE, items)


# ── content items ───────────────────────────────────────────────────────────


def _container(
    name: PydicomCode, children: Iterable[ContentItem]
) -> ContainerContentItem:
    item = ContainerContentItem(
        name=name, is_content_continuous=False, relationship_type=_CONTAINS
    )
    item.ContentSequence = ContentSequence(list(children))
    return item


def _text(name: PydicomCode, value: str) -> TextContentItem:
    return TextContentItem(name=name, value=value, relationship_type=_CONTAINS)


def _code(name: PydicomCode, value: PydicomCode) -> CodeContentItem:
    return CodeContentItem(name=name, value=value, relationship_type=_CONTAINS)


def _round_numeric_value(item: Dataset) -> None:
    """Show six digits; Floating Point Value (0040,A161) keeps the exact number."""
    measured = item.MeasuredValueSequence[0]
    value = float(f"{measured.FloatingPointValue:.6g}")
    measured.NumericValue = format_number_as_ds(value)
