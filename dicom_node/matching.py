"""How urgent an instance is, and which packs look at it: the site's rules, as data.

Pure. Rules are read in order, and the first one that fits counts. Where no rule gives a
priority, Requested Procedure Priority (0040,1003) decides if it happens to be present;
a pack that no rule names looks at everything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import STR_VR

from dicom_node.domain import Origin, Priority
from dicom_node.errors import SettingsError

REQUESTED_PRIORITY = "RequestedProcedurePriority"

_REQUESTED: Mapping[str, Priority] = {
    "STAT": Priority.STAT,
    "HIGH": Priority.STAT,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "LOW": Priority.BACKFILL,
}
"""Defined terms of (0040,1003), PS3.3 C.4.11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for all instances for which every named condition does.

    Parameters
    ----------
    called_aet, calling_aet
        The title that was called, and the sender's; empty for any.
    attributes
        Values that fit, by DICOM keyword of a top-level attribute. Case and
        surrounding spaces do not count; one value that fits is enough.

    Raises
    ------
    SettingsError
        If a keyword is not in the DICOM dictionary, or its values are no text.
    """

    kind: ClassVar[str]
    called_aet: str = ""
    calling_aet: str = ""
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for keyword in self.attributes:
            tag = tag_for_keyword(keyword)
            if tag is None:
                raise SettingsError(
                    f"{self.kind} rule: {keyword!r} is not a DICOM keyword"
                )
            if dictionary_VR(tag) not in STR_VR:
                raise SettingsError(f"{self.kind} rule: {keyword!r} is not a text")

    def fits(self, origin: Origin, values: Mapping[str, Sequence[str]]) -> bool:
        """Return whether all conditions hold.

        Parameters
        ----------
        values
            The instance's attributes: values by DICOM keyword.
        """
        return (
            self.called_aet in ("", origin.called_aet)
            and self.calling_aet in ("", origin.calling_aet)
            and all(
                _any_fits(values.get(keyword, ()), wanted)
                for keyword, wanted in self.attributes.items()
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityRule(Rule):
    """The priority of all instances for which every named condition holds."""

    kind: ClassVar[str] = "priority"
    priority: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRule(Rule):
    """Whether a pack, by its name, looks at the instances that it fits."""

    kind: ClassVar[str] = "pack"
    pack: str
    looks: bool


def priority_of(
    rules: Iterable[PriorityRule],
    *,
    origin: Origin,
    values: Mapping[str, Sequence[str]],
) -> Priority:
    """Return the priority that rules and order give an instance."""
    for rule in rules:
        if rule.fits(origin, values):
            return rule.priority
    asked = next(iter(values.get(REQUESTED_PRIORITY, ())), "")
    return _REQUESTED.get(_normal(asked), Priority.ROUTINE)


def is_urgent(rules: Iterable[PriorityRule], origin: Origin) -> bool:
    """Return whether everything that comes so is urgent, whatever it says of itself.

    Rules about attributes cannot be applied before there are any: what they may make
    urgent is not known to be.
    """
    for rule in rules:
        if rule.fits(origin, {}):
            return rule.priority is Priority.STAT
    return False


def passed_over(
    rules: Sequence[PackRule],
    *,
    origin: Origin,
    values: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    """Return the packs that do not look at an instance.

    Of the rules that name a pack, the first one that fits counts; where none of them
    does, the pack does not look.
    """
    packs = dict.fromkeys(rule.pack for rule in rules)
    looking = {
        rule.pack: rule.looks for rule in reversed(rules) if rule.fits(origin, values)
    }
    return tuple(pack for pack in packs if not looking.get(pack, False))


def keywords(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the attributes that have to be read to decide."""
    named = (keyword for rule in rules for keyword in rule.attributes)
    return frozenset({REQUESTED_PRIORITY, *named})


def _any_fits(values: Sequence[str], wanted: Iterable[str]) -> bool:
    present = {_normal(value) for value in values}
    return not present.isdisjoint(map(_normal, wanted))


def _normal(value: str) -> str:
    return value.strip().upper()
