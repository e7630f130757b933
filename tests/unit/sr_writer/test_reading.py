"""Reading back: what a report says is what its result said."""

from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.domain import Flag, ObjectKind, Result, Score
from dicom_node.errors import Permanent
from sr_writer.codes import IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from sr_writer.document import Options
from sr_writer.reading import read_report
from sr_writer.saying import report_of
from tests.builders import finding, operating_point, result, source_header
from tests.drawn import results
from tests.unit.sr_writer.test_compose import everything_at_once

SOURCES: tuple[dict[str, Any], ...] = (
    {},
    {"TimezoneOffsetFromUTC": None},
    {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
    {
        "SpecificCharacterSet": ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        "PatientName": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    },
    {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"},
)


def written(made_from: Result, **source: Any) -> Dataset:
    """Return the report of a result, as it is read from its bytes."""
    header = source_header(made_from.images[0], **source)
    (obj,) = compose(made_from, [header], kinds=[ObjectKind.REPORT])
    return dcmread(BytesIO(obj.content))


@settings(max_examples=25, deadline=None)
@given(results(), st.sampled_from(SOURCES))
def test_a_report_says_what_its_result_said(
    made_from: Result, source: dict[str, Any]
) -> None:
    """Whatever the result, whatever the character set of the source."""
    report = read_report(written(made_from, **source))
    assert report == report_of(made_from)
    assert report.flags_follow


def test_another_title_is_read_too() -> None:
    made_from = result()
    (obj,) = compose(
        made_from,
        [source_header()],
        kinds=[ObjectKind.REPORT],
        title=IMAGING_MEASUREMENT_REPORT,
    )
    options = Options(title=IMAGING_MEASUREMENT_REPORT)
    report = read_report(dcmread(BytesIO(obj.content)))
    assert report == report_of(made_from, options)
    assert report.sop_instance_uid == obj.sop_instance_uid
    assert report.series_uid == obj.series_uid


# ── what archives do to a report ────────────────────────────────────────────


def encoded_anew(dataset: Dataset, *, implicit: bool) -> Dataset:
    """Return the data set as it is read after an archive has encoded it anew."""
    with BytesIO() as file:
        dcmwrite(file, dataset, implicit_vr=implicit, little_endian=True)
        return dcmread(BytesIO(file.getvalue()), force=True)


@pytest.mark.parametrize("source", SOURCES)
def test_a_report_that_was_encoded_anew_says_the_same(source: dict[str, Any]) -> None:
    """Implicit VR, and UTF-8 in place of the source's character sets."""
    made_from = everything_at_once()
    dataset = written(made_from, **source)
    dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert read_report(encoded_anew(dataset, implicit=True)) == report_of(made_from)


def test_equipment_that_others_add_is_not_taken_for_ours() -> None:
    """Archives and routers append themselves to Contributing Equipment."""
    made_from = result()
    dataset = written(made_from)
    router = Dataset()
    router.Manufacturer = router.ManufacturerModelName = "Router"
    router.ContributionDescription = "encoder=sha256:0; preprocessing=x; profile=y"
    dataset.ContributingEquipmentSequence.insert(0, router)
    assert read_report(dataset) == report_of(made_from)


# ── the flag ────────────────────────────────────────────────────────────────

NEAR = 0.4999999999999999


@pytest.mark.parametrize(
    ("score", "point", "expected"),
    [
        (NEAR, operating_point(0.5), Flag.BELOW),
        (NEAR, operating_point(NEAR), Flag.ABOVE),
        (0.5, operating_point(0.5, tolerance=1e-300), Flag.INDETERMINATE),
        (0.5, operating_point(0.5), Flag.ABOVE),
        (0.3, operating_point(0.1, tolerance=0.2), Flag.INDETERMINATE),
    ],
)
def test_the_flag_follows_to_the_last_bit(
    score: float, point: Any, expected: Flag
) -> None:
    """Six digits would show another one: the object holds all of them."""
    made_from = result(
        [finding(score, operating_point=point, flag=point.flag_of(score))]
    )
    (said,) = read_report(written(made_from)).findings
    assert said.flag is expected
    assert said.flag_follows


@pytest.mark.parametrize("flag", [Flag.ABOVE, Flag.INDETERMINATE, Flag.NOT_EVALUATED])
def test_a_flag_that_does_not_follow_is_noticed(flag: Flag) -> None:
    """Whoever changed it: 0.2 is below 0.5."""
    made_from = result([finding(0.9, key="a"), finding(0.2, key="b", flag=flag)])
    report = read_report(written(made_from))
    assert [said.flag_follows for said in report.findings] == [True, False]
    assert not report.flags_follow


def test_a_flag_without_a_score_does_not_follow() -> None:
    (said,) = report_of(result([finding(None)])).findings
    assert said.flag_follows
    assert not replace(said, flag=Flag.BELOW).flag_follows


def test_where_the_exact_number_was_lost_the_shown_one_is_read() -> None:
    """Floating Point Value (0040,A161) came late to the Standard."""
    dataset = written(result([finding(Score(value=0.123456789))]))
    for item in dataset.iterall():
        if item.keyword == "MeasuredValueSequence":
            del item.value[0].FloatingPointValue
    (said,) = read_report(dataset).findings
    assert said.score == Score(value=0.123457)


# ── what is no report of ours ───────────────────────────────────────────────


def capture() -> Dataset:
    """Return the secondary capture of a result."""
    kinds = [ObjectKind.CAPTURE]
    (obj,) = compose(result(), [source_header()], kinds=kinds)
    return dcmread(BytesIO(obj.content))


def foreign() -> Dataset:
    """Return a report that somebody else wrote."""
    dataset = written(result())
    dataset.InstanceCreatorUID = "1.2.3"
    return dataset


EVERYTHING = compose(
    everything_at_once(), [source_header()], kinds=[ObjectKind.REPORT]
)[0].content


def without(*keywords: str) -> Dataset:
    """Return a report that lacks attributes."""
    dataset = dcmread(BytesIO(EVERYTHING))
    for keyword in keywords:
        delattr(dataset, keyword)
    return dataset


def without_items(count: int) -> Dataset:
    """Return a report that lacks the last items of its tree."""
    dataset = dcmread(BytesIO(EVERYTHING))
    del dataset.ContentSequence[-count:]
    return dataset


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        (capture(), "Secondary Capture Image Storage of pacsight: the report is"),
        (foreign(), "a Structured Report that pacsight did not write"),
        (source_header(), "no report of pacsight: Digital X-Ray Image Storage"),
        (Dataset(), "no report of pacsight: object without a SOP Class"),
        (without("CompletionFlag"), "the report is damaged"),
        (without("ContributingEquipmentSequence"), "the report is damaged"),
        (without("ContentSequence"), 'lacks its "Qualitative Evaluations"'),
        (without_items(2), 'lacks its "Qualitative Evaluations"'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_report_of_ours_is_said_in_a_sentence(
    dataset: Dataset, complaint: str
) -> None:
    """And nothing of the patient stands in it."""
    with pytest.raises(Permanent, match=complaint) as caught:
        read_report(dataset)
    assert "Doe" not in str(caught.value)
    assert "PAT-0001" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_is_missing_the_answer_is_a_report_or_a_sentence(
    data: st.DataObject,
) -> None:
    """One element, anywhere in the report, is taken away."""
    dataset = dcmread(BytesIO(EVERYTHING))
    places = [(dataset, element.tag) for element in dataset]
    for element in dataset.iterall():
        if element.VR == "SQ":
            places += [(item, e.tag) for item in element.value for e in item]
    where, tag = data.draw(st.sampled_from(places))
    del where[tag]
    with suppress(Permanent):
        assert read_report(dataset).findings
