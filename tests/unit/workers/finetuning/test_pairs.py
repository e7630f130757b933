"""Tables of pairs: what is learned from, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import Permanent
from workers.finetuning.batches import rows_of
from workers.finetuning.pairs import TRAIN, TUNE, read_pairs

GOOD = """file,text,class,patient,role
a.dcm,x-ray chest effusion.,effusion,p1,
b.dcm,x-ray chest effusion.,effusion,p2,train
c.dcm,a report of its own.,,p3,
d.dcm,x-ray chest normal.,normal,p4,tune
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text, "utf-8")
    return path


def test_labels_are_what_the_loss_takes(tmp_path: Path) -> None:
    """Names become numbers from 1, a pair without one is 0."""
    pairs = read_pairs(table(tmp_path, GOOD))

    assert pairs.labels.tolist() == [1, 1, 0, 2]
    assert pairs.rows(TRAIN).tolist() == [0, 1, 2]
    assert pairs.rows(TUNE).tolist() == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,class\na,b\n", "needs a column 'text'"),
        ("file,text\na.dcm,\n", "line 2: needs a file and a text"),
        ("file,text,role\na.dcm,b,test\n", "line 2: a role is train or tune"),
        ("file,text,role\na.dcm,b,tune\n", "no pair to learn from"),
        ("file,text,patient,role\na,b,p,tune\nc,d,p,train\n", "1 patients are to be"),
    ],
)
def test_a_table_that_is_wrong_is_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    """It names the file, and the line where there is one."""
    with pytest.raises(Permanent, match=said):
        read_pairs(table(tmp_path, text))


def test_every_pair_is_seen_before_any_comes_again() -> None:
    """An order is gone through batch by batch, then there is another one."""
    learned = np.arange(10, 22)

    steps = np.stack([rows_of(step, learned, 4, seed=3) for step in range(6)])
    again = np.stack([rows_of(step, learned, 4, seed=3) for step in range(6)])

    assert np.array_equal(np.sort(steps[:3].ravel()), learned)
    assert np.array_equal(np.sort(steps[3:].ravel()), learned)
    assert not np.array_equal(steps[:3], steps[3:])
    assert np.array_equal(steps, again)
