"""The short form of ``make test-delivery``: a few results, the same storm."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.delivery.account import compared
from tests.delivery.archives import Held, python_plugin
from tests.delivery.plan import Fate, Storm, Target
from tests.delivery.scene import weather

RESULTS = 8
STORM = Storm(
    seed=3,
    node_kills=1,
    archive_stops=2,
    longest_down_s=0.5,
    fates={
        Fate.LATE: 0.1,
        Fate.CUT: 0.2,
        Fate.ANSWER_LOST: 0.1,
        Fate.REFUSED: 0.2,
    },
    refused=0.25,
)


@pytest.fixture
def unruly(orthanc_binary: str) -> None:
    """Skip where Orthanc cannot be told to refuse, fail there if CI=true."""
    del orthanc_binary
    if python_plugin() is None:
        reason = "Orthanc's Python plugin is not installed: apt install orthanc-python"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("unruly")
def test_no_result_is_lost_or_doubled_in_a_storm(tmp_path: Path) -> None:
    """Node and Orthancs are killed meanwhile: each object is there once, as it was."""
    account = weather(STORM, tmp_path, results=RESULTS, batch_size=2, processes=1)
    assert account.archives.keys() == {Target.ARCHIVE, Target.WEB}
    for holdings in account.archives.values():
        assert (holdings.stored, holdings.objects) == (2 * RESULTS, 2 * RESULTS)
        assert holdings.is_right
    assert account.ledger.studies == {"done": RESULTS}
    assert account.ledger.deliveries == {"delivered": 4 * RESULTS}
    assert account.is_right
    # and it was a storm
    assert account.faults["node: ended by SIGKILL"] == 1
    for archive in ("archive", "web"):
        assert account.faults[f"{archive}: ended by SIGTERM"] == 1
        assert account.faults[f"{archive}: ended by SIGKILL"] == 1
    assert any(fault.startswith("archive: refused 0x") for fault in account.faults)
    assert account.ledger.attempts_most > 1


def test_a_seed_is_a_storm() -> None:
    """The same seed, the same blows, in order; each kind against each target."""
    storm = Storm(seed=7)
    assert storm.blows() == Storm(seed=7).blows() != Storm(seed=8).blows()
    assert [b.at for b in storm.blows()] == sorted(b.at for b in storm.blows())
    assert {(b.target, b.how) for b in storm.blows()} == {
        (Target.NODE, SIGKILL),
        *((t, how) for t in (Target.ARCHIVE, Target.WEB) for how in (SIGTERM, SIGKILL)),
    }


def held(number: int) -> Held:
    """Return an instance of a study of its own."""
    return Held(
        sop_instance_uid=f"2.25.{number}.1",
        study_uid=f"2.25.{number}",
        patient_id=f"P{number}",
        data_set=f"digest {number}",
    )


OWN = [held(1), held(2), held(3)]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (OWN[:2], "lost"),
        ([*OWN, replace(held(1), study_uid="2.25.99")], "doubled"),
        ([*OWN[:2], replace(held(3), patient_id="P4")], "astray"),
        ([*OWN[:2], replace(held(3), study_uid="2.25.4")], "astray"),
        ([*OWN[:2], replace(held(3), data_set="other")], "different"),
        ([*OWN, held(4)], "strange"),
    ],
)
def test_the_account_notices_each_fault(found: Sequence[Held], fault: str) -> None:
    """One instance too few, too many, elsewhere, changed: counted, and not right."""
    assert compared(OWN, OWN).is_right
    account = compared(OWN, found)
    assert getattr(account, fault) == 1
    assert not account.is_right
