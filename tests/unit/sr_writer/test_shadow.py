"""Shadow mode: named in report and page, and otherwise as if it were not there."""

from dataclasses import replace

import pytest

from dicom_node.domain import Code, Finding, ObjectKind, Result
from sr_writer.page import draw_page
from sr_writer.reading import read_report
from tests.builders import finding, result, source_header
from tests.composed import every_object, reread
from tests.unit.sr_writer.test_compose import pictures_for

SECRET = Code(value="99SECRET", scheme="99TEST", meaning="Something quiet")
SHADOW = finding(0.98765, key="quiet", concept=SECRET, site=SECRET)
WITH = result([finding(0.9)], shadow=(SHADOW,))
WITHOUT = replace(WITH, shadow=())


def texts(made_from: Result, kind: ObjectKind) -> str:
    """Return the object of that kind, in words."""
    objects = every_object(made_from, source_header(), pictures_for(made_from))
    return str(next(reread(one) for one in objects if one.kind is kind))


@pytest.mark.parametrize("kind", [ObjectKind.REPORT, ObjectKind.KEY_OBJECTS])
def test_nothing_but_its_name_is_in_an_object(kind: ObjectKind) -> None:
    """No code, no key, no score."""
    said = texts(WITH, kind)
    assert [word for word in ("99SECRET", "quiet,", "0.98765") if word in said] == []
    assert ("Something quiet" in said) is (kind is ObjectKind.REPORT)


def test_the_page_names_it_and_nothing_else() -> None:
    """One line more; every other line is as without it."""
    pages = [
        draw_page(one, pictures_for(one), concluded_at=one.concluded_at)
        for one in (WITH, WITHOUT)
    ]
    with_it, without = ([line.text for line in page.lines] for page in pages)
    assert [line for line in with_it if line not in without] == [
        "In shadow mode, not reported: Something quiet"
    ]


def test_it_flags_nothing() -> None:
    """What is flagged, and what a result rests on, are the reported findings."""
    assert (WITH.flagged, WITH.evidence) == (WITHOUT.flagged, WITHOUT.evidence)


@pytest.mark.parametrize("shadow", [(), (SHADOW,), (SHADOW, replace(SHADOW, key="b"))])
def test_the_report_is_read_back_with_it(shadow: tuple[Finding, ...]) -> None:
    """As many names as there are findings."""
    made_from = replace(WITH, shadow=shadow)
    objects = every_object(made_from, source_header(), pictures_for(made_from))
    report = next(reread(one) for one in objects if one.kind is ObjectKind.REPORT)
    assert read_report(report).shadow == tuple(one.concept.meaning for one in shadow)
