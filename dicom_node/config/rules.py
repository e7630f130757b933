"""``[[priority_rules]]`` and ``[[pack_rules]]`` of ``pacsight.toml``.

The line under a key is its entry in ``docs/settings.md``.
"""

from abc import abstractmethod
from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from dicom_node.config.values import NamedPriority, Table
from dicom_node.matching import PackRule, PriorityRule, Rule
from dicom_node.peers import check_aet


class RuleTable(Table):
    """Conditions of a rule: all that it names have to hold."""

    called_aet: str = ""
    """The node's title that was called."""
    calling_aet: str = ""
    """The sender's AE title."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """DICOM keywords and the values that the instance has to carry; case does not count."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """Return what is applied to each instance."""

    @model_validator(mode="after")
    def _check(self) -> "RuleTable":
        rule = self.rule
        for title in (self.called_aet, self.calling_aet):
            if title:
                check_aet(title, f"in a {rule.kind} rule")
        return self

    @property
    def _wanted(self) -> dict[str, frozenset[str]]:
        return {keyword: frozenset({v}) for keyword, v in self.attributes.items()}


class PriorityRuleTable(RuleTable):
    """One of ``[[priority_rules]]``: how urgent what it fits is."""

    priority: NamedPriority
    """`stat`, `routine` or `backfill`."""

    @property
    def rule(self) -> PriorityRule:
        """Return what is applied to each instance."""
        return PriorityRule(
            priority=self.priority,
            called_aet=self.called_aet,
            calling_aet=self.calling_aet,
            attributes=self._wanted,
        )


class PackRuleTable(RuleTable):
    """One of ``[[pack_rules]]``: whether a pack looks at what it fits."""

    pack: Annotated[str, Field(min_length=1)]
    """The pack's own name, as `pacsight pack show` says it."""
    looks: bool = True
    """Whether the pack looks at it."""

    @property
    def rule(self) -> PackRule:
        """Return what is applied to each instance."""
        return PackRule(
            pack=self.pack,
            looks=self.looks,
            called_aet=self.called_aet,
            calling_aet=self.calling_aet,
            attributes=self._wanted,
        )
