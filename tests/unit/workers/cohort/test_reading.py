"""Tables of labels: read as columns, or refused in a sentence with the line."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.errors import Permanent
from tests.cohorts import drawn, labelled
from workers.cohort import Role, Truth, read_cohort, write_cohort
from workers.cohort.columns import Columns, columns_of, quick_columns


def test_a_table_becomes_columns(tmp_path: Path) -> None:
    """Names are kept once and sorted; what nobody says is missing."""
    cohort = read_cohort(
        labelled(
            tmp_path / "l.csv",
            "B,2,2.1,pneumonia,1,,reader 1,test",
            "A,1,1.1,pneumonia,0,,,train",
            "A,1,1.2,pneumonia,uncertain,,report,",
            "A,1,1.2,age,,130.5,,",
        )
    )
    assert (cohort.patients, cohort.studies) == (("A", "B"), ("1", "2"))
    assert (cohort.units, cohort.findings) == (
        ("1.1", "1.2", "2.1"),
        ("age", "pneumonia"),
    )
    assert cohort.truth.tolist() == [
        [Truth.MISSING, Truth.ABSENT],
        [Truth.MISSING, Truth.UNCERTAIN],
        [Truth.MISSING, Truth.PRESENT],
    ]
    assert cohort.values[1, 0] == 130.5
    assert int(np.isfinite(cohort.values).sum()) == 1
    assert cohort.sources == ("reader 1", "report")
    assert cohort.source.tolist() == [[-1, -1], [-1, 1], [-1, 0]]
    assert cohort.roles == (Role.TRAIN, Role.TEST)
    assert cohort.patient.tolist() == [0, 0, 1]


def test_the_order_of_lines_and_columns_changes_nothing(tmp_path: Path) -> None:
    """The same labels are the same data set, with the same digest."""
    one = read_cohort(
        labelled(
            tmp_path / "a.csv", "A,1,1.1,f,1,,,", "B,2,2.1,f,0,,,", "", "C,3,3.1,f,,,,"
        )
    )
    other = read_cohort(
        labelled(
            tmp_path / "b.csv",
            "missing,f,3.1,3,C",
            "0.0,f,2.1,2, B ",
            "1,f,1.1,1,A",
            "1,f,1.1,1,A",
            header="\ufefflabel,finding,sop_instance_uid,study,Patient",
        )
    )
    assert one.digest == other.digest


def test_another_label_is_another_data_set(tmp_path: Path) -> None:
    """Everything but where it came from counts."""
    lines = ("A,1,1.1,f,1,,,", "A,1,1.1,f,0,,,", "A,1,1.1,f,1,2,,", "A,1,1.1,f,1,,x,")
    digests = {read_cohort(labelled(tmp_path / "l.csv", line)).digest for line in lines}
    assert len(digests) == len(lines)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """As the same data set; roles and values, too."""
    cohort = drawn(findings=("a", "b"), roles=(Role.TRAIN, Role.TEST, None)).cohort
    cohort.truth[::3, 1] = Truth.MISSING
    cohort.values[::5, 0] = 1 / 3
    write_cohort(cohort, tmp_path / "one.csv")
    again = read_cohort(tmp_path / "one.csv")
    write_cohort(again, tmp_path / "two.csv")
    assert again.truth.tolist() == cohort.truth.tolist()
    assert np.array_equal(again.values, cohort.values, equal_nan=True)
    assert again.roles == cohort.roles
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert read_cohort(tmp_path / "two.csv").digest == again.digest


GOOD = "A,1,1.1,f,1,,,train"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "holds no label"),
        ([GOOD, ",1,1.2,f,1,,,"], "line 3: patient is empty"),
        ([GOOD, "A,,1.2,f,1,,,"], "line 3: study is empty"),
        ([GOOD, "A,1,,f,1,,,"], "line 3: sop_instance_uid is empty"),
        ([GOOD, "A,1,1.2, ,1,,,"], "line 3: finding is empty"),
        (
            [GOOD, "A,1,1.2,f,2,,,"],
            "line 3: a label is one of 1, 0, uncertain, missing",
        ),
        ([GOOD, "", "A,1,1.2,f,yes,,,"], "line 4: a label is one of"),
        ([GOOD, "A,1,1.2,f,1,tall,,"], "line 3: the value is no number"),
        ([GOOD, "A,1,1.2,f,1,inf,,"], "line 3: the value is no number"),
        ([GOOD, "A,1,1.2,f,1,,,teach"], "line 3: a role is one of train, tune,"),
        ([GOOD, "A,1,1.2,f,1,,,test"], "line 3: this patient has another role above"),
        ([GOOD, "A,1,1.1,f,0,,,"], "line 3: another label or value stands above"),
        ([GOOD, "A,1,1.1,f,uncertain,,,"], "line 3: another label or value stands"),
        (["A,1,1.1,f,,1,,", "A,1,1.1,f,,2,,"], "line 3: another label or value stands"),
        (
            [GOOD, "B,1,1.1,f,1,,,"],
            "line 3: this image or series belongs to another pat",
        ),
        (
            [GOOD, "A,2,1.1,f,1,,,"],
            "line 3: this image or series belongs to another stu",
        ),
        ([GOOD, "B,1,1.2,f,1,,,"], "line 3: this study belongs to another patient"),
        ([GOOD, "A,1,1.2,f,1"], "line 3: has 5 columns, and the header has 8"),
        (['"A\n1",1,1.1,f,1,,,', GOOD, "A,1,1.1,f,0,,,"], "line 4: this image or"),
        (['"A'], "not a CSV file"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], sentence: str
) -> None:
    """One sentence, and no patient in it."""
    with pytest.raises(Permanent, match=sentence):
        read_cohort(labelled(tmp_path / "l.csv", *lines))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "patient,study,finding,label",
        "patient,study,sop_instance_uid,series_uid,finding,label",
    ],
)
def test_a_table_without_its_columns_is_refused(tmp_path: Path, header: str) -> None:
    """The sentence names what is needed."""
    with pytest.raises(Permanent, match="needs the columns patient, study, finding,"):
        read_cohort(labelled(tmp_path / "l.csv", header=header))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is a folder in its place."""
    with pytest.raises(Permanent, match=r"none\.csv: No such file"):
        read_cohort(tmp_path / "none.csv")
    with pytest.raises(Permanent, match="Is a directory"):
        read_cohort(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80))
def test_whatever_lies_in_a_table_the_answer_is_a_sentence(
    tmp_path: Path, content: bytes
) -> None:
    """Of bytes that nobody wrote by hand, too."""
    for start in (b"", b"patient,study,series_uid,finding,label\n"):
        (tmp_path / "l.csv").write_bytes(start + content)
        with pytest.raises(Permanent):
            read_cohort(tmp_path / "l.csv")


def rows_of(read: Columns) -> list[tuple[str, ...]]:
    """Return the texts of each row."""
    texts = [np.array(one.texts, object)[one.codes] for one in read.values()]
    return list(zip(*(column.tolist() for column in texts), strict=True))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters='",\r\n\0'), max_size=3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_both_readers_agree(
    tmp_path: Path, rows: list[tuple[str, str]], end: str
) -> None:
    """What pyarrow reads of a table without quotes is what Python reads."""
    pytest.importorskip("pyarrow")
    text = end.join(["a,b", *(",".join(row) for row in rows)]) + end
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    lines = csv.reader(StringIO(text, newline=""), strict=True)
    next(lines)
    expected = columns_of(lines, ["a", "b"], lambda *_: None)
    found = quick_columns(path, ["a", "b"])
    assert found is not None
    assert rows_of(found) == rows_of(expected) == rows


@pytest.mark.parametrize("body", ['"x",1', "x", "x,1,2", "x,1\n\n x", "\udcff,1"])
def test_what_is_not_plain_is_left_to_the_slower_reader(
    tmp_path: Path, body: str
) -> None:
    """Quotes, lines of another width, bytes that are no text: it says what is wrong."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.csv"
    path.write_bytes(f"a,b\n{body}\n".encode(errors="surrogateescape"))
    assert quick_columns(path, ["a", "b"]) is None
