"""What tells two packs apart, in words: findings, thresholds, weights, policies.

Of the manifests, field by field; findings, categories and estimates are told by their
keys. Files are compared by their digests. Evidence is not compared number by number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from workers.manifest import Manifest
from workers.pack import Pack

_KEYED = {"findings": "finding", "categories": "category", "estimates": "estimate"}
_OPAQUE = frozenset({"evidence", "validated", "numeric", "config", "roc"})
"""Fields of which only is said that they differ."""
_LONGEST = 60
_NOTHING = object()

_manifests = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs.

    Parameters
    ----------
    where
        E.g. ``finding pneumothorax: operating point: threshold``.
    before, after
        In words; empty where it is not there.
    """

    where: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.where}: only in the second: {self.after}"
        if not self.after:
            return f"{self.where}: only in the first: {self.before}"
        if self.before == self.after:
            return f"{self.where}: differs"
        return f"{self.where}: {self.before} -> {self.after}"


def differences(first: Pack, second: Pack) -> tuple[Change, ...]:
    """Return what tells two packs apart; nothing where they are the same."""
    sides = [_plain(pack) for pack in (first, second)]
    return tuple(_between(*sides, path=()))


def _plain(pack: Pack) -> dict[str, Any]:
    values: dict[str, Any] = _manifests.dump_python(pack.manifest, mode="json")
    for group in _KEYED:
        values[group] = {one["key"]: one for one in values[group]}
    return values


def _between(first: Any, second: Any, *, path: tuple[str, ...]) -> Iterator[Change]:
    if first == second:
        return
    both = isinstance(first, dict) and isinstance(second, dict)
    if not both or (path and path[-1] in _OPAQUE):
        yield Change(where=_where(path), before=_said(first), after=_said(second))
        return
    for name in dict.fromkeys([*first, *second]):
        yield from _between(
            first.get(name, _NOTHING), second.get(name, _NOTHING), path=(*path, name)
        )


def _where(path: tuple[str, ...]) -> str:
    """Return it in words: ``finding pneumothorax: operating point: threshold``."""
    if path[0] in _KEYED:
        path = (f"{_KEYED[path[0]]} {path[1]}", *path[2:])
    elif path[0] == "files":
        return f"file {path[1]}"
    return ": ".join(name.replace("_", " ") for name in path)


def _said(value: object) -> str:
    if value is _NOTHING:
        return ""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return str(value.get("meaning") or value.get("name") or "something")
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
