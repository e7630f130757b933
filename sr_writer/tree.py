"""A content tree as it is read: items found by their concept names (PS3.3 C.17.3).

Tolerant of what archives may change (encoding, order of attributes), strict where
something is missing that our reports always have.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.domain import Code
from dicom_node.errors import Permanent


@dataclass(frozen=True, slots=True)
class Node:
    """A content item, or the root of the tree."""

    item: Dataset

    def __iter__(self) -> Iterator["Node"]:
        """Yield the items below, in their order."""
        return (Node(child) for child in self.item.get("ContentSequence") or ())

    @property
    def name(self) -> Code:
        """Return the concept name."""
        return code_in(self.item.ConceptNameCodeSequence[0])

    @property
    def type(self) -> str:
        """Return the value type, e.g. ``NUM``."""
        return str(self.item.ValueType)

    def is_called(self, name: PydicomCode) -> bool:
        """Return whether the concept name is this one, whatever its meaning says."""
        return _same(self.name, name)

    def has_value(self, value: PydicomCode) -> bool:
        """Return whether the value of a CODE item is this one."""
        return _same(self.code, value)

    def all(self, name: PydicomCode) -> list["Node"]:
        """Return the items below that are called so."""
        return [child for child in self if child.is_called(name)]

    def find(self, name: PydicomCode) -> "Node | None":
        """Return the first item below that is called so."""
        return next(iter(self.all(name)), None)

    def get(self, name: PydicomCode) -> "Node":
        """Return the first item below that is called so.

        Raises
        ------
        Permanent
            If there is none.
        """
        found = self.find(name)
        if found is None:
            raise Permanent(f'the report lacks its "{name.meaning}"')
        return found

    @property
    def text(self) -> str:
        """Return the value of a TEXT or UIDREF item."""
        uid = self.type == "UIDREF"
        return joined(self.item.UID if uid else self.item.get("TextValue"))

    @property
    def code(self) -> Code:
        """Return the value of a CODE item."""
        return code_in(self.item.ConceptCodeSequence[0])

    @property
    def number(self) -> float:
        """Return the value of a NUM item: exact where it is, else as it is shown."""
        measured = self.item.MeasuredValueSequence[0]
        exact = measured.get("FloatingPointValue")
        return float(measured.NumericValue if exact is None else exact)

    @property
    def unit(self) -> Code:
        """Return the unit of a NUM item."""
        measured = self.item.MeasuredValueSequence[0]
        return code_in(measured.MeasurementUnitsCodeSequence[0])

    def text_of(self, name: PydicomCode) -> str:
        """Return the text below under this name, or ''."""
        found = self.find(name)
        return "" if found is None else found.text

    def code_of(self, name: PydicomCode) -> Code | None:
        """Return the code below under this name, or None."""
        found = self.find(name)
        return None if found is None else found.code


def code_in(item: Dataset) -> Code:
    """Return the code in a code sequence item (PS3.3 8.8), long values too."""
    value = (
        item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    )
    return Code(
        value=joined(value),
        scheme=joined(item.get("CodingSchemeDesignator")),
        meaning=joined(item.get("CodeMeaning")),
    )


def _same(one: Code, other: PydicomCode) -> bool:
    return (one.value, one.scheme) == (other.value, other.scheme_designator)


def joined(value: object) -> str:
    """Return a value as text: trailing padding says nothing, backslashes are text."""
    if value is None:
        return ""
    several = isinstance(value, (MultiValue, list))
    text = "\\".join(str(v) for v in value) if several else str(value)  # type: ignore[attr-defined]
    return text.rstrip(" \0")
