"""What a threshold has to reach: five rules, each a value that knows its own name.

Youden's index: Youden 1950. A rule-in and rule-out pair leaves a band between the two
where the answer is "indeterminate".
"""

from dataclasses import dataclass

from dicom_node.errors import Permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """At least this share of studies with the finding is flagged, and few others."""

    at_least: float

    def __post_init__(self) -> None:
        _check_share("sensitivity", self.at_least)

    @property
    def name(self) -> str:
        """Return the operating point's name."""
        return f"sens>={self.at_least:g}"

    @property
    def target(self) -> dict[str, str | float]:
        """Return the rule as evidence."""
        return {"rule": "sensitivity", "at_least": self.at_least}


@dataclass(frozen=True, slots=True, kw_only=True)
class Specificity:
    """At least this share of studies without the finding stays unflagged."""

    at_least: float

    def __post_init__(self) -> None:
        _check_share("specificity", self.at_least)

    @property
    def name(self) -> str:
        """Return the operating point's name."""
        return f"spec>={self.at_least:g}"

    @property
    def target(self) -> dict[str, str | float]:
        """Return the rule as evidence."""
        return {"rule": "specificity", "at_least": self.at_least}


@dataclass(frozen=True, slots=True, kw_only=True)
class PositivePredictive:
    """At least this share of flags is right, where so many studies have the finding."""

    at_least: float
    prevalence: float

    def __post_init__(self) -> None:
        _check_share("PPV", self.at_least)
        if not 0 < self.prevalence < 1:
            raise Permanent(
                f"a prevalence lies between 0 and 1, and {self.prevalence:g} does not"
            )

    @property
    def name(self) -> str:
        """Return the operating point's name."""
        return f"ppv>={self.at_least:g} at {self.prevalence:g}"

    @property
    def target(self) -> dict[str, str | float]:
        """Return the rule as evidence."""
        return {
            "rule": "ppv",
            "at_least": self.at_least,
            "prevalence": self.prevalence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Youden:
    """Sensitivity plus specificity are highest."""

    @property
    def name(self) -> str:
        """Return the operating point's name."""
        return "youden"

    @property
    def target(self) -> dict[str, str | float]:
        """Return the rule as evidence."""
        return {"rule": "youden"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInOut:
    """Flagged from a specificity on, ruled out up to a sensitivity, a band between."""

    rule_in: Specificity
    rule_out: Sensitivity

    @property
    def name(self) -> str:
        """Return the operating point's name."""
        return f"in:{self.rule_in.name} out:{self.rule_out.name}"

    @property
    def target(self) -> dict[str, str | float]:
        """Return the rule as evidence."""
        return {
            "rule": "rule-in and rule-out",
            "specificity": self.rule_in.at_least,
            "sensitivity": self.rule_out.at_least,
        }


Single = Sensitivity | Specificity | PositivePredictive | Youden
Rule = Single | RuleInOut


def _check_share(what: str, share: float) -> None:
    if not 0 < share <= 1:
        raise Permanent(f"a {what} lies above 0, and is 1 at most: {share:g} is not")
