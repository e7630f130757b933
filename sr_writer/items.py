"""Content items that their parent contains: containers, texts, codes (PS3.3 C.17.3).

Which item stands where, the templates say: `sr_writer.content`, `sr_writer.groups`.
"""

from collections.abc import Iterable

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode
from pydicom.valuerep import format_number_as_ds

from sr_writer.document import is_image_class

CONTAINS = RelationshipTypeValues.CONTAINS


def container_item(
    name: PydicomCode, children: Iterable[ContentItem]
) -> ContainerContentItem:
    """Return a container of `children`, SEPARATE."""
    item = ContainerContentItem(
        name=name, is_content_continuous=False, relationship_type=CONTAINS
    )
    item.ContentSequence = ContentSequence(list(children))
    return item


def text_item(name: PydicomCode, value: str) -> TextContentItem:
    """Return a text under its name."""
    return TextContentItem(name=name, value=value, relationship_type=CONTAINS)


def code_item(name: PydicomCode, value: PydicomCode) -> CodeContentItem:
    """Return a coded value under its name."""
    return CodeContentItem(name=name, value=value, relationship_type=CONTAINS)


def composite_unless_image(item: Dataset) -> None:
    """Refer to an object of a private class as COMPOSITE, where it is no IMAGE."""
    if item.ValueType == "IMAGE":
        referred = item.ReferencedSOPSequence[0]
        if not is_image_class(referred.ReferencedSOPClassUID):
            item.ValueType = "COMPOSITE"


def round_numeric_value(item: Dataset) -> None:
    """Show six digits; Floating Point Value (0040,A161) keeps the exact number."""
    measured = item.MeasuredValueSequence[0]
    value = float(f"{measured.FloatingPointValue:.6g}")
    measured.NumericValue = format_number_as_ds(value)
