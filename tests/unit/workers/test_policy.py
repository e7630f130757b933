"""Policies are values with a digest: equal ones are the same, and impossible ones are none."""

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.packs import POLICY
from workers.policy import (
    NAMES,
    IntensityRule,
    Jpeg,
    Percentiles,
    Resize,
    Toolkit,
    Voi,
    Window,
    named,
    policy_from_json,
)


def test_json_carries_the_whole_policy() -> None:
    """What is read back from JSON is equal, digest and all."""
    again = policy_from_json(POLICY.to_json())
    assert again == POLICY
    assert again.digest == POLICY.digest


def test_the_digest_does_not_depend_on_how_numbers_are_written() -> None:
    """40 and 40.0 are the same window."""
    rules = (IntensityRule(method=Window(center=40, width=80)),)
    floats = (IntensityRule(method=Window(center=40.0, width=80.0)),)
    assert (
        replace(POLICY, intensity=rules).digest
        == replace(POLICY, intensity=floats).digest
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"size": 64},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
        {"intensity": (IntensityRule(method=Voi()),)},
        {"intensity": (IntensityRule(method=Percentiles(low=5, high=95)),)},
        {"intensity": (IntensityRule(method=Toolkit()),)},
        {"frames": "first"},
        {"standardise": (Resize(size=512),)},
        {"standardise": (Resize(size=512, filter="spline"),)},
        {"standardise": (Resize(size=512), Jpeg(quality=75))},
    ],
)
def test_the_digest_tells_policies_apart(changes: dict[str, Any]) -> None:
    """Every part of a policy is part of its identity."""
    assert replace(POLICY, **changes).digest != POLICY.digest


def test_the_first_rule_that_covers_a_modality_holds() -> None:
    """CT has its window, everything else the percentiles."""
    assert isinstance(POLICY.method_for("CT"), Window)
    assert isinstance(POLICY.method_for("DX"), Percentiles)
    assert isinstance(POLICY.method_for(""), Percentiles)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Percentiles(low=99, high=1), "0 <= low < high <= 100"),
        (lambda: Percentiles(low=-1), "0 <= low < high <= 100"),
        (lambda: Voi(high=101), "0 <= low < high <= 100"),
        (lambda: Window(center=40, width=0), "width above 0"),
        (lambda: Toolkit(low=99, high=1), "0 <= low < high <= 100"),
        (lambda: Resize(size=0), "size must lie in"),
        (lambda: Jpeg(quality=0), "quality must lie in 1 to 100"),
        (lambda: replace(POLICY, name=""), "needs a name"),
        (lambda: replace(POLICY, size=0), "size must lie in"),
        (lambda: replace(POLICY, std=(0.2, 0.2, 0.0)), "std must be above 0"),
        (lambda: replace(POLICY, intensity=()), "for any modality"),
        (
            lambda: replace(POLICY, intensity=POLICY.intensity[:1]),
            "the last intensity rule must be for any modality",
        ),
    ],
)
def test_impossible_policies_cannot_be_made(make: Any, reason: str) -> None:
    """The constructor refuses, and says why."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        make()


# ── policies with a name of their own ───────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_named_policies_carry_their_name_through_json(name: str) -> None:
    """Each is a policy like any other: data, with a digest of its own."""
    policy = named(name)
    assert policy.name == name
    assert policy_from_json(policy.to_json()) == policy
    assert len({named(other).digest for other in NAMES}) == len(NAMES)


def test_what_a_policy_leaves_out_is_not_in_its_digest() -> None:
    """Policies that were written before a field existed keep their digest."""
    assert named("percentiles").digest == (
        "ac91fb754e8c81c9307ff63559d17b7c8bba821cdefbf5791a75c7c372de3c68"
    )
    assert "standardise" not in POLICY.to_json()
    assert "frames" not in POLICY.to_json()


@pytest.mark.parametrize("name", NAMES)
def test_only_the_toolkit_stops_after_the_first_frame(name: str) -> None:
    """Every other policy embeds all frames."""
    assert named(name).uses(0)
    assert named(name).uses(1) == (name != "toolkit-client")
