"""A report in words, for a terminal of 80 columns, and as JSON, for scripts.

It tells what `sr_writer.said.Report` holds, in its order. No identity is known here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dicom_node.cli import flag_text
from dicom_node.domain import AtlasSearch, Code, Completion, Score
from sr_writer.said import (
    Basis,
    Evidence,
    Report,
    SaidCategory,
    SaidEstimate,
    SaidFinding,
)

Answer = SaidFinding | SaidCategory | SaidEstimate
Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

FOLLOWS = "the flag follows from score and threshold"
DOES_NOT_FOLLOW = "THE FLAG DOES NOT FOLLOW FROM SCORE AND THRESHOLD"


def report_json(report: Report) -> dict[str, Json]:
    """Return the report as JSON: the names of `Report`, enumerations as their words."""
    findings: list[Json] = [
        {**_members(said), "flag_follows": said.flag_follows}
        for said in report.findings
    ]
    follow = report.flags_follow
    return {**_members(report), "findings": findings, "flags_follow": follow}


def report_view(report: Report) -> RenderableType:
    """Return the report as a person reads it: findings first, then all the rest."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    pack = report.algorithm
    title = _shown(report.title.meaning)
    yield Text(f"{title} - research, not for diagnosis", style="bold")
    yield Text(_shown(f"{pack.title} ({pack.name} {pack.version})"))
    yield _run(report)
    if report.findings:
        yield _heading("Findings")
        yield _findings(report.findings)
        if not report.flags_follow:
            yield Text(f"WARNING: {DOES_NOT_FOLLOW} of every finding", "bold red")
    for said in report.findings:
        yield _heading(said.concept.meaning)
        yield _details(_about_finding(said))
    for category in report.categories:
        yield _heading(category.concept.meaning)
        yield _details(_about_category(category))
    for estimate in report.estimates:
        yield _heading(estimate.concept.meaning)
        yield _details(_about_estimate(estimate))
    if report.cases is not None:
        yield _heading("Similar reference cases, not this patient")
        yield _cases(report.cases)
    yield _heading("The object")
    yield _details(_about_object(report))


def _heading(text: str) -> Text:
    return Text(f"\n{_shown(text)}", style="bold")


def _shown(text: str) -> str:
    """Return the text without what would steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _details(lines: Iterable[tuple[str, str | Text]]) -> RenderableType:
    """Return names and values in two columns; empty values are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=16)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(
                _shown(name), value if isinstance(value, Text) else Text(_shown(value))
            )
    return Padding(table, (0, 0, 0, 2))


# ── the run ─────────────────────────────────────────────────────────────────


def _run(report: Report) -> RenderableType:
    partial = report.completion is Completion.PARTIAL
    lines: list[tuple[str, str | Text]] = [
        ("summary", report.summary.meaning),
        ("completion", "PARTIAL: some images could not be read" if partial else ""),
        ("obstacle", report.obstacle.meaning if report.obstacle else ""),
        ("reason", report.reason),
        ("in shadow mode", _shadow(report.shadow)),
        ("statement", report.algorithm.statement),
        ("revision", f"{report.revision}, {_count(report.images, 'image')}"),
        ("concluded", report.concluded_at.isoformat(" ", "seconds")),
    ]
    for group in report.unreadable:
        lines.append(("unreadable", f"{group.count} x {group.reason}"))
        lines.extend(("", _frames(i.sop_instance_uid, i.frames)) for i in group.images)
    return _details(lines)


def _shadow(names: Sequence[str]) -> str:
    return f"{', '.join(names)}: computed, not reported" if names else ""


def _findings(findings: Sequence[SaidFinding]) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 1))
    for name in ("flag", "finding", "score", "threshold", "urgency"):
        table.add_column(name, overflow="fold", no_wrap=name == "flag")
    for said in findings:
        point = said.operating_point
        follows = "" if said.flag_follows else " [bold red]?[/]"
        table.add_row(
            flag_text(said.flag) + follows,
            Text(_shown(_located(said))),
            _short_score(said.score),
            "" if point is None else f"{point.threshold:.6g}",
            said.urgency or "",
        )
    return table


def _located(said: SaidFinding) -> str:
    place = [c.meaning for c in (said.site, said.laterality) if c is not None]
    return said.concept.meaning + (f" ({', '.join(place)})" if place else "")


def _short_score(score: Score | None) -> str:
    if score is None:
        return ""
    return f"{'p ' if score.calibration_set else ''}{score.value:.6g}"


# ── what was asked ──────────────────────────────────────────────────────────


def _about_finding(said: SaidFinding) -> Iterator[tuple[str, str | Text]]:
    yield "flag", said.flag.value + (f", {said.urgency}" if said.urgency else "")
    if not said.flag_follows:
        yield "", Text(DOES_NOT_FOLLOW, "bold red")
    elif said.score is not None:
        yield "", Text(FOLLOWS, "green")
    yield "code", _coded(said.concept)
    yield "site", _coded(said.site)
    yield "laterality", _coded(said.laterality)
    yield from _about_score(said.score)
    if (point := said.operating_point) is not None:
        yield "threshold", f"{point.threshold!r} ({point.name})"
        yield "ruled out", "" if point.rule_out is None else f"below {point.rule_out!r}"
        yield "tolerance", repr(point.tolerance) if point.tolerance else ""
        yield "threshold set", point.threshold_set
        yield "", f"sha256:{point.threshold_set_digest}"
    yield from _about_basis(said)


def _about_category(said: SaidCategory) -> Iterator[tuple[str, str | Text]]:
    yield "answer", said.chosen.meaning if said.chosen else "not evaluated"
    yield "code", _coded(said.chosen)
    yield from _about_score(said.score)
    if said.runner_up is not None:
        yield "next best", f"{said.runner_up.meaning}, {said.runner_up_score!r}"
    yield "question", f"{_coded(said.concept)}, one of {said.labels} labels"
    yield from _about_basis(said)


def _about_estimate(said: SaidEstimate) -> Iterator[tuple[str, str | Text]]:
    unit = said.unit.value if said.unit else ""
    yield "value", "not evaluated" if said.value is None else f"{said.value!r} {unit}"
    if said.spread is not None:
        yield "spread", f"{said.spread!r} {unit}, no confidence interval"
    yield "references", _count(said.references, "labelled image")
    yield "validated", "yes" if said.validated else "no"
    yield "question", _coded(said.concept)
    yield from _about_basis(said)


def _about_score(score: Score | None) -> Iterator[tuple[str, str]]:
    if score is None:
        return
    calibrated = score.calibration_set
    name = "probability" if calibrated else "score"
    yield name, repr(score.value) + ("" if calibrated else ", uncalibrated")
    yield "calibration set", calibrated
    if score.interval is not None:
        low, high = score.interval
        yield "95 % interval", f"{low!r} to {high!r}"


def _about_basis(said: Answer) -> Iterator[tuple[str, str]]:
    basis: Basis = said.basis
    yield "obstacle", basis.obstacle.meaning if basis.obstacle else ""
    yield "reason", basis.reason
    yield "images scored", str(basis.images_scored)
    yield "selection", basis.selection
    for number, one in enumerate(basis.evidence):
        yield ("evidence" if number == 0 else ""), _evidence(one)
    yield "tracked as", f"{said.key}, {said.tracking_uid}"


def _evidence(one: Evidence) -> str:
    return f"{one.score!r}  {_frames(one.image.sop_instance_uid, one.image.frames)}"


def _frames(uid: str, frames: Sequence[int]) -> str:
    if not frames:
        return uid
    numbers = ", ".join(str(number) for number in frames)
    return f"{uid} frame{'s' if len(frames) > 1 else ''} {numbers}"


# ── cases, and the object ───────────────────────────────────────────────────


def _cases(search: AtlasSearch) -> RenderableType:
    lines: list[tuple[str, str | Text]] = [
        ("atlas", f"{search.atlas} {search.version}, metric {search.metric}"),
        ("", f"sha256:{search.digest}"),
    ]
    for case in search.cases:
        labels = ", ".join(label.meaning for label in case.labels)
        by = f" ({case.established_by})" if case.established_by else ""
        lines.append((case.identifier, f"{case.similarity:.6g}  {labels}{by}"))
    return _details(lines)


def _about_object(report: Report) -> Iterator[tuple[str, str | Text]]:
    pack = report.algorithm
    yield "instance", report.sop_instance_uid
    yield "series", report.series_uid
    yield "study", report.study_uid
    for former in report.predecessors:
        yield "supersedes", former.sop_instance_uid
    yield "device UID", pack.device_uid
    yield "encoder", f"sha256:{pack.encoder}"
    yield "preprocessing", pack.preprocessing
    yield "numeric profile", pack.profile
    yield "site", report.site
    yield "software", f"pacsight {report.software}"


def _coded(code: Code | None) -> str:
    return "" if code is None else f'({code.value}, {code.scheme}, "{code.meaning}")'


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# ── JSON ────────────────────────────────────────────────────────────────────


def _plain(value: object) -> Json:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return _members(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"no JSON for {type(value).__name__}")


def _members(value: object) -> dict[str, Json]:
    assert is_dataclass(value)  # noqa: S101 - for the type checker
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
