"""What is asked of exclusive labels, and which findings of a table are its values.

``view=AP,PA`` is a category with two values. The table has a finding for each: the
value's own name, or ``view=AP``, as ``pacsight data wrap --attribute`` writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dicom_node.errors import Permanent
from workers.accepting import Accepts
from workers.asked import CategorySpec
from workers.cohort import Cohort
from workers.fitting.asking import Triple, triple
from workers.pack import Pack

_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One of the values.

    Parameters
    ----------
    finding
        What the table of labels calls it.
    key, meaning, code, prompts
        As of a label in a pack.
    """

    finding: str
    key: str
    meaning: str
    code: Triple
    prompts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return its entry in a pack."""
        return {
            "key": self.key,
            "meaning": self.meaning,
            "code": list(self.code),
            "prompts": list(self.prompts),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A category that is to be fitted, as in a pack, with two values or more."""

    key: str
    meaning: str
    code: Triple
    accepts: Accepts | None
    values: tuple[Value, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """Return what the table of labels calls the values."""
        return tuple(value.finding for value in self.values)

    @property
    def prompted(self) -> bool:
        """Return whether every value has texts."""
        return all(value.prompts for value in self.values)

    def to_json(self) -> dict[str, Any]:
        """Return its part of a pack's entry."""
        entry: dict[str, Any] = {
            "key": self.key,
            "meaning": self.meaning,
            "code": list(self.code),
            "labels": [value.to_json() for value in self.values],
        }
        if self.accepts is not None:
            entry["accepts"] = asdict(self.accepts)
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What somebody says that things are called; what is left open is as in the pack.

    Parameters
    ----------
    code
        Of the category.
    values
        ``AP=VALUE|SCHEME|MEANING``, one for each value.
    """

    code: Triple | None = None
    values: tuple[str, ...] = ()
    accepts: Accepts | None = None


def question(pack: Pack, cohort: Cohort, text: str, names: Names) -> Question:
    """Return what is to be fitted: a category that the pack has, or a new one.

    Raises
    ------
    Permanent
        If the text is no category, the table has no such values, or nobody says what
        they are called.
    """
    name, wanted = _parsed(text)
    known = {spec.key.casefold(): spec for spec in pack.manifest.categories}
    spec = known.get(_key(name))
    code = names.code or (spec.code if spec else None)
    if code is None:
        raise Permanent(
            f"{name!r} is no category of pack {pack.name}: "
            "say what it is called with --code 'VALUE|SCHEME|MEANING'"
        )
    codes = _codes(names.values, wanted)
    return Question(
        key=spec.key if spec else _key(name),
        meaning=code[2] if spec is None or names.code else spec.meaning,
        code=code,
        accepts=names.accepts or (spec.accepts if spec else None),
        values=tuple(_value(one, name, cohort, codes, spec) for one in wanted),
    )


def _parsed(text: str) -> tuple[str, list[str]]:
    """Return the category and the values of ``view=AP,PA``."""
    name, _, rest = text.partition("=")
    wanted = [value.strip() for value in rest.split(",")]
    distinct = {_key(value) for value in wanted}
    if not name.strip() or "" in distinct or len(wanted) < _FEWEST:
        raise Permanent(f"{text!r} is no category: write 'view=AP,PA'")
    if len(distinct) != len(wanted):
        raise Permanent(f"{text!r} names a value twice")
    return name.strip(), wanted


def _codes(said: Sequence[str], wanted: Sequence[str]) -> Mapping[str, Triple]:
    """Return the code of each value that has one."""
    found = {}
    for one in said:
        name, _, code = one.partition("=")
        if name.strip() not in wanted:
            raise Permanent(
                f"{one!r} is of no value: write 'NAME=VALUE|SCHEME|MEANING' "
                f"with a name among {', '.join(wanted)}"
            )
        found[name.strip()] = triple(code)
    return found


def _value(
    name: str,
    category: str,
    cohort: Cohort,
    codes: Mapping[str, Triple],
    spec: CategorySpec | None,
) -> Value:
    labels = {label.key.casefold(): label for label in spec.labels} if spec else {}
    label = labels.get(_key(name))
    code = codes.get(name) or (label.code if label else None)
    if code is None:
        raise Permanent(
            f"say what {name} is called, with --value '{name}=VALUE|SCHEME|MEANING'"
        )
    return Value(
        finding=_finding(name, category, cohort),
        key=label.key if label else _key(name),
        meaning=code[2] if label is None or name in codes else label.meaning,
        code=code,
        prompts=label.prompts if label else (),
    )


def _finding(name: str, category: str, cohort: Cohort) -> str:
    for finding in (f"{category}={name}", name):
        if finding in cohort.findings:
            return finding
    known = ", ".join(cohort.findings)
    raise Permanent(
        f"{cohort.origin} labels neither '{category}={name}' nor {name!r}: it has {known}"
    )


def _key(name: str) -> str:
    return name.strip().casefold().replace(" ", "-")
