"""What was found about shortcuts to one label: values, sentences, JSON."""

import json
from dataclasses import asdict, dataclass

from workers.measures import Area
from workers.shortcuts.probing import Probe
from workers.shortcuts.strata import Strata
from workers.shortcuts.verdict import RULE, Left, Verdict

_OWN_FOLDS = (
    "The model's scores are of no fold: the probes were cross-validated on these very "
    "rows, by patient, in folds of their own."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How well one family tells the label by itself.

    Parameters
    ----------
    area
        None where nothing could be learnt; `reason` says why.
    matched
        Its area on the samples that were matched for the strongest probe.
    counts
        Whether the verdict looks at it.
    """

    name: str
    area: Area | None
    matched: Area | None
    counts: bool
    reason: str
    chosen: tuple[str, ...]

    @property
    def strength(self) -> float:
        """Return the area, 0 where there is none: to sort by."""
        return self.area.value if self.area else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutReport:
    """Shortcuts to one label.

    Parameters
    ----------
    raw
        The model's own area on all rows.
    strongest
        The probe that was matched for; "" where none could be measured.
    left_out
        Rows that the model did not evaluate.
    own_folds
        Whether the probes have folds of their own: the model's rows are of no fold.
    """

    finding: str
    raw: Area
    probes: tuple[Told, ...]
    strongest: str
    strata: tuple[Strata, ...]
    matched: Left | None
    verdict: Verdict
    reasons: tuple[str, ...]
    left_out: int
    own_folds: bool
    seed: int
    rule: str = RULE

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what tables of the figures do not say: reasons, folds, what is silent."""
        return (
            *self.reasons,
            *([_OWN_FOLDS] if self.own_folds else []),
            *_of_silent(self.probes),
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return what a person should read, in order."""
        raw = self.raw
        model = (
            f"{self.finding}: area {raw} on {raw.positives} positives and "
            f"{raw.negatives} negatives of {raw.patients} patients."
        )
        return (
            model,
            *([_OWN_FOLDS] if self.own_folds else []),
            *_of_probes(self.probes, self.strongest),
            *_of_matched(self.matched),
            *_of_small(self.strata),
            f"Verdict: {self.verdict.value}.",
            *self.reasons,
        )

    def to_json(self) -> str:
        """Return it as canonical JSON."""
        content = asdict(self) | {"sentences": self.sentences}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))


def told(probe: Probe, matched: Area | None) -> Told:
    """Return what a report keeps of a probe."""
    return Told(
        name=probe.name,
        area=probe.area,
        matched=matched,
        counts=probe.counts,
        reason=probe.reason,
        chosen=probe.chosen,
    )


def _of_probes(probes: tuple[Told, ...], strongest: str) -> list[str]:
    found = [
        f"{p.name} alone: {p.area}{'' if p.counts else ', beside the verdict'}."
        for p in probes
        if p.area is not None
    ]
    if strongest:
        found.append(f"The strongest probe is {strongest}.")
    return found + _of_silent(probes)


def _of_silent(probes: tuple[Told, ...]) -> list[str]:
    silent = [f"{p.name} ({p.reason})" for p in probes if p.area is None]
    return [f"Not informative: {', '.join(silent)}."] if silent else []


def _of_matched(left: Left | None) -> list[str]:
    if left is None:
        return []
    counts = f"{left.positives} positives and {left.negatives} negatives"
    said = f"Matched for {left.on}: {counts} of {left.patients} patients."
    if left.area is None:
        return [said]
    areas = f"the probe has {left.balance}, the model {left.area}"
    return [said, f"There {areas}; raw minus matched {left.lost}."]


def _of_small(found: tuple[Strata, ...]) -> list[str]:
    small = [
        f"{each.attribute} {stratum.name}"
        for each in found
        for stratum in each.strata
        if stratum.area is None
    ]
    return [f"Too small to say anything: {', '.join(small)}."] if small else []
