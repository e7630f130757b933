"""Every file of the shared corpus goes through intake, ledger and decoder: a known outcome each.

The table beside the tests holds names and outcomes alone, no content of a file. Where an
outcome is meant to change, ``PACSIGHT_CORPUS_TABLE=write`` writes it anew.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.domain import Analysis, FrontDoor, Origin
from dicom_node.errors import Rejected
from dicom_node.ledger import arrivals, open_ledger
from tests.arrivals import ENCODER
from tests.packs import POLICY
from tests.receiving import House, house
from workers.decoding import DecodePool, Failure, FrameInput

TABLE = Path(__file__).parents[1] / "golden" / "corpus_outcomes.tsv"
ORIGIN = Origin(door=FrontDoor.FILE)


@pytest.fixture(scope="module")
def outcomes(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """Return what becomes of each file, by its path in the corpus."""
    root = shared / "data" / "dicom"
    folder = tmp_path_factory.mktemp("corpus")
    home = house(folder)
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite", migrate=True)
    with DecodePool(processes=2, memory_bytes=2 << 30, timeout_s=60) as pool:
        found = {
            str(path.relative_to(root)): _outcome(path, home, pool)
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
    with ledger.write() as tx:
        arrivals.record(tx, home.books.received, encoders=[ENCODER.digest])
    ledger.close()
    return found


def _outcome(path: Path, home: House, pool: DecodePool) -> tuple[str, str]:
    try:
        taken = home.intake.take(home.put(path.read_bytes()), ORIGIN, session=None)
    except Rejected as rejected:
        return f"refused 0x{rejected.status:04X}", rejected.comment
    if taken.header.analysis is not Analysis.IMAGE:
        return taken.header.analysis.value, taken.header.reason
    (seen,) = pool.map([FrameInput(path=home.spool.path(taken.path))], POLICY)
    if isinstance(seen, Failure):
        return ("poisoned" if seen.fatal else "unreadable"), seen.reason
    return "analysed", ""


def _table() -> Iterator[tuple[str, tuple[str, str]]]:
    for line in TABLE.read_text().splitlines():
        name, outcome, reason = line.split("\t")
        yield name, (outcome, reason)


@pytest.mark.corpus
@pytest.mark.slow
def test_every_file_has_its_outcome(outcomes: dict[str, tuple[str, str]]) -> None:
    """Refused with a status, kept and not analysed, unreadable, or analysed."""
    if os.environ.get("PACSIGHT_CORPUS_TABLE") == "write":  # noqa: TID251 - a matter of tests only
        rows = ["\t".join((name, *said)) for name, said in outcomes.items()]
        TABLE.write_text("\n".join(rows) + "\n")
    assert outcomes == dict(_table())


@pytest.mark.corpus
@pytest.mark.slow
def test_no_file_of_the_corpus_is_poisoned(
    outcomes: dict[str, tuple[str, str]],
) -> None:
    """None of them ends a decode process."""
    assert [n for n, (outcome, _) in outcomes.items() if outcome == "poisoned"] == []
