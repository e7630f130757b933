"""From scores and a pack to a threshold set: what is chosen anew, and what is carried on.

A set covers all findings of its pack. Those that nobody has chosen keep the point of
the set that it follows, or the one that the pack ships.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from dicom_node.errors import Permanent
from workers.asked import FindingSpec
from workers.cohort import ScoreTable, Truth
from workers.pack import Pack
from workers.thresholds.choosing import Chosen, Wish
from workers.thresholds.samples import Sample
from workers.thresholds.sets import (
    SHIPPED,
    Evidence,
    Mode,
    Point,
    ThresholdSet,
    check_name,
    moved_tolerance,
)
from workers.thresholds.store import Store, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A new set: its name, what is chosen in it, and how that was asked for.

    Parameters
    ----------
    mode
        Of the finding from now on; None: as it was.
    parameters
        What the command was told, for the evidence.
    """

    name: str
    wish: Wish
    mode: Mode | None = None
    parameters: Mapping[str, str | float | int | bool]


def spec_of(pack: Pack, finding: str) -> FindingSpec:
    """Return a finding of a pack.

    Raises
    ------
    Permanent
        If it has none of this name.
    """
    for spec in pack.findings:
        if spec.key == finding:
            return spec
    known = ", ".join(spec.key for spec in pack.findings) or "none"
    raise Permanent(f"pack {pack.name} has no finding {finding!r}: it has {known}")


def sample_of(table: ScoreTable, pack: Pack, spec: FindingSpec, path: Path) -> Sample:
    """Return the studies of a table that a threshold can be chosen or judged on.

    Uncertain and missing labels are left out, and studies that were not evaluated.

    Raises
    ------
    Permanent
        If the scores are of something else than the pack's studies.
    """
    _check_table(table, pack, spec, path)
    column = table.findings.index(spec.key)
    scores, truth = table.scores[:, column], table.truth[:, column]
    rows = np.isfinite(scores) & np.isin(truth, (Truth.PRESENT, Truth.ABSENT))
    folds = table.fold[rows]
    return Sample(
        scores=scores[rows],
        truth=truth[rows] == Truth.PRESENT,
        patient=table.patient[rows],
        fold=folds if table.kind == "out-of-fold" else None,
    )


def _check_table(table: ScoreTable, pack: Pack, spec: FindingSpec, path: Path) -> None:
    if spec.key not in table.findings:
        known = ", ".join(table.findings)
        raise Permanent(f"{path} has no scores of {spec.key!r}: it has {known}")
    if table.pack != pack.digest:
        raise Permanent(
            f"{path} holds scores of another pack than {pack.name} {pack.version}, or of "
            "another version of it: score the studies again"
        )
    if table.level != "study":
        raise Permanent(
            f"{path} holds scores of images, and studies are flagged: give it the scores "
            "of studies"
        )
    calibrated = table.calibrated[table.findings.index(spec.key)]
    if calibrated != (spec.calibration is not None):
        raise Permanent(
            f"{path} holds {'calibrated' if calibrated else 'raw'} scores of {spec.key}, "
            f"and the pack compares {'raw' if calibrated else 'calibrated'} ones with "
            "its threshold"
        )


def check_apart(chosen: ScoreTable, judged: ScoreTable) -> None:
    """Accept two tables of different studies.

    Raises
    ------
    Permanent
        If a study is in both.
    """
    both = set(chosen.units) & set(judged.units)
    if both:
        raise Permanent(
            f"{len(both)} studies are in both files: a threshold is judged on patients "
            "that had no part in choosing it"
        )


def drafted(
    pack: Pack, order: Order, chosen: Chosen, *, store: Store, now: datetime
) -> ThresholdSet:
    """Return the set with a threshold that was chosen, all others carried on.

    Raises
    ------
    Permanent
        If its name is none, or what it follows does not verify.
    """
    try:
        check_name(order.name)
    except ValueError as error:
        raise Permanent(str(error)) from None
    former = _former(pack, order.name, store)
    points = _carried(pack, former)
    version = store.next_version(pack.name, order.name)
    spec = spec_of(pack, order.wish.finding)
    label = f"{order.name}-v{version}"
    points[spec.key] = replace(
        _point(spec, order, chosen),
        origin=label,
        mode=order.mode or points[spec.key].mode,
    )
    return ThresholdSet(
        name=order.name,
        version=version,
        pack=pack.name,
        pack_version=pack.version,
        pack_digest=pack.digest,
        profile=pack.manifest.encoder.numeric_profile,
        created=stamp(now),
        previous=None if former is None else former.digest,
        points=points,
    )


def _former(pack: Pack, name: str, store: Store) -> ThresholdSet | None:
    """Return the last set of this name, or the one in force; of this very pack."""
    latest = store.latest(pack.name, name)
    if latest is not None and latest.pack_digest == pack.digest:
        return latest
    current = store.current(pack.name, pack.digest)
    return None if current is None else current.set


def _carried(pack: Pack, former: ThresholdSet | None) -> dict[str, Point]:
    if former is not None:
        return dict(former.points)
    return {spec.key: _shipped(spec) for spec in pack.findings}


def _shipped(spec: FindingSpec) -> Point:
    """Return the point that the pack ships; its evidence stands in the pack."""
    point = spec.operating_point
    return Point(
        name=point.name,
        threshold=point.threshold,
        rule_out=point.rule_out,
        tolerance=point.tolerance,
        mode=spec.mode,
        calibration_set=_calibration(spec),
        demonstrated=None,
        origin=SHIPPED,
        evidence=None,
    )


def _point(spec: FindingSpec, order: Order, chosen: Chosen) -> Point:
    shipped = spec.operating_point
    threshold = chosen.ends.threshold
    return Point(
        name=order.wish.rule.name,
        threshold=threshold,
        rule_out=chosen.ends.rule_out,
        tolerance=moved_tolerance(shipped.threshold, shipped.tolerance, threshold),
        mode=spec.mode,
        calibration_set=_calibration(spec),
        demonstrated=chosen.demonstrated,
        origin=SHIPPED,
        evidence=_evidence(order, chosen),
    )


def _evidence(order: Order, chosen: Chosen) -> Evidence:
    return Evidence(
        target=order.wish.rule.target,
        confidence=order.wish.confidence,
        split=chosen.split,
        chosen_on=chosen.chosen_on,
        measured_on=chosen.measured_on,
        sensitivity=chosen.sensitivity,
        specificity=chosen.specificity,
        rule_out_sensitivity=chosen.rule_out_sensitivity,
        indeterminate=chosen.indeterminate,
        prevalence=chosen.measured_on.share,
        roc=chosen.roc,
        data=chosen.data,
        parameters=dict(order.parameters),
    )


def _calibration(spec: FindingSpec) -> str:
    return spec.calibration.set if spec.calibration is not None else ""
