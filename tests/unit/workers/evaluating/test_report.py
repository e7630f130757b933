"""The page and the JSON: the same figures, and nothing that lies elsewhere."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.evaluations import cases, groups
from workers.evaluating import Evaluation, compare, evaluate
from workers.evaluating.asjson import as_json
from workers.evaluating.figures import Alone, ShortcutFigures
from workers.evaluating.page import as_html


class Page(HTMLParser):
    """The cells of every row of every table, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a row or a cell; note what it points to."""
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        """Add to the cell."""
        if self._cell:
            self.rows[-1][-1] += data

    def row(self, first: str, *, after: int = 0) -> list[str]:
        """Return the first row whose first cell begins so."""
        return next(
            row for row in self.rows[after:] if row and row[0].startswith(first)
        )


@pytest.fixture(scope="module")
def made() -> Evaluation:
    """Return an evaluation that has every part."""
    whole = cases(calibrated=True)
    shortcut = ShortcutFigures(
        finding="effusion",
        shadow=True,
        verdict="shadow mode",
        sentences=("The probe of <header> alone reaches 0.8.",),
        alone=(Alone(name="header", value=0.8, low=0.7, high=0.9),),
    )
    return replace(
        evaluate(whole, groups(600)),
        comparison=compare(whole, cases(seed=0), names=("new", "old")),
        shortcuts=(shortcut,),
    )


@pytest.fixture(scope="module")
def text(made: Evaluation) -> str:
    """Return its page."""
    return as_html(made, version="1.0")


def _interval(figures: dict[str, Any]) -> str:
    return "{value:.3f} {low:.3f} to {high:.3f}".format(**figures)


def test_the_page_shows_the_figures_of_the_json(made: Evaluation, text: str) -> None:
    """In the summary, at each prevalence and in each group."""
    page, figures = Page(text), json.loads(as_json(made))
    for finding in figures["findings"]:
        point = finding["points"][0]
        row = page.row(finding["meaning"])
        assert row[3] == _interval(finding["area"])
        assert row[5] == _interval(point["sensitivity"])
        assert row[6] == _interval(point["specificity"])
    finding = figures["findings"][0]
    at = finding["points"][0]["at"][1]
    assert page.row("1 %")[1] == "{:.3f} {:.3f} to {:.3f}".format(*at["ppv"])
    group = finding["attributes"][0]["groups"][0]
    row = page.row("sex: F")
    assert row[3] == _interval(group["area"])
    gap = group["gaps"]["area"]
    assert row[4] == "{value:+.3f} {low:+.3f} to {high:+.3f}".format(**gap)
    assert "too few to say" in page.row("scanner: rare")[3]


def test_the_page_needs_nothing_else(text: str) -> None:
    """No script, no style sheet, no picture, no font from elsewhere."""
    addresses = Page(text).addresses
    assert [one for one in addresses if not one.startswith("#")] == []
    assert "<script" not in text
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_names_are_escaped(text: str) -> None:
    """Texts of packs and tables are texts."""
    assert "&lt;header&gt;" in text


def test_the_json_holds_numbers_or_null(made: Evaluation) -> None:
    """The threshold of the empty end of a ROC curve is infinite."""
    figures = json.loads(as_json(made))
    assert figures["format"] == 1
    assert figures["findings"][0]["roc"][0] == [0.0, 0.0, None]
    assert figures["comparison"]["first"] == "new"


def test_the_same_evaluation_gives_the_same_page(made: Evaluation, text: str) -> None:
    """To the byte."""
    assert as_html(made, version="1.0") == text


def test_figures_of_images_are_labelled_so() -> None:
    """What is flagged is a study."""
    page = as_html(evaluate(replace(cases(), level="image"), {}), version="1.0")
    assert "All figures are of images" in page
