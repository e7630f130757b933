"""A ledger that is gone is made anew, and the archive gets nothing twice."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from dicom_node.ledger import LedgerDamagedError, overview
from dicom_node.ledger.deliveries import deliveries
from dicom_node.lifecycle import State
from dicom_node.service import refuse_lost_ledger
from tests.integration.conftest import on_server
from tests.postgres import Cluster
from tests.sites import Site, another_of, chest
from workers.cli import app


def rebuild(site: Site, *words: str) -> dict[str, object]:
    """Return what the command says; what it raises is raised."""
    done = CliRunner().invoke(
        app, ["rebuild", *words, "--json", "--config", str(site.config)]
    )
    if done.exception is not None:
        raise done.exception
    said: dict[str, object] = json.loads(done.stdout)
    return said


def lose(site: Site) -> None:
    """Delete the ledger."""
    for file in site.data.glob("ledger.sqlite*"):
        file.unlink()


def current(site: Site) -> list[Dataset]:
    """Return the reports at the archive that no other one supersedes."""
    found = [dcmread(path) for path in (site.folder / "archive").glob("*/SR-*.dcm")]
    superseded = {
        instance.ReferencedSOPInstanceUID
        for report in found
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    return [one for one in found if one.SOPInstanceUID not in superseded]


def journey(site: Site) -> object:
    """Return what the ledger says of studies and deliveries, without times and keys."""
    with site.ledger() as ledger, ledger.read() as tx:
        studies = [
            (s.study_uid, s.state, s.revision, s.flag, s.finding, s.score, s.threshold)
            for s in overview.studies(tx)
        ]
        sent = {
            (d.study_uid, d.revision, d.kind, d.sop_instance_uid, d.state)
            for d in deliveries(tx)
        }
    return sorted(studies), sent


def test_after_a_rebuild_everything_is_as_it_was(site: Site) -> None:
    """Two revisions of one study, one of another: the same rows, not one new object."""
    first = chest(1)
    site.take(first, chest(2))
    time.sleep(1)  # revisions are told apart by the second; a node leaves 60 s between
    site.take(another_of(first))
    before, sent = journey(site), site.delivered()
    assert len(current(site)) == 2
    lose(site)
    with (
        site.ledger() as ledger,
        pytest.raises(LedgerDamagedError, match="pacsight rebuild"),
    ):
        refuse_lost_ledger(ledger, site.settings.outbox_dir)

    said = rebuild(site)
    site.work()

    assert (said["instances"], said["results"], said["left"]) == (3, 3, 0)
    assert site.delivered() == sent
    assert journey(site) == before
    assert len(list(site.settings.outbox_dir.glob("??/*.dcm"))) == len(sent)


def test_on_postgresql_a_new_database_becomes_as_the_former(
    server_site: Site, postgres: Cluster
) -> None:
    """The former one is left alone, also where somebody says --replace."""
    server_site.take(chest(1), chest(2))
    before, sent = journey(server_site), server_site.delivered()
    with pytest.raises(Permanent, match="name an empty database instead"):
        rebuild(server_site, "--replace")
    assert journey(server_site) == before
    renamed = replace(server_site, general=on_server(postgres))

    said = rebuild(renamed)
    renamed.work()

    assert (said["instances"], said["results"], said["left"]) == (2, 2, 0)
    assert renamed.delivered() == sent
    assert journey(renamed) == before


@pytest.mark.slow
def test_what_comes_after_a_rebuild_supersedes_what_was_before(site: Site) -> None:
    """One current report of the study, and it names the one from before the loss."""
    first = chest(1)
    site.take(first)
    (former,) = current(site)
    lose(site)
    rebuild(site)
    site.take(another_of(first))

    (now,) = current(site)
    assert now.SOPInstanceUID != former.SOPInstanceUID
    assert {line.state for line in site.studies()} == {State.DONE}


@pytest.mark.slow
def test_what_the_archive_lost_meanwhile_is_sent_again(site: Site) -> None:
    """A report that was still to be delivered when the ledger was lost gets there."""
    site.take(chest(1))
    sent = site.delivered()
    for path in (site.folder / "archive").rglob("*.dcm"):
        path.unlink()
    lose(site)

    rebuild(site)
    site.work()

    assert site.delivered() == sent


@pytest.mark.slow
def test_results_without_their_images_are_never_taken_for_others(site: Site) -> None:
    """Of a study whose file is gone nothing is put back; sent again, it gets other UIDs."""
    site.take(chest(1))
    sent = site.delivered()
    (file,) = site.settings.spool_dir.glob("??/*.dcm")
    file.unlink()
    lose(site)

    assert rebuild(site)["left"] == 1
    site.take(chest(1))

    after = site.delivered()
    assert {uid: after[uid] for uid in sent} == sent
    assert len(after) == 2 * len(sent)


def test_a_damaged_ledger_is_told_in_a_sentence_and_put_aside(site: Site) -> None:
    """It names the page; the rebuilt one works, and the damaged one is kept."""
    site.take(chest(1))
    sent = site.delivered()
    file = site.data / "ledger.sqlite"
    file.write_bytes(b"garbage " * 4096)

    done = CliRunner().invoke(app, ["studies", "--config", str(site.config)])
    assert isinstance(done.exception, LedgerDamagedError)
    assert "docs/operate/lost-ledger.md" in str(done.exception)

    aside = Path(str(rebuild(site)["aside"]))
    site.work()
    assert aside.read_bytes().startswith(b"garbage")
    assert site.delivered() == sent
    assert [line.state for line in site.studies()] == [State.DONE]


def test_a_ledger_with_studies_is_not_made_anew_by_mistake(site: Site) -> None:
    """Somebody has to say so."""
    site.take(chest(1))
    with pytest.raises(Permanent, match="say --replace"):
        rebuild(site)
    assert rebuild(site, "--replace")["results"] == 1
