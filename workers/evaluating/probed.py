"""What probes for shortcuts found, as the report of an evaluation shows it.

Knows their report by what it has (`workers.shortcuts.report.ShortcutReport` does), not by
its class.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Protocol

from workers.evaluating.figures import Alone, ShortcutFigures


class Interval(Protocol):
    """A value and its limits."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Told(Protocol):
    """A probe; None where it could not be measured."""

    @property
    def name(self) -> str: ...
    @property
    def area(self) -> Interval | None: ...


class Matched(Protocol):
    """The model on matched samples."""

    @property
    def area(self) -> Interval | None: ...


class Verdict(Protocol):
    """A verdict, in words."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> str: ...


class Report(Protocol):
    """What was found about shortcuts to one finding."""

    @property
    def finding(self) -> str: ...
    @property
    def raw(self) -> Interval: ...
    @property
    def probes(self) -> Sequence[Told]: ...
    @property
    def matched(self) -> Matched | None: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def sentences(self) -> tuple[str, ...]: ...
    def to_json(self) -> str: ...


def shortcut_figures(report: Report) -> ShortcutFigures:
    """Return the part of an `Evaluation` that says what probes found."""
    return ShortcutFigures(
        finding=report.finding,
        shadow=report.verdict.name == "SHADOW",
        verdict=report.verdict.value,
        sentences=report.sentences,
        alone=tuple(_alone(report)),
        detail=json.loads(report.to_json()),
    )


def _alone(report: Report) -> Iterator[Alone]:
    """Yield the model, the model on matched samples, and the probes, best first."""
    yield _one("the model", report.raw)
    if report.matched is not None and report.matched.area is not None:
        yield _one("the model, matched", report.matched.area)
    found = [(probe.name, probe.area) for probe in report.probes if probe.area]
    for name, area in sorted(found, key=lambda one: -one[1].value):
        yield _one(name, area)


def _one(name: str, area: Interval) -> Alone:
    return Alone(name=name, value=area.value, low=area.low, high=area.high)
