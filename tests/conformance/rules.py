"""What no checker sees, and every object of ours has to keep.

dciodvfy misses wrong relationships and a missing procedure reported, DCMTK misses absent
attributes, and none of them knows whose study it is. Each rule yields sentences.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import datetime

from pydicom.dataset import Dataset

from dicom_node.domain import EncodedObject, ObjectKind, Result
from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from sr_writer import codes
from sr_writer.document import text_of, words_of
from sr_writer.reading import read_report
from sr_writer.saying import report_of
from tests.composed import reread
from tests.unit.sr_writer.test_compose import TYPE_2

DOCUMENTS = {ObjectKind.REPORT, ObjectKind.KEY_OBJECTS, ObjectKind.REJECTION}
"""Kinds with a content tree."""
COPIED_TIMES = {"PatientBirthDate", "StudyDate", "StudyTime"}
MODIFIERS = {
    *("Language of Content Item and Descendants", "Procedure reported"),
    *("Algorithm Name", "Algorithm Version", "Algorithm Parameters"),
    *("Finding Site", "Laterality of a site"),
}
CONTEXTS = {
    *("Observer Type", "Device Observer UID", "Device Observer Name"),
    *("Device Observer Manufacturer", "Device Observer Model Name"),
    *("Tracking Identifier", "Tracking Unique Identifier"),
}
REFERENCES = {"IMAGE", "COMPOSITE"}
"""Items that TID 2010 wants without a name."""
PROPERTIES = {
    "+, range of upper measurement uncertainty",
    "-, range of lower measurement uncertainty",
}
RELATIONSHIPS = {
    **dict.fromkeys(MODIFIERS, "HAS CONCEPT MOD"),
    **dict.fromkeys(CONTEXTS, "HAS OBS CONTEXT"),
    **dict.fromkeys(PROPERTIES, "HAS PROPERTIES"),
}
"""TID 300, 1001, 1004, 1204, 1500, 1501, 4019; everything else is contained."""


def breaches(
    obj: EncodedObject, made_from: Result, source: Dataset, others: AbstractSet[str]
) -> Iterator[str]:
    """Yield what an object breaks.

    Parameters
    ----------
    others
        SOP Instance UIDs of the result's other objects, which a note may name.
    """
    dataset = reread(obj)
    yield from _document(dataset)
    yield from _person(dataset, source)
    yield from _references(dataset, made_from, others)
    yield from _times(dataset, made_from)
    yield from _schemes(dataset)
    if obj.kind in DOCUMENTS:
        yield from _tree(dataset)
    if obj.kind is ObjectKind.REPORT:
        yield from _report(dataset, made_from)
    if obj.kind is ObjectKind.CAPTURE:
        yield from _capture(dataset)


def _document(dataset: Dataset) -> Iterator[str]:
    description = text_of(dataset, "SeriesDescription")
    if not description.endswith(" - RESEARCH, NOT FOR DIAGNOSIS"):
        yield "the series is not marked as research"
    if text_of(dataset, "ContentQualification") != "RESEARCH":
        yield "Content Qualification is not RESEARCH"
    if text_of(dataset, "InstanceCreatorUID") != INSTANCE_CREATOR_UID:
        yield "the creator is not said"
    for keyword in (*TYPE_2, "PatientID"):
        if keyword not in dataset:
            yield f"Type 2 attribute {keyword} is absent"
    equipment = dataset.get("ContributingEquipmentSequence") or [Dataset()]
    if not text_of(equipment[0], "DeviceUID"):
        yield "the pack's Device UID is not said"


def _person(dataset: Dataset, source: Dataset) -> Iterator[str]:
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber"):
        if text_of(dataset, keyword).strip() != words_of(source, keyword).strip():
            yield f"{keyword} is not the source's"


def _references(
    dataset: Dataset, made_from: Result, others: AbstractSet[str]
) -> Iterator[str]:
    """Every instance is of the revision, one of ours or one that is superseded."""
    known = {i.sop_instance_uid for i in made_from.images} | others
    known |= {p.sop_instance_uid for p in made_from.predecessors}
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID" and element.value not in known:
            yield f"a reference leaves the revision: {element.value}"
        if element.keyword == "StudyInstanceUID" and (
            element.value != made_from.study_uid
        ):
            yield f"a reference leaves the study: {element.value}"


def _times(dataset: Dataset, made_from: Result) -> Iterator[str]:
    """No clock was read: dates and times are the result's, or the source's."""
    zone = text_of(dataset, "TimezoneOffsetFromUTC")
    moment = made_from.concluded_at.astimezone(datetime.strptime(zone, "%z").tzinfo)
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S.%f}"
    expected = {"DA": {date}, "TM": {time}, "DT": {f"{date}{time}{zone}"}}
    for element in dataset.iterall():
        if element.VR not in expected or not element.value:
            continue
        own = element.keyword not in COPIED_TIMES
        if own and str(element.value) not in expected[element.VR]:
            yield f"{element.keyword} is not the result's time"


def _schemes(dataset: Dataset) -> Iterator[str]:
    items = dataset.get("CodingSchemeIdentificationSequence") or ()
    named = {str(item.CodingSchemeDesignator) for item in items}
    used = {
        str(element.value)
        for element in dataset.iterall()
        if element.keyword == "CodingSchemeDesignator"
    }
    for scheme in used - named - codes.STANDARD_SCHEMES:
        yield f"coding scheme {scheme} is not identified"


# ── content trees ───────────────────────────────────────────────────────────


def _tree(root: Dataset) -> Iterator[str]:
    if text_of(root, "ContinuityOfContent") != "SEPARATE":
        yield "the root is not SEPARATE"
    yield from _below(root, "")
    if "ReferencedPerformedProcedureStepSequence" not in root:
        yield "Referenced Performed Procedure Step Sequence is absent"
    if not root.get("CurrentRequestedProcedureEvidenceSequence"):
        yield "there is no evidence"


def _below(node: Dataset, parent: str) -> Iterator[str]:
    for item in node.get("ContentSequence") or ():
        name = _name(item)
        if not name and item.ValueType not in REFERENCES:
            yield f"a {item.ValueType} item has no name"
        of_site = name == "Laterality" and parent == "Finding Site"
        expected = RELATIONSHIPS.get(
            f"{name} of a site" if of_site else name, "CONTAINS"
        )
        if item.ValueType == "CODE" and name == "Finding":
            expected = "CONTAINS"
        if text_of(item, "RelationshipType") != expected:
            yield f"{name}: {text_of(item, 'RelationshipType')}, not {expected}"
        separate = text_of(item, "ContinuityOfContent") == "SEPARATE"
        if item.ValueType == "CONTAINER" and not separate:
            yield f"{name} is not SEPARATE"
        yield from _below(item, name)


def _name(item: Dataset) -> str:
    named = item.get("ConceptNameCodeSequence")
    return str(named[0].CodeMeaning) if named else ""


def _report(dataset: Dataset, made_from: Result) -> Iterator[str]:
    flags = ("VerificationFlag", "PreliminaryFlag", "CompletionFlag")
    expected = ("UNVERIFIED", "PRELIMINARY", made_from.completion.value)
    if tuple(text_of(dataset, flag) for flag in flags) != expected:
        yield "the document's flags are not as they have to be"
    if "PerformedProcedureCodeSequence" not in dataset:
        yield "Performed Procedure Code Sequence is absent"
    names = {
        str(i.ConceptNameCodeSequence[0].CodeValue) for i in dataset.ContentSequence
    }
    if codes.PROCEDURE_REPORTED.value not in names:
        yield "the procedure reported is missing"
    if read_report(dataset) != report_of(made_from):
        yield "what it says is not what the result says"


def _capture(dataset: Dataset) -> Iterator[str]:
    if "PixelSpacing" in dataset:
        yield "somebody could measure on it"
    if text_of(dataset, "ImageType") != "DERIVED\\SECONDARY":
        yield "Image Type is not DERIVED\\SECONDARY"
    if not dataset.get("SourceImageSequence"):
        yield "the source images are not named"
