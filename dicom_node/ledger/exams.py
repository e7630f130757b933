"""How an instance was taken, as the ledger keeps it: JSON beside its version."""

import json
from typing import Any

from pydantic import TypeAdapter

from dicom_node.domain import Exam

_EXAM = TypeAdapter(Exam)


def exam_json(exam: Exam) -> str:
    """Return what is stored of an exam: what is known of it.

    It may hold what no database can; the column leaves that out.
    """
    known = _EXAM.dump_python(exam, exclude_defaults=True)
    return json.dumps(known, ensure_ascii=False)


def exam_of_row(row: Any) -> Exam:
    """Return how a version was taken; of one from before that was kept, the columns."""
    if row.exam is None:
        return Exam(modality=row.modality, body_part=row.body_part, view=row.view)
    return _EXAM.validate_json(row.exam)
