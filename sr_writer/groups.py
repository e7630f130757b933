"""The measurement groups of the report, TID 1501: one for whatever a pack was asked.

A finding has a score and a flag, a category is a coded evaluation with its score, an
estimate a NUM in its unit. Coordinates are never invented: a score that belongs to an
image refers to the image.
"""

from collections.abc import Iterator

from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    FindingSite,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import (
    Category,
    Estimate,
    Finding,
    Flag,
    FrameScore,
    Result,
    Score,
)
from sr_writer import codes
from sr_writer.document import frame_numbers
from sr_writer.identity import tracking_uid
from sr_writer.items import composite_unless_image, round_numeric_value, text_item

_NOT_EVALUATED = codes.FLAG_VALUES[Flag.NOT_EVALUATED]


def groups_of(result: Result) -> list[ContentItem]:
    """Return what the pack says of each finding, category and estimate, in its order."""
    return [
        *(item for one in result.findings for item in _measurement_group(result, one)),
        *(item for one in result.categories for item in _category_group(result, one)),
        *(item for one in result.estimates for item in _estimate_group(result, one)),
    ]


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
        evaluations.append(QualitativeEvaluation(codes.OBSTACLE, obstacle_of(result)))
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
        obstacle = codes.NO_REFERENCES if lacking else obstacle_of(result)
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
    for item in group[0].ContentSequence:
        composite_unless_image(item)
    if reason:
        group[0].ContentSequence.append(text_item(codes.REASON, reason))
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
        yield from _score_parameters(finding.score)
    if (point := finding.operating_point) is not None:
        yield f"threshold={_exact(point.threshold)}"
        if point.tolerance:
            yield f"tolerance={_exact(point.tolerance)}"
        if point.rule_out is not None:
            yield f"rule-out={_exact(point.rule_out)}"
        yield f"operating-point={point.name}"
        yield f"threshold-set={point.threshold_set} sha256:{point.threshold_set_digest}"
    yield from _rests_on(finding)


def _score_parameters(score: Score) -> Iterator[str]:
    yield f"score={_exact(score.value)}"
    if score.interval is not None:
        low, high = score.interval  # half-widths alone do not give the limits exactly
        yield f"interval={_exact(low)},{_exact(high)}"
    if score.calibration_set:
        yield f"calibration-set={score.calibration_set}"


def _exact(value: float) -> str:
    """Return the fewest digits that give the same number again."""
    return repr(float(value))


def _category_parameters(category: Category) -> Iterator[str]:
    """Yield how sure the choice is: its score, and the next best label's."""
    if category.chosen is not None:
        yield from _score_parameters(category.chosen.score)
    if (second := category.runner_up) is not None:
        label = codes.pydicom_code(second.label)
        yield f"runner-up={label.scheme_designator}:{label.value} {label.meaning}"
        yield f"runner-up-score={_exact(second.score.value)}"
    yield f"labels={category.labels}"
    yield from _rests_on(category)


def _estimate_parameters(estimate: Estimate) -> Iterator[str]:
    """Yield what the value rests on, and whether its error was ever measured."""
    if estimate.value is not None and estimate.spread is not None:
        yield f"value={_exact(estimate.value)}"
        yield f"spread={_exact(estimate.spread)}"
    yield f"references={estimate.references}"
    yield f"validated={'yes' if estimate.validated else 'no'}"
    yield from _rests_on(estimate)


def _rests_on(asked: Finding | Category | Estimate) -> Iterator[str]:
    yield f"images-scored={asked.images_scored}"
    if asked.selection:
        yield f"selection={asked.selection}"
    if asked.evidence:
        scores = ",".join(_exact(e.score) for e in asked.evidence)
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
    round_numeric_value(measurement[0])
    for item in properties or ():
        round_numeric_value(item)
    return measurement


def _evaluations(result: Result, finding: Finding) -> Iterator[QualitativeEvaluation]:
    """Yield the flag; for a flagged finding its urgency; for none, what stood in the way."""
    yield QualitativeEvaluation(codes.FLAG, codes.FLAG_VALUES[finding.flag])
    if finding.flag is Flag.ABOVE:
        yield QualitativeEvaluation(
            codes.URGENCY, codes.URGENCY_VALUES[finding.urgency]
        )
    if finding.flag is Flag.NOT_EVALUATED:
        yield QualitativeEvaluation(codes.OBSTACLE, obstacle_of(result))
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
    round_numeric_value(measurement[0])
    return measurement


def obstacle_of(result: Result) -> PydicomCode:
    """Return what stood in the way of an answer."""
    if result.shadow and not (result.findings or result.categories or result.estimates):
        return codes.SHADOW_ONLY
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
