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
from workers.study import EmbeddedImage, Gate, Seen, Study
from workers.volumes import slice_of, volumes

ALL_IN_SHADOW = "all that this pack looks for runs in shadow mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a pack says of a study.

    Parameters
    ----------
    findings
        One for each of the pack that is reported, in its order.
    shadow
        One for each of the pack that runs in shadow mode, in its order.
    reason
        Why nothing at all could be evaluated; empty otherwise.
    completion
        PARTIAL if an image that the pack would look at could not be read.
    categories, estimates
        One for each of the pack, in its order.
    outside_scope
        Whether the pack accepts no image of the study.
    seen
        The images that the pack accepts and its gate lets through.
    """

    findings: tuple[Finding, ...]
    reason: str
    completion: Completion
    seen: Seen
    outside_scope: bool = False
    categories: tuple[Category, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    shadow: tuple[Finding, ...] = ()


def conclude(  # noqa: PLR0913 - what a study holds, and what looks at it
    pack: Pack,
    heads: Heads,
    *,
    images: Sequence[InputFile],
    frames: Sequence[EmbeddedImage],
    unreadable: Sequence[Unreadable] = (),
    labels: Labels = NO_LABELS,
    gate: Gate | None = None,
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
    gate
        Leaves out what is not like the images that the pack was validated on, except
        for findings that the pack asks in spite of it.
    """
    study = Study(
        images=images,
        frames=frames,
        unreadable=unreadable,
        volumes=volumes(slice_of(f.source, f.frame, f.geometry) for f in frames),
        limit=pack.manifest.volume.limit if pack.manifest.volume else None,
    )
    accepted = study.accepted(pack.manifest.accepts)
    inside = accepted.inside(gate)
    found = [
        find(
            pack,
            heads[spec.key],
            spec,
            (accepted if spec.ungated else inside).narrowed(spec.accepts),
        )
        for spec in pack.findings
    ]
    live = tuple(one for one in found if not pack.in_shadow(one.key))
    categories = tuple(
        categorise(labels[spec.key], spec, inside.narrowed(spec.accepts))
        for spec in pack.manifest.categories
    )
    estimates = tuple(
        estimate(pack.references.get(spec.key), spec, inside.narrowed(spec.accepts))
        for spec in pack.manifest.estimates
    )
    reasons = [
        *(finding.reason for finding in live),
        *(category.reason for category in categories),
        *(estimate.reason for estimate in estimates),
    ]
    refused = _refused(pack, study)
    return Conclusion(
        findings=live,
        shadow=tuple(one for one in found if pack.in_shadow(one.key)),
        reason=(refused or _joined(reasons)) if all(reasons) else "",
        outside_scope=bool(refused) and all(reasons),
        completion=Completion.PARTIAL if accepted.unreadable else Completion.COMPLETE,
        categories=categories,
        estimates=estimates,
        seen=inside.seen,
    )


def _joined(reasons: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(reasons)) if reasons else ALL_IN_SHADOW


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
