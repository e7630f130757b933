"""An atlas from labelled images: gathered, thinned out, named, written, sealed.

What is kept of a case: its embedding, modality, body part, labels and who established
them, a random identifier, a random number of its patient, and a small picture. Who is
who goes into the link file, outside of the atlas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dicom_node.domain import Code
from dicom_node.errors import Permanent
from workers.atlas.cells import counted, over_the_floor
from workers.atlas.checking import stamp_files
from workers.atlas.deidentify import statement, thumbnail
from workers.atlas.gathering import Draft, Sources, gather, placed
from workers.atlas.identifiers import draw_groups, draw_identifiers, shuffled
from workers.atlas.link import Linked, beside, write_link
from workers.atlas.manifest import AtlasManifest, LabelSpec
from workers.atlas.writing import About, Case, write_cases
from workers.cohort import Cohort, check_encoder
from workers.decoding import DecodedInput, DecodePool
from workers.manifest import VolumeMethod
from workers.pack import Pack
from workers.placing import Progress, in_one_piece

UNDER_FLOOR = "a cell of it is under the floor"
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an atlas is to be.

    Parameters
    ----------
    floor
        Patients that every cell has to have.
    concepts
        Coded concepts of findings, besides those of the pack.
    approximate
        Whether an index for approximate search is made.
    link
        Where the link file is written; None: beside the atlas.
    """

    name: str
    version: str
    created: date
    floor: int
    concepts: Mapping[str, Code]
    volume_embedding: VolumeMethod = "unit-mean"
    approximate: bool = False
    link: Path | None = None


def build_atlas(
    plan: Plan,
    out: Path,
    *,
    sources: Sources,
    pack: Pack,
    decoders: DecodePool,
    progress: Progress,
) -> AtlasManifest:
    """Write an atlas to `out`, and its link file outside of it; return what it is.

    Raises
    ------
    Permanent
        If labels, embeddings, images and pack do not belong together, or nothing is
        left over the floor. Nothing is written then.
    """
    cohort, link = sources.cohort, (plan.link or beside(out)).resolve()
    _check(plan, out, link)
    check_encoder(sources.embeddings, pack.encoder_key, pack.name)
    labels = _labels(cohort, pack, plan.concepts)
    drafts, reasons = gather(sources, method=plan.volume_embedding, progress=progress)
    where = [placed(draft, cohort) for draft in drafts]
    stay = over_the_floor(where, plan.floor)
    if not stay:
        raise Permanent(
            f"no cell holds {plan.floor} patients: nothing is left for an atlas"
        )
    reasons[UNDER_FLOOR] = len(drafts) - len(stay)
    kept = _in_order([drafts[place] for place in stay])
    pictures = _pictures(kept, pack, decoders, progress)
    about = About(
        name=plan.name,
        version=plan.version,
        created=plan.created,
        encoder=pack.encoder_key,
        floor=plan.floor,
        volume_embedding=plan.volume_embedding,
        labels=labels,
        cells=counted([where[place] for place in stay]),
        left_out=dict(+reasons),
        deidentification=statement(),
    )
    with in_one_piece(out) as folder:
        cases = _named(kept, cohort, pictures)
        manifest = write_cases(
            folder, cases, about, approximate=plan.approximate, progress=progress
        )
        write_link(_linked(kept, cases, cohort), link)
    stamp_files(out.resolve(), manifest)
    return manifest


def _check(plan: Plan, out: Path, link: Path) -> None:
    if link.is_relative_to(out.resolve()):
        raise Permanent(f"the link file {link} must not lie inside the atlas")
    if link.exists():
        raise Permanent(f"{link} is there already: name another link file")
    if plan.floor < 1:
        raise Permanent("the floor of an atlas is at least one patient")


def _labels(
    cohort: Cohort, pack: Pack, concepts: Mapping[str, Code]
) -> tuple[LabelSpec, ...]:
    known = {finding.key: finding.concept for finding in pack.findings}
    known |= concepts
    missing = [finding for finding in cohort.findings if finding not in known]
    if missing:
        raise Permanent(
            f"pack {pack.name} has no coded concept for {missing[0]!r}: "
            "name a table of concepts"
        )
    return tuple(LabelSpec(key=key, concept=known[key]) for key in cohort.findings)


def _in_order(drafts: Sequence[Draft]) -> list[Draft]:
    """Return the cases by kind, modality and body part, and otherwise in any order."""
    mixed = [drafts[place] for place in shuffled(len(drafts))]
    return sorted(mixed, key=lambda d: (d.kind, d.about.modality, d.about.body_part))


def _pictures(
    drafts: Sequence[Draft], pack: Pack, decoders: DecodePool, progress: Progress
) -> list[bytes]:
    """Return a PNG of each case; empty where its pixels cannot be decoded."""
    found = list[bytes]()
    for start in range(0, len(drafts), _AT_ONCE):
        part = [draft.shown for draft in drafts[start : start + _AT_ONCE]]
        found += [
            thumbnail(one.image) if isinstance(one, DecodedInput) else b""
            for one in decoders.map(part, pack.preprocessing)
        ]
        progress("drawing pictures", len(found), len(drafts))
    return found


def _named(
    drafts: Sequence[Draft], cohort: Cohort, pictures: Sequence[bytes]
) -> list[Case]:
    groups = draw_groups(len(cohort.patients))
    identifiers = draw_identifiers(len(drafts))
    return [
        Case(
            identifier=identifier,
            group=groups[cohort.patient[draft.unit]],
            kind=draft.kind,
            modality=draft.about.modality,
            body_part=draft.about.body_part,
            truth=cohort.truth[draft.unit],
            sources=tuple(
                cohort.sources[source] if source >= 0 else ""
                for source in cohort.source[draft.unit].tolist()
            ),
            vector=draft.vector,
            picture=picture,
        )
        for draft, identifier, picture in zip(
            drafts, identifiers, pictures, strict=True
        )
    ]


def _linked(
    drafts: Sequence[Draft], cases: Sequence[Case], cohort: Cohort
) -> list[Linked]:
    return [
        Linked(
            case=case.identifier,
            group=case.group,
            patient=cohort.patients[int(cohort.patient[draft.unit])],
            patient_digest=draft.patient_digest,
            study=cohort.studies[int(cohort.study[draft.unit])],
            unit=cohort.units[draft.unit],
        )
        for draft, case in zip(drafts, cases, strict=True)
    ]
