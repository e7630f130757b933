"""The table that the sandbox ends with: one row a study, the most urgent first."""

from collections.abc import Sequence

from rich.table import Table
from sandbox_studies import Study

from dicom_node.cli import flag_text
from dicom_node.ledger.overview import StudyLine
from dicom_node.lifecycle import State


def study_table(
    studies: Sequence[Study], lines: Sequence[StudyLine], *, width: int
) -> Table:
    """Return one row a study and pack, in the order of the lines."""
    by_uid = {study.study_uid: study for study in studies}
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        width=width,
    )
    for name in ("study", "modality", "flag"):
        table.add_column(f"\n{name}", no_wrap=True)
    table.add_column("\ntop finding", ratio=1)
    table.add_column("score /\nthreshold", justify="right", no_wrap=True)
    table.add_column("\ns", justify="right", no_wrap=True)
    for line in lines:
        study = by_uid[line.study_uid]
        flag = (
            flag_text(line.flag) if line.state is State.DONE else f"[red]{line.state}"
        )
        table.add_row(
            study.name,
            study.modality,
            flag,
            line.finding,
            _score(line),
            "" if line.seconds is None else f"{line.seconds:.1f}",
        )
    return table


def _score(line: StudyLine) -> str:
    if line.score is None or line.threshold is None:
        return ""
    return f"{line.score:.2f}/{line.threshold:.2f}"
