"""The short form of ``make chaos``: a few studies, every kind of fault."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.account import said
from tests.chaos.plan import FEW_POINTS, Chaos, Fault, Point
from tests.delivery.archives import python_plugin

SUITE = Path(__file__).parents[1] / "chaos" / "chaos.py"


@pytest.fixture
def neighbours(orthanc_binary: str) -> None:
    """Skip where Orthanc or a plugin is missing, fail there if CI=true."""
    del orthanc_binary
    if python_plugin() is None or shutil.which("cc") is None:
        reason = "a plugin or a compiler is missing: apt install orthanc-python gcc"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
            pytest.fail(reason)
        pytest.skip(reason)


def chaos(*words: str) -> dict[str, Any]:
    """Return what the suite prints of a run; it has to be as it should be."""
    done = subprocess.run(
        [sys.executable, SUITE, "--json", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    account: dict[str, Any] = json.loads(done.stdout)
    return account


@pytest.mark.usefixtures("neighbours")
@pytest.mark.timeout(400)
def test_nothing_is_lost_or_doubled_in_chaos(tmp_path: Path) -> None:
    """Every kind of fault once, kills at four points: each study has its one report."""
    words = ("--short", "--studies", "12", "--seed", "5")
    account = chaos(*words, "--folder", str(tmp_path / "chaos"))
    assert account["is_right"]
    assert account["counts"]["studies in the ledger"] >= 12
    assert account["faults"] == {
        **{fault.value: 1 for fault in Fault},
        **{f"killed {p.value}": int(p in FEW_POINTS) for p in Point},
    }


@pytest.mark.usefixtures("neighbours")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_node_on_sqlite_loses_nothing_either(tmp_path: Path) -> None:
    """The same with the ledger that a node has by default."""
    words = ("--studies", "300", "--seed", "6", "--ledger", "sqlite")
    account = chaos(*words, "--folder", str(tmp_path / "chaos"))
    assert account["counts"]["studies in the ledger"] >= 300


def test_a_seed_is_a_run() -> None:
    """The same seed, the same faults in the same order; another seed, others."""
    chaos = Chaos(seed=7, studies=100)
    assert chaos.blows() == Chaos(seed=7, studies=100).blows()
    assert chaos.blows() != replace(chaos, seed=8).blows()
    assert chaos.armed() != replace(chaos, seed=8).armed()


def test_the_long_form_has_what_it_promises() -> None:
    """200 faults at least, 20 kills at each point, no fault after the last study."""
    chaos = Chaos(seed=1, studies=10_000)
    planned = chaos.planned()
    assert sum(planned[fault.value] for fault in Fault) >= 200
    assert Counter({p.value: 20 for p in Point}) == Counter(
        {p.value: planned[p.value] for p in Point}
    )
    places = [b.at for b in chaos.blows()] + [a.at for a in chaos.armed()]
    assert min(places) > 0
    assert max(places) < 1


def test_one_node_has_no_faults_of_two() -> None:
    """Nor those of a PostgreSQL that is not there."""
    kinds = Chaos(seed=1, studies=10, nodes=1).kinds()
    assert set(Fault) - set(kinds) == {
        Fault.SECOND_KILLED,
        Fault.DATABASE_KILLED,
        Fault.DATABASE_RESTARTED,
    }


def test_times_are_told() -> None:
    """Median and most; what was not seen is said."""
    assert said([1.0, 2.0, 4.0]) == "2.0 s median, 4.0 s at most"
    assert said([1.0, None]) == "1.0 s median, 1.0 s at most, 1 not seen"
    assert said([]) == "not measured"
