"""What a later result takes back, where the note goes, and when."""

from dataclasses import replace

from dicom_node.domain import ObjectKind, PackCard
from dicom_node.ledger import Ledger, outbox, outcomes
from dicom_node.ledger.leases import JOBS
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.studies import happen
from dicom_node.lifecycle import Event
from tests.arrivals import ENCODER, PACK, T0, digest, later, received
from tests.ledgers import (
    PACS,
    complete,
    concluded_study,
    deliver,
    due,
    embed,
    job_input,
    jobs,
    leased,
    open_revision,
    record,
    settle_job,
    standing,
    stored,
)

HEAD = PackCard(name="head", version="1.0", device_uid="2.25.2002", encoder=ENCODER)
B = digest("patient B")
ARCHIVE = Address(destination=PACS.destination, objects=frozenset(ObjectKind))


def next_revision(ledger: Ledger, *, packs: list[PackCard] | None = None) -> None:
    """Embed what has come, and open the revision with it."""
    embed(ledger)
    complete(ledger)
    open_revision(ledger, packs=packs or [PACK])


def conclude_with_note(ledger: Ledger, *addresses: Address) -> str:
    """Conclude the last job with a note that takes everything former back."""
    row = jobs(ledger)[-1]
    former = job_input(ledger, row.id).former
    note = replace(
        stored(row.id, ObjectKind.REJECTION),
        rejects=tuple(one.artefact for one in former),
    )
    assert settle_job(ledger, leased(ledger, JOBS, row.id), notes=[note])
    key = standing(ledger).key
    with ledger.write() as tx:
        outbox.address(tx, key, addresses or [ARCHIVE], now=T0)
        happen(tx, key, Event.CONCLUDED, detail="", at=T0)
    return note.sop_instance_uid


def sent_to(ledger: Ledger, destination: str) -> list[str]:
    """Return the kinds that are due at a destination."""
    with ledger.read() as tx:
        return [d.kind for d in outbox.due(tx, destination, now=T0, limit=99)]


def test_what_was_sent_of_the_last_report_is_superseded(ledger: Ledger) -> None:
    """Report and capture; they are of the same patient."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(number=2, at=later(1)))
    next_revision(ledger)
    first, second = jobs(ledger)
    about = job_input(ledger, second.id)
    assert {(f.sop_instance_uid, f.superseded) for f in about.former} == {
        (stored(first.id, kind).sop_instance_uid, True)
        for kind in (ObjectKind.REPORT, ObjectKind.CAPTURE)
    }
    assert {f.patient for f in about.former} == {about.patient}


def test_a_report_on_another_patient_is_no_predecessor(ledger: Ledger) -> None:
    """It is there to be taken back, and not to be referred to."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(content="corrected", patient=B))
    next_revision(ledger)
    about = job_input(ledger, jobs(ledger)[-1].id)
    assert about.predecessors == ()
    assert [f.superseded for f in about.former] == [False, False]
    assert {f.patient for f in about.former} == {received().header.patient}


def test_what_nobody_got_need_not_be_taken_back(ledger: Ledger) -> None:
    """The outbox was emptied before anything was tried."""
    concluded_study(ledger, received())
    record(ledger, received(content="corrected", patient=B))
    next_revision(ledger)
    assert job_input(ledger, jobs(ledger)[-1].id).former == ()


def test_what_was_tried_may_be_there(ledger: Ledger) -> None:
    """The answer was lost: the destination may have it."""
    concluded_study(ledger, received())
    with ledger.write() as tx:
        for one in outbox.due(tx, PACS.destination, now=T0, limit=9):
            outcomes.postpone(tx, one.delivery, detail="no answer", until=T0)
    record(ledger, received(content="corrected", patient=B))
    next_revision(ledger)
    assert len(job_input(ledger, jobs(ledger)[-1].id).former) == 2


def test_a_note_follows_what_it_rejects_and_no_further(ledger: Ledger) -> None:
    """To the destinations that have it; another one never hears of it."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(number=2, at=later(1)))
    next_revision(ledger)
    other = Address(destination="OTHER", objects=frozenset(ObjectKind))
    conclude_with_note(ledger, ARCHIVE, other)
    assert sent_to(ledger, "PACS") == ["SR", "SC", "RN"]
    assert "RN" not in sent_to(ledger, "OTHER")


def test_a_note_waits_until_what_it_rejects_has_arrived(ledger: Ledger) -> None:
    """Else the archive would get the report after its rejection."""
    concluded_study(ledger, received())
    record(ledger, received(number=2, at=later(1)))
    next_revision(ledger)
    conclude_with_note(ledger)
    assert sent_to(ledger, "PACS") == ["SR", "SC", "SR", "SC"]
    with ledger.write() as tx:
        for one in due(ledger)[:2]:
            outcomes.delivered(tx, one.delivery, detail="stored", now=T0)
    assert sent_to(ledger, "PACS") == ["SR", "SC", "RN"]


def test_what_a_note_rejects_is_rejected_once(ledger: Ledger) -> None:
    """The next result has nothing to take back but the last one's objects."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(number=2, at=later(1)))
    next_revision(ledger)
    conclude_with_note(ledger)
    deliver(ledger)
    record(ledger, received(number=3, at=later(2)))
    next_revision(ledger)
    second, third = jobs(ledger)[1:]
    assert {f.sop_instance_uid for f in job_input(ledger, third.id).former} == {
        stored(second.id, kind).sop_instance_uid
        for kind in (ObjectKind.REPORT, ObjectKind.CAPTURE)
    }


def test_a_note_stays_right_when_the_patient_changes_again(ledger: Ledger) -> None:
    """What it takes back was wrong then: it is sent though its study has moved on."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(content="corrected", patient=B))
    next_revision(ledger)
    conclude_with_note(ledger)
    record(ledger, received(content="once more", patient=digest("patient C")))
    assert sent_to(ledger, "PACS") == ["RN"]


def test_reports_of_a_pack_that_is_gone_are_taken_back_by_another(
    ledger: Ledger,
) -> None:
    """By one of them: the first that is concluded."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(content="corrected", patient=B))
    next_revision(ledger, packs=[HEAD, replace(HEAD, name="knee", device_uid="2.25.3")])
    head, knee = jobs(ledger)[1:]
    assert len(job_input(ledger, head.id).former) == 2
    assert job_input(ledger, knee.id).former == ()


def test_what_a_note_rejects_is_not_sent_once_more(ledger: Ledger) -> None:
    """Neither when an operator asks, nor when its destination has lost it."""
    concluded_study(ledger, received())
    with ledger.write() as tx:
        for one in due(ledger):
            outcomes.sent(tx, one.delivery, detail="stored", now=T0)
    record(ledger, received(number=2, at=later(1)))
    next_revision(ledger)
    conclude_with_note(ledger)
    with ledger.write() as tx:
        former = outbox.unverified(tx, PACS.destination, now=T0, limit=9)
        outcomes.lost(tx, former[0].delivery, detail="not there", now=T0, until=T0)
        outbox.resend(tx, standing(ledger).key, now=T0, delivered_too=True)
    assert sorted(sent_to(ledger, "PACS")) == ["RN", "SC", "SR"]
