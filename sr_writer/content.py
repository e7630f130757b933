"""What the report says: the content tree, TID 1500 "Measurement Report".

The groups of "Imaging Measurements" come from `sr_writer.groups`; whole-study statements
stand in "Qualitative Evaluations" (row 12), similar reference cases in a container of
our own. Containers are SEPARATE, so that viewers show each item with its name.
"""

from collections import Counter
from collections.abc import Iterator

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import (
    AtlasSearch,
    Completion,
    ImageRef,
    ReferenceCase,
    Result,
)
from sr_writer import codes
from sr_writer.context import context_items
from sr_writer.document import (
    Basis,
    code_of,
    frame_numbers,
    text_of,
)
from sr_writer.groups import groups_of, obstacle_of
from sr_writer.items import (
    CONTAINS,
    code_item,
    composite_unless_image,
    container_item,
    round_numeric_value,
    text_item,
)


def content_tree(basis: Basis) -> ContainerContentItem:
    """Return the root of the report, and in it everything that the result says."""
    result = basis.result
    children: list[ContentItem] = [
        *context_items(result.algorithm),
        *(
            CodeContentItem(
                name=codes.PROCEDURE_REPORTED,
                value=procedure,
                relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
            )
            for procedure in _procedures(basis.source)
        ),
    ]
    if groups := groups_of(result):
        children.append(container_item(codes.IMAGING_MEASUREMENTS, groups))
    children.append(
        container_item(codes.QUALITATIVE_EVALUATIONS, list(_whole_run(result)))
    )
    if result.cases is not None:
        children.append(_similar_cases(result.cases))
    root = ContainerContentItem(
        name=codes.pydicom_code(basis.options.title),
        is_content_continuous=False,
        template_id="1500",
    )
    root.ContentSequence = ContentSequence(children)
    return root


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


def _whole_run(result: Result) -> Iterator[ContentItem]:
    """Yield what holds for the run: TID 1500, row 12."""
    yield code_item(codes.CAD_SUMMARY, summary_code(result))
    if not result.evaluated:
        yield code_item(codes.OBSTACLE, obstacle_of(result))
    if result.reason:
        yield text_item(codes.REASON, result.reason)
    images = f"{len(result.images)} image{'s' if len(result.images) != 1 else ''}"
    yield text_item(codes.REVISION, f"{result.revision} ({images})")
    if result.algorithm.statement:
        yield text_item(codes.STATEMENT, result.algorithm.statement)
    for finding in result.shadow:
        yield text_item(codes.SHADOW, finding.concept.meaning)
    if result.unreadable:
        yield container_item(codes.UNREADABLE_IMAGES, list(_unreadable(result)))


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


def _unreadable(result: Result) -> Iterator[ContentItem]:
    """Yield the reasons, most frequent first, each followed by its images."""
    for reason, count in Counter(u.reason for u in result.unreadable).most_common():
        yield text_item(codes.REASON, f"{count} x {reason}")
        frames: dict[ImageRef, list[int]] = {}
        for unreadable in result.unreadable:
            if unreadable.reason == reason:
                frames.setdefault(unreadable.image, []).append(unreadable.frame)
        for image, indices in frames.items():
            item = ImageContentItem(
                name=codes.UNREADABLE_IMAGE,
                referenced_sop_class_uid=image.sop_class_uid,
                referenced_sop_instance_uid=image.sop_instance_uid,
                referenced_frame_numbers=frame_numbers(image, indices),
                relationship_type=CONTAINS,
            )
            composite_unless_image(item)
            yield item


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
    return container_item(
        codes.SIMILAR_CASES,
        [
            text_item(codes.REFERENCE_ATLAS, atlas),
            text_item(codes.DISCLAIMER, disclaimer),
            *(_case(case, search.metric) for case in search.cases),
        ],
    )


def _case(case: ReferenceCase, metric: str) -> ContainerContentItem:
    similarity = NumContentItem(
        name=codes.COSINE_SIMILARITY if metric == "cosine" else codes.SIMILARITY,
        value=float(case.similarity),
        unit=codes.NO_UNITS,
        relationship_type=CONTAINS,
    )
    round_numeric_value(similarity)
    labels = [code_item(codes.FINDING, codes.pydicom_code(c)) for c in case.labels]
    items = [text_item(codes.CASE_IDENTIFIER, case.identifier), similarity, *labels]
    if case.established_by:
        items.append(text_item(codes.ESTABLISHED_BY, case.established_by))
    return container_item(codes.REFERENCE_CASE, items)
