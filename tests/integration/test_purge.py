"""Purging, with a real ledger and real files: what goes, what stays, what a crash leaves."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from dicom_node.domain import ALWAYS_COMPOSED, Received
from dicom_node.ledger import Ledger, motion, outbox, outcomes, purging
from dicom_node.ledger.arrivals import Known, known
from dicom_node.ledger.overview import journal
from dicom_node.ledger.purging import Shelf
from dicom_node.ledger.studies import happen
from dicom_node.lifecycle import Event
from dicom_node.objects import ObjectStore
from dicom_node.purge import Purger, Ruling, Shelved
from dicom_node.spool import Spool
from tests.arrivals import T0, later, not_an_image, received, study_uid
from tests.ledgers import (
    Clock,
    complete,
    concluded_study,
    due,
    embed,
    jobs,
    pending,
    record,
    standing,
    state,
    stored,
)

KEEP_S = 3600.0
AGED_S = 2 * KEEP_S


@dataclass
class Site:
    """A ledger, the two folders, a clock, and what purges them."""

    ledger: Ledger
    spool: Path
    outbox: Path
    clock: Clock

    def purger(self, *, unasked: Sequence[str] = ()) -> Purger:
        """Return what removes an hour after all was done."""
        shelves = {
            Shelf.SPOOL: Shelved(files=Spool(self.spool), keep_s=KEEP_S),
            Shelf.OUTBOX: Shelved(files=ObjectStore(self.outbox), keep_s=KEEP_S),
        }
        return Purger(self.ledger, shelves, unasked=unasked, clock=self.clock)

    def purge(self) -> list[Ruling]:
        """Purge once."""
        return list(self.purger().purge())

    def why(self) -> dict[str, str]:
        """Return what is said of each shelf."""
        return {r.shelf.value: r.why_kept for r in self.purger().rulings()}

    def put(self, path: Path, *, at: datetime = T0) -> Path:
        """Write a file as if it had been written then."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"DICM")
        os.utime(path, (at.timestamp(), at.timestamp()))
        return path

    def arrive(self, one: Received, *, at: datetime = T0) -> Path:
        """Let an instance come in, file first, then the ledger."""
        path = self.put(self.spool / one.path, at=at)
        record(self.ledger, one)
        return path

    def deliver(self, *, verified: str = "query") -> None:
        """Deliver what is due; the study is done."""
        with self.ledger.write() as tx:
            for one in due(self.ledger):
                outcomes.delivered(
                    tx, one.delivery, detail="", now=T0, verified=verified
                )
            key = standing(self.ledger).key
            happen(tx, key, Event.DELIVERED, detail="", at=T0)

    def done(self, *, verified: str = "query") -> list[Path]:
        """Take a study to its end, and return the files of it, old enough to go."""
        image = self.put(self.spool / received().path)
        concluded_study(self.ledger, received())
        job = jobs(self.ledger)[0].id
        results = [
            self.put(self.outbox / stored(job, kind).path) for kind in ALWAYS_COMPOSED
        ]
        self.deliver(verified=verified)
        self.clock.pass_s(AGED_S)
        return [image, *results]

    def known(self) -> Known:
        """Return what the ledger says of the study's image."""
        with self.ledger.read() as tx:
            return known(tx, [received().path])[received().path]

    def journal(self) -> dict[str, str]:
        """Return the last line of each kind."""
        with self.ledger.read() as tx:
            lines = journal(tx, study_uid(), limit=100)
        return {line.kind: line.detail for line in reversed(lines)}


@pytest.fixture
def site(ledger: Ledger, tmp_path: Path) -> Site:
    """Return an empty site."""
    return Site(ledger, tmp_path / "spool", tmp_path / "outbox", Clock())


def test_what_is_delivered_and_verified_goes_after_its_time(site: Site) -> None:
    """Received files and results; the ledger knows, the journal says so, once."""
    files = site.done()
    assert [r.files for r in site.purge()] == [1, 2]
    assert [path.exists() for path in files] == [False] * 3
    assert site.known() is Known.PURGED
    said = site.journal()["purged"]
    assert said == "outbox: 2 files, 40000 bytes, delivered and verified"
    assert site.purge() == []


def test_what_is_not_old_enough_stays(site: Site) -> None:
    """Counted from the last thing that happened to the study."""
    files = site.done()
    site.clock.pass_s(-AGED_S + KEEP_S / 2)
    assert site.purge() == []
    assert all(path.exists() for path in files)
    assert set(site.why().values()) == {"it is not old enough"}


def test_what_nobody_saw_arrive_stays(site: Site) -> None:
    """Unless the site said that this destination is not to be asked."""
    files = site.done(verified="")
    assert site.purge() == []
    why = "an object was never verified at PACS"
    assert site.why() == {"spool": why, "outbox": why}
    assert len(list(site.purger(unasked=["PACS"]).purge())) == 2
    assert not any(path.exists() for path in files)


def test_what_is_still_to_be_sent_stays(site: Site) -> None:
    """An operator who sends it again keeps it until it was verified again."""
    site.done()
    with site.ledger.write() as tx:
        key = standing(site.ledger).key
        assert outbox.resend(tx, key, now=site.clock(), delivered_too=True) == 2
    assert site.purge() == []
    assert site.why()["outbox"] == "an object is waiting at PACS"


def test_what_was_purged_is_not_sent_again(site: Site) -> None:
    """There is nothing left to send."""
    site.done()
    site.purge()
    with site.ledger.write() as tx:
        key = standing(site.ledger).key
        assert outbox.resend(tx, key, now=site.clock(), delivered_too=True) == 0
    assert due(site.ledger, now=later(AGED_S)) == []


def test_a_study_that_waits_for_another_revision_stays(site: Site) -> None:
    """A late image needs the former ones for its report."""
    files = site.done()
    record(site.ledger, received(number=2, at=later(60)))
    site.clock.pass_s(AGED_S)
    assert site.purge() == []
    assert site.why()["spool"] == "the study is receiving"
    assert all(path.exists() for path in files)


def test_a_study_without_an_image_goes(site: Site) -> None:
    """Nothing was to be delivered of it."""
    path = site.arrive(not_an_image())
    with site.ledger.write() as tx:
        happen(tx, standing(site.ledger).key, Event.NOTHING, detail="", at=T0)
    site.clock.pass_s(AGED_S)
    assert [r.files for r in site.purge()] == [1]
    assert not path.exists()


def test_what_comes_again_is_there_again(site: Site) -> None:
    """The same bytes change nothing else: nothing is embedded or concluded again."""
    (image, *_) = site.done()
    site.purge()
    site.arrive(received(at=site.clock()), at=site.clock())
    assert site.known() is Known.KEPT
    assert state(site.ledger) == "done"
    assert pending(site.ledger) == []
    assert site.purge() == []
    assert site.why() == {"spool": "it was sent again lately"}
    site.clock.pass_s(AGED_S)
    assert [r.files for r in site.purge()] == [1]
    assert not image.exists()


def test_a_late_image_waits_until_the_purged_ones_come_again(site: Site) -> None:
    """A report needs the headers of all of them; the state says what is missing."""
    site.done()
    site.purge()
    site.arrive(received(number=2, at=site.clock()), at=site.clock())
    complete(site.ledger, now=site.clock())
    assert embed(site.ledger) == 1
    key = standing(site.ledger).key
    with site.ledger.read() as tx:
        assert motion.embedded(tx, now=site.clock()) == []
        assert motion.missing_images(tx, key) == (
            "the files of 1 of its images were purged: have it sent again"
        )
    site.arrive(received(at=site.clock()), at=site.clock())
    with site.ledger.read() as tx:
        assert motion.embedded(tx, now=site.clock()) == [key]


def test_what_a_crash_left_in_the_spool_is_kept_on(site: Site) -> None:
    """Between the row and the file: the next start finds it, the next round purges it."""
    (image, *_) = site.done()
    with site.ledger.write() as tx:
        key = standing(site.ledger).key
        kept = purging.files(tx, Shelf.SPOOL, key)
        purging.purged(tx, Shelf.SPOOL, key, kept, now=site.clock())
    with site.ledger.write() as tx:
        assert purging.found_again(tx, received().path)
    assert site.known() is Known.KEPT
    assert len(site.purge()) == 2
    assert not image.exists()


def test_what_a_crash_left_in_the_outbox_goes_at_the_next_start(site: Site) -> None:
    """No result comes a second time."""
    (_, *results) = site.done()
    with site.ledger.write() as tx:
        key = standing(site.ledger).key
        kept = purging.files(tx, Shelf.OUTBOX, key)
        purging.purged(tx, Shelf.OUTBOX, key, kept, now=site.clock())
    site.purger().tidy()
    assert not any(path.exists() for path in results)


def test_a_file_that_comes_again_during_the_purge_is_not_removed(
    tmp_path: Path,
) -> None:
    """Whoever renamed it into its place was told that it is safe."""
    spool = Spool(tmp_path)
    path = tmp_path / "ab" / "abc.dcm"
    path.parent.mkdir()
    path.write_bytes(b"again")
    assert not spool.remove("ab/abc.dcm", before=later(0))
    assert path.exists()


def test_a_file_that_nobody_purged_and_is_gone_raises_an_alarm(site: Site) -> None:
    """In the journal, and in the log."""
    (image, *_) = site.done()
    image.unlink()
    site.purge()
    assert site.journal()["missing"] == "spool: 1 files that nobody purged"


def test_two_nodes_purge_the_same_studies(site: Site) -> None:
    """Whoever comes second finds nothing left to do."""
    site.done()
    one, other = site.purger().purge(), site.purger().purge()
    assert next(one).files == 1
    assert [r.shelf for r in other] == [Shelf.OUTBOX]
    assert list(one) == []
