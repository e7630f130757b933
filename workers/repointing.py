"""A manifest at a site's own thresholds: points and modes from the set, all else as it was.

A set is bound to one pack by digest, and to one precision: scores of anything else are
other scores.
"""

from collections.abc import Collection
from dataclasses import replace

from dicom_node.domain import Sha256
from dicom_node.errors import Permanent
from workers.asked import FindingSpec, PointSpec
from workers.manifest import Manifest
from workers.manifest import ThresholdSet as NamedSet
from workers.thresholds.sets import SHIPPED, Point, ThresholdSet


def repointed(
    manifest: Manifest,
    digest: Sha256,
    thresholds: ThresholdSet,
    shadow: Collection[str],
) -> Manifest:
    """Return the manifest with the set's points, `shadow` findings flagging nothing.

    Parameters
    ----------
    digest
        Of the pack, as it ships.

    Raises
    ------
    Permanent
        If the set is for another pack, another version or another precision, or does
        not speak of exactly the pack's findings.
    """
    _check_made_for(thresholds, manifest, digest)
    _check_findings(thresholds, manifest, shadow)
    findings = tuple(
        _at(thresholds.points[spec.key], spec, in_shadow=spec.key in shadow)
        for spec in manifest.findings
    )
    named = NamedSet(name=thresholds.label, created=thresholds.created)
    return replace(manifest, findings=findings, threshold_set=named)


def _check_made_for(
    thresholds: ThresholdSet, manifest: Manifest, digest: Sha256
) -> None:
    made_for = (thresholds.pack, thresholds.pack_digest, thresholds.profile)
    if made_for == (manifest.name, digest, manifest.encoder.numeric_profile):
        return
    raise Permanent(
        f"threshold set {thresholds.label} was made for {thresholds.pack} "
        f"{thresholds.pack_version} ({thresholds.profile}), and this is another pack, "
        f"{manifest.name} {manifest.version}: choose its thresholds with "
        "`pacsight threshold set`"
    )


def _check_findings(
    thresholds: ThresholdSet, manifest: Manifest, shadow: Collection[str]
) -> None:
    own = {spec.key for spec in manifest.findings}
    if unknown := sorted(set(shadow) - own):
        known = ", ".join(sorted(own))
        raise Permanent(
            f"pack {manifest.name} has no finding {unknown[0]!r}: it has {known}"
        )
    if own != thresholds.points.keys():
        raise Permanent(
            f"threshold set {thresholds.label} speaks of other findings than pack "
            f"{manifest.name}"
        )


def _at(point: Point, spec: FindingSpec, *, in_shadow: bool) -> FindingSpec:
    shipped = spec.operating_point.evidence
    return replace(
        spec,
        mode="shadow" if in_shadow else point.mode,
        operating_point=PointSpec(
            name=point.name,
            threshold=point.threshold,
            tolerance=point.tolerance,
            rule_out=point.rule_out,
            evidence=shipped if point.origin == SHIPPED else {"set": point.origin},
        ),
    )
