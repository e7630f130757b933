"""What probes found goes into the report as it is."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from workers.evaluating.probed import shortcut_figures
from workers.measures import Area, clustered_auc


class _Verdict(StrEnum):
    SHADOW = "shadow mode"
    CLEAN = "no shortcut found by these probes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    name: str
    area: Area | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    finding: str
    raw: Area
    probes: tuple[_Probe, ...]
    matched: None
    verdict: _Verdict
    sentences: tuple[str, ...]

    def to_json(self) -> str:
        """Return something."""
        return '{"finding": "f"}'


def _area(shift: float) -> Area:
    rng = np.random.default_rng(0)
    truth = np.arange(80) < 30
    return clustered_auc(rng.normal(size=80) + shift * truth, truth, np.arange(80))


def test_the_model_stands_first_and_then_the_best_probe() -> None:
    """Those that could not be measured are left to the sentences."""
    found = shortcut_figures(
        _Report(
            finding="f",
            raw=_area(2.0),
            probes=(
                _Probe(name="border", area=_area(0.1)),
                _Probe(name="header", area=_area(1.0)),
                _Probe(name="spacing", area=None),
            ),
            matched=None,
            verdict=_Verdict.SHADOW,
            sentences=("a", "b"),
        )
    )
    assert [one.name for one in found.alone] == ["the model", "header", "border"]
    assert (found.shadow, found.verdict) == (True, "shadow mode")
    assert found.detail == {"finding": "f"}
