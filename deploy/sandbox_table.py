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
    table = Table(box=None, pad_edge=False, header_style="bold", width=width)
    table.add_column("\nstudy", no_wrap=True)
    table.add_column("\nmodality", no_wrap=True)
    table.add_column("\nflag", no_wrap=True)
    table.add_column("\ntop finding", ratio=1)
    table.add_column("\nscore", justify="right", no_wrap=True)
    table.add_column("\nthreshold", justify="right", no_wrap=True)
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
            *(_number(value, 2) for value in (line.score, line.threshold)),
            _number(line.seconds, 1),
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
