"""What the doctor found, for people: a line each, and what to do below it."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from dicom_node.doctor import ADVICE, Finding, Mark

MARKS = {
    Mark.OK: ("✓ ok", "green"),
    Mark.WARNING: ("! look", "yellow"),
    Mark.BROKEN: ("✗ broken", "bold red"),
    Mark.UNKNOWN: ("? unasked", "dim"),
}
"""A mark is more than its colour."""


def finding_view(found: Finding) -> Table:
    """Return a finding as a row, with what to do where there is something to do."""
    word, style = MARKS[found.mark]
    who = f"{found.who}: " if found.who else ""
    said = Text.assemble((who, "bold"), found.said)
    if found.ailment is not None:
        advice = ADVICE[found.ailment]
        said.append(f"\n→ {advice.do}")
        said.append(f"\n  {advice.page}", style="dim")
    row = Table.grid(padding=(0, 1))
    row.add_column(width=9)
    row.add_column(width=8)
    row.add_column(overflow="fold")
    row.add_row(Text(word, style=style), found.hop.value, said)
    return row


def summary(found: Sequence[Finding]) -> str:
    """Return how much is broken."""
    broken = sum(one.mark is Mark.BROKEN for one in found)
    if broken:
        return f"\n{broken} of {len(found)} answers name something broken."
    return "\nNothing is broken."
