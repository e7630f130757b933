"""The coded concepts that our documents speak in.

Standard codes come from PS3.16 (a test checks them against pydicom's
dictionaries), the rest from our private scheme, which every report names in its
Coding Scheme Identification Sequence. Private values are mnemonic; a value once
written to an archive never changes its meaning.
"""

import re
from uuid import uuid5

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import Code, Flag, Urgency
from dicom_node.domain.identity import NAMESPACE

PRIVATE_SCHEME = "99PACSIGHT"
CODING_SCHEME_UID = f"2.25.{uuid5(NAMESPACE, 'coding scheme').int}"


STANDARD_SCHEMES = frozenset(
    [
        *("DCM", "SCT", "SRT", "SNM3", "99SDM", "LN", "UCUM", "UMLS", "RADLEX", "NCIt"),
        *("RFC5646", "RFC3066", "I10", "I10P", "I11", "I9", "I9C", "C4", "CD2", "FMA"),
        *("BI", "ACR", "UNS", "ISO3166_1", "ISO639_1", "ISO639_2", "HPC", "HCPCS"),
    ]
)
"""Coding schemes that need no identification (PS3.16 Table 8-1)."""


def pydicom_code(code: Code) -> PydicomCode:
    """Return the code as pydicom and highdicom take it, cut to what fits.

    Code Meaning is LO: 64 characters, no backslash, no control characters.
    """
    meaning = re.sub(r"[\x00-\x1f\x7f\\]+", " ", code.meaning).strip()
    return PydicomCode(code.value, code.scheme, meaning[:64].strip())


def _private(value: str, meaning: str) -> PydicomCode:
    return PydicomCode(value, PRIVATE_SCHEME, meaning)


def _dcm(value: str, meaning: str) -> PydicomCode:
    return PydicomCode(value, "DCM", meaning)


# ── document titles (CID 7021, extensible) ──────────────────────────────────
FINDINGS_REPORT = Code(
    value="AIREPORT", scheme=PRIVATE_SCHEME, meaning="AI Findings Report"
)
"""The default: viewers show it as text, whatever has no coordinates too."""
IMAGING_MEASUREMENT_REPORT = Code(
    value="126000", scheme="DCM", meaning="Imaging Measurement Report"
)
"""For archives that look for it; OHIF 3.13 does not open it without coordinates."""

# ── equipment (CID 7005) ────────────────────────────────────────────────────
PROCESSING_EQUIPMENT = Code(
    value="109102", scheme="DCM", meaning="Processing Equipment"
)

# ── standard concepts ───────────────────────────────────────────────────────
ENGLISH = PydicomCode("en-US", "RFC5646", "English (United States)")
DEVICE = _dcm("121007", "Device")
DEVICE_OBSERVER_UID = _dcm("121012", "Device Observer UID")
DEVICE_OBSERVER_NAME = _dcm("121013", "Device Observer Name")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
FINDING_SITE = PydicomCode("363698007", "SCT", "Finding Site")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
QUALITATIVE_EVALUATIONS = PydicomCode("C0034375", "UMLS", "Qualitative Evaluations")
FINDING = _dcm("121071", "Finding")
PROBABILITY = _dcm("122157", "Probability")
CAD_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
LATERALITY = PydicomCode("272741003", "SCT", "Laterality")
NO_UNITS = PydicomCode("1", "UCUM", "no units")
SOURCE_IMAGE = _dcm("121322", "Source image for image processing operation")
KEY_OBJECT_DESCRIPTION = _dcm("113012", "Key Object Description")

# Key Object Selection Document Title, CID 7010
OF_INTEREST = _dcm("113000", "Of Interest")
REJECTED_FOR_QUALITY = _dcm("113001", "Rejected for Quality Reasons")
REJECTED_FOR_PATIENT_SAFETY = _dcm("113037", "Rejected for Patient Safety Reasons")

# CAD Processing and Findings Summary, CID 6047
ALL_SUCCEEDED_WITHOUT_FINDINGS = _dcm(
    "111241", "All algorithms succeeded; without findings"
)
ALL_SUCCEEDED_WITH_FINDINGS = _dcm("111242", "All algorithms succeeded; with findings")
SOME_SUCCEEDED_WITHOUT_FINDINGS = _dcm(
    "111243", "Not all algorithms succeeded; without findings"
)
SOME_SUCCEEDED_WITH_FINDINGS = _dcm(
    "111244", "Not all algorithms succeeded; with findings"
)
NONE_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")

# Actionable Finding Classification, CID 7035
URGENCY_VALUES = {
    Urgency.CRITICAL: PydicomCode(
        "RID49480", "RADLEX", "ACR Category 1 Actionable Finding"
    ),
    Urgency.URGENT: PydicomCode(
        "RID49481", "RADLEX", "ACR Category 2 Actionable Finding"
    ),
    Urgency.ROUTINE: PydicomCode(
        "RID49482", "RADLEX", "ACR Category 3 Actionable Finding"
    ),
}

# Quantitative Diagnostic Imaging Procedures, CID 100: the procedure reported,
# where the source names none
_X_RAY = PydicomCode("43468-8", "LN", "XR unspecified body region")
PROCEDURE_BY_MODALITY = {
    "CR": _X_RAY,
    "DX": _X_RAY,
    "RG": _X_RAY,
    "CT": PydicomCode("25045-6", "LN", "CT unspecified body region"),
    "MR": PydicomCode("25056-3", "LN", "MRI unspecified body region"),
    "NM": PydicomCode("49118-3", "LN", "NM unspecified body region"),
    "PT": PydicomCode("44136-0", "LN", "PET unspecified body region"),
}
IMAGING_PROCEDURE = PydicomCode("363679005", "SCT", "Imaging procedure")

# PS3.16 Annex L: body parts without sides, for which Laterality (0020,0060) is absent
UNPAIRED_BODY_PARTS = frozenset(
    [
        "ABDOMEN",
        "ABDOMENPELVIS",
        "AORTA",
        "BACK",
        "BLADDER",
        "BRAIN",
        "CEREBELLUM",
        "CERVIX",
        "CHEST",
        "CHESTABDOMEN",
        "CHESTABDPELVIS",
        "CIRCLEOFWILLIS",
        "COCCYX",
        "COLON",
        "CORONARYARTERY",
        "CSPINE",
        "CTSPINE",
        "DUODENUM",
        "ESOPHAGUS",
        "FACE",
        "GALLBLADDER",
        "HEAD",
        "HEADNECK",
        "HEART",
        "ILEUM",
        "ILIUM",
        "JAW",
        "JEJUNUM",
        "LARYNX",
        "LIVER",
        "LSPINE",
        "LSSPINE",
        "MAXILLA",
        "MEDIASTINUM",
        "MOUTH",
        "NECK",
        "NECKCHEST",
        "NECKCHESTABDOMEN",
        "NECKCHESTABDPELV",
        "NOSE",
        "PANCREAS",
        "PELVIS",
        "PENIS",
        "PHARYNX",
        "PROSTATE",
        "RECTUM",
        "SCALP",
        "SKULL",
        "SPINE",
        "SPLEEN",
        "SSPINE",
        "STERNUM",
        "STOMACH",
        "THYMUS",
        "THYROID",
        "TLSPINE",
        "TONGUE",
        "TRACHEA",
        "TSPINE",
        "URETER",
        "URETHRA",
        "UTERUS",
        "VAGINA",
        "VULVA",
        "WHOLEBODY",
    ]
)

# ── private concepts ────────────────────────────────────────────────────────
CLASSIFIER_SCORE = _private("SCORE", "Classifier score (uncalibrated)")
FLAG = _private("FLAG", "Flag")
FLAG_VALUES = {
    Flag.ABOVE: _private("FLAG_ABOVE", "At or above threshold"),
    Flag.BELOW: _private("FLAG_BELOW", "Below threshold"),
    Flag.INDETERMINATE: _private("FLAG_INDET", "Indeterminate"),
    Flag.NOT_EVALUATED: _private("FLAG_NOTEVAL", "Not evaluated"),
}
URGENCY = _private("URGENCY", "Actionable finding classification")
OBSTACLE = _private("OBSTACLE", "Obstacle to evaluation")
OUTSIDE_VALIDATED_RANGE = _private("OUT_OF_RANGE", "Input outside validated range")
NO_REFERENCES = _private("NO_REFERENCES", "No labelled reference images")
IMAGES_UNREADABLE = _private("UNREADABLE", "Images could not be read")
SHADOW_ONLY = _private("SHADOW_ONLY", "Everything asked runs in shadow mode")
REASON = _private("REASON", "Reason")
REVISION = _private("REVISION", "Revision of the study")
STATEMENT = _private("STATEMENT", "Statement")
SHADOW = _private("SHADOW", "In shadow mode, not reported")
UNREADABLE_IMAGES = _private("UNREAD_IMAGES", "Images that could not be read")
UNREADABLE_IMAGE = _private("UNREAD_IMAGE", "Image that could not be read")

SIMILAR_CASES = _private("CASES", "Similar reference cases")
REFERENCE_ATLAS = _private("ATLAS", "Reference atlas")
DISCLAIMER = _private("DISCLAIMER", "Disclaimer")
REFERENCE_CASE = _private("CASE", "Reference case")
CASE_IDENTIFIER = _private("CASE_ID", "Reference case identifier")
COSINE_SIMILARITY = _private("COSINE", "Cosine similarity")
SIMILARITY = _private("SIMILARITY", "Similarity")
ESTABLISHED_BY = _private("ESTABLISHED_BY", "Labels established by")


def coding_schemes_of(dataset: Dataset) -> list[Dataset]:
    """Return the items of Coding Scheme Identification Sequence (0008,0110).

    One for every scheme in the data set that PS3.16 Table 8-1 does not list: ours,
    and those that a pack or the source brings along.
    """
    used = {
        str(element.value)
        for element in dataset.iterall()
        if element.keyword == "CodingSchemeDesignator"
    }
    return [_identified(scheme) for scheme in sorted(used - STANDARD_SCHEMES)]


def _identified(scheme: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = scheme
    if scheme == PRIVATE_SCHEME:
        item.CodingSchemeUID = CODING_SCHEME_UID
        item.CodingSchemeName = "pacsight private concepts"
        item.CodingSchemeResponsibleOrganization = "pacsight"
    return item
