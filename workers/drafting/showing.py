"""What a pack asks, of which images, and on which evidence: figures, ROC, model card.

Read from its files, without loading the model: that is what ``pack verify`` does.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.asked import CategorySpec, FindingSpec
from workers.drafting.draft import CARD
from workers.pack import Pack

_LIMITED = 3
"""A value, and its limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFinding:
    """A finding, how it is decided, and what that rests on.

    Parameters
    ----------
    decision
        The operating point in words.
    notes
        What else a reader has to know: shadow mode, calibration, checks.
    evidence
        Of the operating point, as the pack states it; without its curve.
    roc
        Points (false positive rate, sensitivity, threshold), as far as there are any.
    """

    key: str
    meaning: str
    head: str
    aggregation: str
    mode: str
    decision: str
    notes: tuple[str, ...]
    evidence: dict[str, Any]
    roc: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A pack, for a person or as JSON."""

    name: str
    version: str
    title: str
    statement: str
    device_uid: str
    digest: str
    threshold_set: str
    threshold_set_digest: str
    accepts: tuple[str, ...]
    findings: tuple[ShownFinding, ...]
    categories: tuple[str, ...]
    estimates: tuple[str, ...]
    gate: str
    atlas: str
    card: str

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def show(pack: Pack) -> Shown:
    """Return what there is to know of a pack."""
    manifest = pack.manifest
    gate, atlas = manifest.gate, manifest.atlas
    card = pack.folder / CARD
    return Shown(
        name=pack.name,
        version=pack.version,
        title=manifest.title,
        statement=manifest.statement,
        device_uid=pack.device_uid,
        digest=pack.digest,
        threshold_set=manifest.threshold_set.name,
        threshold_set_digest=pack.threshold_set_digest,
        accepts=tuple(map(str, manifest.accepts)),
        findings=tuple(map(_finding, pack.findings)),
        categories=tuple(map(_category, manifest.categories)),
        estimates=tuple(one.meaning for one in manifest.estimates),
        gate=f"{gate.kind}, false alarms {gate.rate:.1%}" if gate else "",
        atlas=f"{atlas.name} {atlas.version}, {atlas.k} cases" if atlas else "",
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def _finding(spec: FindingSpec) -> ShownFinding:
    point = spec.operating_point
    band = "" if point.rule_out is None else f", ruled out below {point.rule_out:.4g}"
    evidence = dict(point.evidence)
    curve = evidence.pop("roc", [])
    return ShownFinding(
        key=spec.key,
        meaning=spec.meaning,
        head=spec.head.kind,
        aggregation=spec.aggregation,
        mode=spec.mode,
        decision=f"{point.name}, threshold {point.threshold:.4g}{band}",
        notes=tuple(_notes(spec)),
        evidence=evidence,
        roc=tuple(tuple(map(float, one)) for one in curve),
    )


def _category(spec: CategorySpec) -> str:
    """Return how it is answered, and how often rightly where somebody measured it."""
    head = spec.head.kind if spec.head else "zero-shot"
    measured = (spec.validated or {}).get("accuracy")
    if isinstance(measured, list) and len(measured) == _LIMITED:
        value, low, high = measured
        accuracy = f"accuracy {value:.4g} (95 % {low:.4g} to {high:.4g})"
    else:
        accuracy = "not validated"
    return f"{spec.meaning}: {head} head, one of {len(spec.labels)} labels, {accuracy}"


def _notes(spec: FindingSpec) -> Iterator[str]:
    if spec.mode == "shadow":
        yield "in shadow mode: computed and stored, not reported"
    if spec.calibration is None:
        yield "not calibrated: its score is no probability"
    else:
        calibration = spec.calibration
        yield (
            f"calibrated by {calibration.method} on {calibration.set}, "
            f"prevalence {calibration.prevalence:.1%}"
        )
    if spec.against is not None:
        yield f"compares the image with the header's {spec.against.attribute}"
    if spec.ungated:
        yield "asked in spite of the gate"
    if spec.accepts is not None:
        yield f"of {spec.accepts} only"


def _lines(shown: Shown) -> Iterator[str]:
    yield f"{shown.name} {shown.version}: {shown.title}"
    yield f"  {shown.statement}"
    for name, value in (
        ("accepts", "; ".join(shown.accepts)),
        ("gate", shown.gate or "none: images are accepted by their attributes alone"),
        ("atlas", shown.atlas or "none"),
        ("thresholds", f"{shown.threshold_set} sha256:{shown.threshold_set_digest}"),
        ("device UID", shown.device_uid),
        ("sha256", shown.digest),
        *(("category", category) for category in shown.categories),
        ("estimates", ", ".join(shown.estimates)),
    ):
        if value:
            yield f"  {name:<11} {value}"
    for finding in shown.findings:
        yield f"\n{finding.meaning} ({finding.key}): {finding.decision}"
        yield f"  {finding.head} head, {finding.aggregation} over the study"
        yield from (f"  {note}" for note in finding.notes)
        yield from (f"  {line}" for line in _figures(finding.evidence))
        yield from (f"  {line}" for line in _curve(finding.roc))
    if shown.card:
        yield f"\n{shown.card.strip()}"


def _figures(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured: a value with its limits, or whatever it is."""
    if not evidence:
        yield "no evidence"
    for name, value in evidence.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
            low, high = value["low"], value["high"]
            yield f"{label}: {value['value']:.4g} (95 % {low:.4g} to {high:.4g})"
        elif isinstance(value, (str, int, float)):
            yield (
                f"{label}: {value:.4g}"
                if isinstance(value, float)
                else (f"{label}: {value}")
            )
        else:
            yield f"{label}: {json.dumps(value)}"


def _curve(roc: tuple[tuple[float, ...], ...]) -> Iterator[str]:
    """Yield the sensitivity at a few false positive rates."""
    if not roc:
        return
    for rate in (0.01, 0.05, 0.1, 0.2):
        reached = [point[1] for point in roc if point[0] <= rate]
        if reached:
            yield f"ROC: sensitivity {max(reached):.3f} at {rate:.0%} false positives"
