"""From embeddings to what is said of a study, or the reason why nothing is.

Pure: embeddings, heads and thresholds come in as values, and nothing is read, looked
up or dated here. What cannot be evaluated says so: no finding is ever left out, and no
score is made up. Findings get scores and flags, categories the label that fits best,
estimates a value; flags and urgency come from findings alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.domain import (
    Category,
    Completion,
    Estimate,
    Finding,
    InputFile,
    Unreadable,
)
from workers.answers import categorise, estimate
from workers.findings import find
from workers.heads import NO_LABELS, Heads, Labels
from workers.pack import Pack
from workers.study import EmbeddedImage, Study
from workers.volumes import slice_of, volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a pack says of a study.

    Parameters
    ----------
    findings
        One for each of the pack, in its order.
    reason
        Why nothing at all could be evaluated; empty otherwise.
    completion
        PARTIAL if an image that the pack would look at could not be read.
    categories, estimates
        One for each of the pack, in its order.
    outside_scope
        Whether the pack accepts no image of the study.
    """

    findings: tuple[Finding, ...]
    reason: str
    completion: Completion
    outside_scope: bool = False
    categories: tuple[Category, ...] = ()
    estimates: tuple[Estimate, ...] = ()


def conclude(
    pack: Pack,
    heads: Heads,
    *,
    images: Sequence[InputFile],
    frames: Sequence[EmbeddedImage],
    unreadable: Sequence[Unreadable] = (),
    labels: Labels = NO_LABELS,
) -> Conclusion:
    """Return what `pack` says of a study.

    Parameters
    ----------
    heads
        For every finding of the pack: ``pack.heads``, and zero-shot ones.
    labels
        For every category of the pack.
    images
        Every image instance of the revision, whether it was embedded or not.
    frames
        Those that could be read, in any order.
    unreadable
        Those that could not.
    """
    study = Study(
        images=images,
        frames=frames,
        unreadable=unreadable,
        volumes=volumes(slice_of(f.source, f.frame, f.geometry) for f in frames),
        limit=pack.manifest.volume.limit if pack.manifest.volume else None,
    )
    accepted = study.accepted(pack.manifest.accepts)
    findings = tuple(
        find(pack, heads[spec.key], spec, accepted.narrowed(spec.accepts))
        for spec in pack.findings
    )
    categories = tuple(
        categorise(labels[spec.key], spec, accepted.narrowed(spec.accepts))
        for spec in pack.manifest.categories
    )
    estimates = tuple(
        estimate(pack.references.get(spec.key), spec, accepted.narrowed(spec.accepts))
        for spec in pack.manifest.estimates
    )
    reasons = [
        *(finding.reason for finding in findings),
        *(category.reason for category in categories),
        *(estimate.reason for estimate in estimates),
    ]
    refused = _refused(pack, study)
    return Conclusion(
        findings=findings,
        reason=(refused or "; ".join(dict.fromkeys(reasons))) if all(reasons) else "",
        outside_scope=bool(refused) and all(reasons),
        completion=Completion.PARTIAL if accepted.unreadable else Completion.COMPLETE,
        categories=categories,
        estimates=estimates,
    )


def _refused(pack: Pack, study: Study) -> str:
    """Return why no image is accepted for anything that is asked; empty if one is."""
    manifest = pack.manifest
    narrowed = [
        *(finding.accepts for finding in manifest.findings),
        *(category.accepts for category in manifest.categories),
        *(estimate.accepts for estimate in manifest.estimates),
    ]
    rules = dict.fromkeys(
        rule
        for accepts in narrowed
        for rule in ([accepts] if accepts else manifest.accepts)
    )
    return study.accepted(list(rules)).refused
