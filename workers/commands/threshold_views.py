"""Threshold sets as a person sees them in a terminal, and as JSON lists them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.thresholds.sets import Evidence, Point, SignedSet
from workers.thresholds.store import Activation, Store

ROWS = 11
"""Of a ROC curve in a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLine:
    """A set among others.

    Parameters
    ----------
    in_force
        Whether it counts for the version of the pack that it was made for.
    shadow
        Findings that flag nothing while it does.
    """

    pack: str
    pack_version: str
    set: str
    digest: str
    created: str
    in_force: bool
    shadow: tuple[str, ...]


def set_lines(store: Store, pack: str | None) -> tuple[SetLine, ...]:
    """Return every set of a pack, or of all of them, in the order of their names."""
    names = store.packs() if pack is None else (pack,)
    return tuple(line for name in names for line in _of_pack(store, name))


def _of_pack(store: Store, pack: str) -> Iterator[SetLine]:
    last: dict[str, Activation] = {}
    for one in store.activations(pack):
        last[one.pack_digest] = one
    for label in store.labels(pack):
        found = store.read(pack, label).set
        decided = last.get(found.pack_digest)
        counts = decided is not None and decided.set == label
        yield SetLine(
            pack=pack,
            pack_version=found.pack_version,
            set=label,
            digest=found.digest,
            created=found.created,
            in_force=counts,
            shadow=decided.shadow if decided is not None and counts else (),
        )


def lines_json(lines: Sequence[SetLine]) -> list[dict[str, Any]]:
    """Return the list for scripts."""
    return [asdict(line) for line in lines]


def lines_table(lines: Sequence[SetLine]) -> Table:
    """Return the list as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("pack", "set", "made (UTC)", "in force"):
        table.add_column(name, overflow="fold")
    for line in lines:
        state = "yes" if line.in_force else ""
        if line.shadow:
            state += f", in shadow mode: {', '.join(line.shadow)}"
        table.add_row(
            f"{line.pack} {line.pack_version}", line.set, line.created[:16], state
        )
    return table


def set_view(signed: SignedSet) -> RenderableType:
    """Return a set for a terminal: what it is, its points, their curves."""
    shown = signed.set
    head = Text(
        f"{shown.label} of {shown.pack} {shown.pack_version}, {shown.profile}\n"
        f"  made       {shown.created}\n"
        f"  digest     sha256:{shown.digest}\n"
        f"  follows    {shown.previous or 'the thresholds that the pack ships'}\n"
        f"  signed by  {signed.signature.key}\n"
    )
    parts: list[RenderableType] = [head, _points(shown.points)]
    for key, point in shown.points.items():
        if point.evidence is not None:
            parts += [Text(f"\n{key}"), _measured(point, point.evidence)]
            parts += [Text(""), _curve(point, point.evidence)]
    return Group(*parts)


def _points(points: dict[str, Point]) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 1))
    for name in ("finding", "operating point", "threshold", "mode", "chosen in"):
        table.add_column(name, overflow="fold")
    for key, point in points.items():
        ends = f"{point.threshold:.6g}"
        if point.rule_out is not None:
            ends = f"{point.rule_out:.6g} to {ends}"
        table.add_row(Text(key), point.name, ends, point.mode, point.origin)
    return table


def _measured(point: Point, evidence: Evidence) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    rows = {
        "measured": evidence.split,
        "chosen on": evidence.chosen_on,
        "measured on": evidence.measured_on,
        "sensitivity": evidence.sensitivity,
        "specificity": evidence.specificity,
        "not ruled out": evidence.rule_out_sensitivity,
        "prevalence": f"{evidence.prevalence:.3g}",
        "demonstrated": _demonstrated(point, evidence),
        "data": f"sha256:{evidence.data}",
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    return table


def _demonstrated(point: Point, evidence: Evidence) -> str | None:
    if point.demonstrated is None:
        return None
    return evidence.verdict(shown=point.demonstrated)


def _curve(point: Point, evidence: Evidence) -> Table:
    """Return the ROC curve as a table: some of its points, evenly by sensitivity.

    Where the threshold lies is one of them.
    """
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 1))
    for name in ("sensitivity", "specificity", "threshold", ""):
        table.add_column(name, justify="left" if not name else "right")
    here = [n for n, one in enumerate(evidence.roc) if one[2] >= point.threshold]
    shown = {here[-1]} if here else set()
    for row in range(ROWS):
        share = row / (ROWS - 1) - 1e-9
        shown.add(next(n for n, one in enumerate(evidence.roc) if one[1] >= share))
    for number in sorted(shown):
        fpr, tpr, at = evidence.roc[number]
        mark = "◄ the threshold" if here and number == here[-1] else ""
        table.add_row(f"{tpr:.3f}", f"{1 - fpr:.3f}", f"{at:.6g}", mark)
    return table
