"""Revisions, results and the outbox: what is concluded, kept, and sent."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from dicom_node.domain import (
    Completion,
    EmbeddedFrame,
    Flag,
    ObjectKind,
    PackCard,
    Priority,
    Score,
    Urgency,
)
from dicom_node.ledger import (
    Ledger,
    arrivals,
    motion,
    outbox,
    outcomes,
    results,
    revisions,
    work,
)
from dicom_node.ledger.events import note
from dicom_node.ledger.leases import BATCHES, JOBS
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.overview import StudyLine, journal, studies
from dicom_node.ledger.revisions import ROUTINE_RANK
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import job
from dicom_node.lifecycle import Event, State
from tests import builders
from tests.arrivals import (
    ENCODER,
    JPEG_LS,
    OTHER_ENCODER,
    PACK,
    T0,
    digest,
    instance_uid,
    later,
    not_an_image,
    received,
    series,
    study_uid,
)
from tests.ledgers import (
    PACS,
    VECTOR,
    batch,
    complete,
    conclude,
    concluded_study,
    deliver,
    due,
    embed,
    job_input,
    jobs,
    leased,
    open_revision,
    pending,
    record,
    settle_job,
    standing,
    stored,
)

OTHER_PACK = PackCard(
    name="head", version="2.0", device_uid="2.25.2002", encoder=OTHER_ENCODER
)
NEXT_PACK = PackCard(
    name=PACK.name, version="1.1", device_uid="2.25.1002", encoder=ENCODER
)


def lines(ledger: Ledger, *, limit: int = 1000) -> list[StudyLine]:
    """Return what an operator sees."""
    with ledger.read() as tx:
        return studies(tx, limit=limit)


def again(ledger: Ledger) -> int:
    """Embed what waits, and return the revision that is opened then."""
    embed(ledger)
    complete(ledger)
    return open_revision(ledger)


# ── revisions ───────────────────────────────────────────────────────────────


def test_a_revision_has_a_job_for_each_pack(ledger: Ledger) -> None:
    """They are as urgent as the study."""
    record(ledger, received(priority=Priority.STAT))
    embed(ledger)
    complete(ledger)
    assert open_revision(ledger, packs=[PACK, OTHER_PACK]) == 1
    assert [(j.pack, j.device_uid, j.priority, j.outcome) for j in jobs(ledger)] == [
        ("chest", "2.25.1001", Priority.STAT, 0),
        ("head", "2.25.2002", Priority.STAT, 0),
    ]


def test_a_job_is_about_the_images_of_its_revision(ledger: Ledger) -> None:
    """In the order of series and instance, and nothing that is no image."""
    record(ledger, *reversed(series(1, 3)), not_an_image())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    about = job_input(ledger, jobs(ledger)[0].id)
    assert [f.sop_instance_uid for f in about.files] == [
        instance_uid(1, n) for n in (1, 2, 3)
    ]
    assert (about.study_uid, about.revision, about.outcome) == (study_uid(), 1, 0)
    assert about.patient == received().header.patient
    assert about.attributes == received().header.attributes
    assert len(about.embeddings) == 3


def test_where_a_frame_lies_is_kept_beside_its_vector(ledger: Ledger) -> None:
    """As the worker wrote it; empty where an older worker wrote nothing."""
    record(ledger, *series(1, 2))
    key = batch(ledger, pending(ledger))
    with ledger.read() as tx:
        placed, other = work.batch_tasks(tx, key)
    geometry = '{"position":[0.0,0.0,5.0]}'
    frames = [
        EmbeddedFrame(
            embedding=placed.embedding,
            vector=VECTOR,
            pixels=digest("picture"),
            geometry=geometry,
        ),
        EmbeddedFrame(embedding=other.embedding, vector=VECTOR, pixels=digest("other")),
    ]
    lease = leased(ledger, BATCHES, key)
    with ledger.write() as tx:
        work.settle_batch(tx, lease, frames, now=T0)
    complete(ledger)
    open_revision(ledger)
    job = job_input(ledger, jobs(ledger)[0].id)
    assert [e.geometry for e in job.embeddings] == [geometry, ""]


def test_images_without_a_number_come_last(ledger: Ledger) -> None:
    """The same order on every database."""
    record(ledger, received(number=1, instance_number=None), received(number=2))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    files = job_input(ledger, jobs(ledger)[0].id).files
    assert [f.instance_number for f in files] == [2, None]


def test_a_result_without_objects_leaves_a_line(ledger: Ledger) -> None:
    """The journal says why there is no report, and the study comes to its end."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    (row,) = jobs(ledger)
    nothing = builders.result(findings=[], reason="needs CT of HEAD; found US")
    lease = leased(ledger, JOBS, row.id)
    with ledger.write() as tx:
        assert results.settle_job(tx, lease, nothing, [], now=T0)
    with ledger.read() as tx:
        (line, *_) = journal(tx, study_uid(), limit=9)
    assert line.kind == "not reported"
    assert line.detail == f"{nothing.algorithm.name}: needs CT of HEAD; found US"


def test_a_late_image_makes_a_new_revision(ledger: Ledger) -> None:
    """Its report supersedes the one before, and only that one."""
    concluded_study(ledger, received())
    deliver(ledger)
    for number in (2, 3):
        record(ledger, received(number=number, at=later(number)))
        assert again(ledger) == number
        about = job_input(ledger, jobs(ledger)[-1].id)
        former = stored(jobs(ledger)[-2].id, ObjectKind.REPORT)
        assert [p.sop_instance_uid for p in about.predecessors] == [
            former.sop_instance_uid
        ]
        conclude(ledger)
        deliver(ledger, now=later(number))


def test_another_transfer_syntax_alone_makes_no_new_revision(ledger: Ledger) -> None:
    """Other bytes, the same pixels: the study goes back to where it was."""
    record(ledger, received(), received(number=2))
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    open_revision(ledger)
    conclude(ledger)
    deliver(ledger)
    compressed = received(content="compressed", transfer_syntax_uid=JPEG_LS)
    record(ledger, compressed)
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    assert open_revision(ledger) == 1
    assert [j.state for j in jobs(ledger)] == ["done"]
    with ledger.read() as tx:
        key = standing(ledger).key
        assert motion.concluded(tx, key=key) == [key]


def test_other_pixels_make_a_new_revision(ledger: Ledger) -> None:
    """Whatever else is the same."""
    concluded_study(ledger, received())
    record(ledger, received(content="second"))
    assert again(ledger) == 2


@pytest.mark.parametrize("what", ["patient", "attributes"])
def test_corrected_demographics_make_a_new_revision(ledger: Ledger, what: str) -> None:
    """The pixels are the same, the report copies other words."""
    record(ledger, received())
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    open_revision(ledger)
    changed: dict[str, Any] = {what: digest("other")}
    record(ledger, received(content="corrected", **changed))
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    assert open_revision(ledger) == 2


def test_images_that_cannot_be_read_are_told_apart_by_their_bytes(
    ledger: Ledger,
) -> None:
    """Two unreadable versions are not the same picture."""
    record(ledger, received())
    embed(ledger, picture=lambda _path: "")
    complete(ledger)
    open_revision(ledger)
    record(ledger, received(content="second"))
    embed(ledger, picture=lambda _path: "")
    complete(ledger)
    assert open_revision(ledger) == 2


def test_jobs_of_an_older_revision_are_dropped(ledger: Ledger) -> None:
    """Nobody begins what is outdated; the worker who has begun writes nothing."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger, packs=[PACK, OTHER_PACK])
    first, _second = jobs(ledger)
    lease = leased(ledger, JOBS, first.id)
    record(ledger, received(number=2))
    assert again(ledger) == 2
    assert [j.state for j in jobs(ledger)] == ["dropped", "dropped", "ready"]
    assert not settle_job(ledger, lease)


def test_the_same_images_once_more_have_another_outcome(ledger: Ledger) -> None:
    """An image came and went: the third report is not taken for the first."""
    concluded_study(ledger, received(1, 1))
    deliver(ledger)
    record(ledger, received(1, 2))
    assert again(ledger) == 2
    conclude(ledger)
    deliver(ledger)
    record(ledger, received(2, 1, sop_instance_uid=instance_uid(1, 2)))
    assert again(ledger) == 3
    assert [(j.number, j.outcome) for j in jobs(ledger)] == [(1, 0), (2, 0), (3, 1)]
    about = job_input(ledger, jobs(ledger)[-1].id)
    second = stored(jobs(ledger)[1].id, ObjectKind.REPORT)
    assert [p.sop_instance_uid for p in about.predecessors] == [second.sop_instance_uid]


def test_a_new_version_of_a_pack_supersedes_the_old_ones_report(
    ledger: Ledger,
) -> None:
    """There is one current report of a pack."""
    record(ledger, received())
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    open_revision(ledger)
    conclude(ledger)
    deliver(ledger)
    record(ledger, received(content="compressed"))
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    assert open_revision(ledger, packs=[NEXT_PACK]) == 2
    about = job_input(ledger, jobs(ledger)[-1].id)
    former = stored(jobs(ledger)[0].id, ObjectKind.REPORT)
    assert about.device_uid == NEXT_PACK.device_uid
    assert [p.sop_instance_uid for p in about.predecessors] == [former.sop_instance_uid]


def test_a_study_that_agrees_again_takes_up_what_was_dropped(ledger: Ledger) -> None:
    """The same images, the same revision, the same job, free at once."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    (row,) = jobs(ledger)
    leased(ledger, JOBS, row.id)
    record(ledger, received(number=2, patient=digest("B")))
    with ledger.write() as tx:
        arrivals.keep_patient_of(tx, study_uid(), instance_uid(), at=later(1))
    complete(ledger)
    assert open_revision(ledger) == 1
    with ledger.read() as tx:
        assert results.job_device(tx, row.id) == PACK.device_uid
    assert leased(ledger, JOBS, row.id).token == 2


# ── results ─────────────────────────────────────────────────────────────────

RICH = builders.result(
    findings=[
        builders.finding(0.1 + 0.2),
        builders.finding(
            Score(value=1 / 3, calibration_set="site", interval=(0.1, 0.7)),
            key="effusion",
            concept=builders.EFFUSION,
            laterality=builders.LEFT,
            urgency=Urgency.URGENT,
        ),
        builders.finding(None, key="nodule", concept=builders.NODULE),
    ],
    images=builders.ct_images(3),
    unreadable=(builders.unreadable(2),),
    completion=Completion.PARTIAL,
    cases=builders.atlas_search(),
    predecessors=(builders.predecessor(),),
    utc_offset_min=-210,
    outcome=2,
    concluded_at=datetime(2026, 1, 15, 9, 30, 5, 123456, tzinfo=UTC),
)


def test_a_result_comes_back_as_it_went_in(ledger: Ledger) -> None:
    """Every number, code and time of it."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    (row,) = jobs(ledger)
    with ledger.read() as tx:
        assert results.stored_result(tx, row.id) is None
    settle_job(ledger, leased(ledger, JOBS, row.id), RICH)
    with ledger.read() as tx:
        assert results.stored_result(tx, row.id) == RICH


def test_a_result_from_before_predecessors_had_a_patient_can_be_read(
    ledger: Ledger,
) -> None:
    """Of whom its predecessor was is then unknown, which is nobody."""
    concluded_study(ledger, received(), result=RICH)
    (row,) = jobs(ledger)
    with ledger.write() as tx:
        stored_then = json.loads(row.result)
        for former in stored_then["predecessors"]:
            del former["patient"]
        former_text = json.dumps(stored_then)
        mine = job.c.id == row.id
        tx.execute(update(job).where(mine).values(result=former_text))
    with ledger.read() as tx:
        read = results.stored_result(tx, row.id)
    assert read is not None
    assert [p.patient for p in read.predecessors] == [""]


def test_a_result_that_says_not_evaluated_says_why(ledger: Ledger) -> None:
    """It is a result like any other, and has a report."""
    nothing = builders.result(findings=[], reason="modality MR is not validated")
    concluded_study(ledger, received(), result=nothing)
    (line,) = lines(ledger)
    assert (line.flag, line.finding, line.score) == (Flag.NOT_EVALUATED, "", None)
    assert len(due(ledger)) == 2


def test_a_result_without_findings_is_shown_by_what_it_chose(ledger: Ledger) -> None:
    """A label or a value has no threshold: there is no flag, and no "not evaluated"."""
    said = builders.result(
        findings=[], categories=(builders.category(),), estimates=(builders.estimate(),)
    )
    concluded_study(ledger, received(), result=said)
    (line,) = lines(ledger)
    assert (line.flag, line.score, line.urgency) == (
        None,
        None,
        ROUTINE_RANK,
    )
    assert line.finding == "postero-anterior, Bone age 131.2 mo"
    with ledger.read() as tx:
        assert results.stored_result(tx, jobs(ledger)[0].id) == said


def test_a_category_has_no_say_in_the_flag(ledger: Ledger) -> None:
    """Beside a finding, the finding is what the list shows."""
    both = builders.result(categories=(builders.category(),))
    concluded_study(ledger, received(), result=both)
    (line,) = lines(ledger)
    assert (line.flag, line.finding) == (Flag.ABOVE, "Pneumothorax")


# ── the outbox ──────────────────────────────────────────────────────────────


def test_each_destination_gets_the_kinds_that_it_wants(ledger: Ledger) -> None:
    """Once, however often the objects are addressed."""
    reports = Address(destination="RIS", objects=frozenset({ObjectKind.REPORT}))
    concluded_study(ledger, received())
    key = standing(ledger).key
    for _ in range(2):
        with ledger.write() as tx:
            outbox.address(tx, key, [PACS, reports], now=T0)
    with ledger.read() as tx:
        sent = [outbox.due(tx, d, now=T0, limit=9) for d in ("PACS", "RIS", "NONE")]
    assert [[d.kind.value for d in of] for of in sent] == [["SR", "SC"], ["SR"], []]


def test_urgent_studies_are_sent_first(ledger: Ledger) -> None:
    """Then in the order in which they were concluded, as many as are asked for."""
    for number, priority in ((1, Priority.ROUTINE), (2, Priority.STAT)):
        record(ledger, received(number, priority=priority))
        embed(ledger)
        complete(ledger, number)
        open_revision(ledger, number)
        conclude(ledger, number)
    order = [d.study_uid for d in due(ledger)]
    assert order == [study_uid(2)] * 2 + [study_uid(1)] * 2
    with ledger.read() as tx:
        assert len(outbox.due(tx, "PACS", now=T0, limit=3)) == 3


def test_two_nodes_do_not_send_the_same(ledger: Ledger) -> None:
    """Both see what is due, one gets it; the other only if that one keeps it long."""
    concluded_study(ledger, received())
    seen = due(ledger)
    soon = T0 + timedelta(seconds=15)
    with ledger.write() as tx:
        assert outbox.hold(tx, seen, now=T0, until=soon) == seen
    with ledger.write() as tx:
        assert outbox.hold(tx, seen, now=T0, until=soon) == []
    assert (due(ledger), due(ledger, now=soon)) == ([], seen)


def test_a_delivery_that_failed_waits_for_its_time(ledger: Ledger) -> None:
    """Attempts are counted; when all have arrived nothing is left to try."""
    concluded_study(ledger, received())
    first, second = due(ledger)
    key = standing(ledger).key
    with ledger.write() as tx:
        outcomes.postpone(tx, first.delivery, detail="no connection", until=later(60))
        outcomes.delivered(tx, second.delivery, detail="stored", now=T0)
    assert due(ledger, now=later(59)) == []
    (retried,) = due(ledger, now=later(60))
    assert (retried.delivery, retried.attempts) == (first.delivery, 1)
    with ledger.read() as tx:
        assert motion.delivered(tx) == []
    with ledger.write() as tx:
        outcomes.delivered(tx, first.delivery, detail="stored", now=later(61))
        assert motion.delivered(tx, key=key) == [key]
        assert outbox.refusal(tx, key) == ""


def test_what_is_refused_for_good_is_noted_and_can_be_sent_again(
    ledger: Ledger,
) -> None:
    """The journal says who refused what; an operator's retry begins anew."""
    concluded_study(ledger, received())
    first, second = due(ledger)
    key = standing(ledger).key
    with ledger.write() as tx:
        outcomes.delivered(tx, second.delivery, detail="stored", now=T0)
        outcomes.give_up(tx, first.delivery, detail="0xA900 refused", now=T0)
    assert due(ledger, now=later(9999)) == []
    with ledger.read() as tx:
        (line, *_) = journal(tx, study_uid(), limit=9)
        assert (line.kind, line.detail) == ("undeliverable", "PACS: 0xA900 refused")
        assert line.sop_instance_uid == first.sop_instance_uid
        assert outbox.refusal(tx, key) == "PACS: 0xA900 refused"
    with ledger.write() as tx:
        assert outbox.resend(tx, key, now=later(1)) == 1
    (retried,) = due(ledger, now=later(1))
    assert (retried.delivery, retried.attempts) == (first.delivery, 0)


def test_a_refusal_of_a_former_revision_is_no_refusal_of_this_one(
    ledger: Ledger,
) -> None:
    """A study is delivered when its current revision is."""
    concluded_study(ledger, received())
    with ledger.write() as tx:
        for one in outbox.due(tx, "PACS", now=T0, limit=9):
            outcomes.give_up(tx, one.delivery, detail="refused", now=T0)
    record(ledger, received(number=2))
    again(ledger)
    conclude(ledger)
    with ledger.read() as tx:
        assert outbox.refusal(tx, standing(ledger).key) == ""


def test_a_study_that_is_held_is_not_sent(ledger: Ledger) -> None:
    """What was being sent meanwhile and failed is not tried again either."""
    concluded_study(ledger, received())
    first, second = due(ledger)
    record(ledger, received(number=2, patient=digest("B")))
    with ledger.write() as tx:
        outcomes.postpone(tx, first.delivery, detail="no connection", until=T0)
        outcomes.give_up(tx, second.delivery, detail="refused", now=T0)
    corrected = received(content="corrected", patient=digest("B"), at=later(1))
    record(ledger, corrected)
    assert standing(ledger).state is State.RECEIVING
    assert due(ledger, now=later(99)) == []
    with ledger.write() as tx:
        assert outbox.resend(tx, standing(ledger).key, now=later(2)) == 0


# ── what an operator sees ───────────────────────────────────────────────────


def test_studies_are_shown_in_triage_order(ledger: Ledger) -> None:
    """Flagged and critical first, then flagged, then by priority, then the newest."""
    found = {
        1: builders.finding(0.2),
        2: builders.finding(0.9, urgency=Urgency.URGENT),
        3: builders.finding(0.9, urgency=Urgency.CRITICAL),
    }
    for number, finding in found.items():
        record(ledger, received(number, at=later(number)))
        embed(ledger)
        complete(ledger, number)
        open_revision(ledger, number)
        conclude(ledger, number, result=builders.result(findings=[finding]))
    record(ledger, received(4, at=later(4)))
    record(ledger, received(5, at=later(5)))
    record(ledger, received(6, at=later(0), priority=Priority.STAT))
    order = [line.study_uid for line in lines(ledger)]
    assert order == [study_uid(n) for n in (3, 2, 6, 5, 4, 1)]
    assert [line.study_uid for line in lines(ledger, limit=2)] == order[:2]


def test_a_line_tells_what_was_found_and_how_long_it_took(ledger: Ledger) -> None:
    """Seconds from the last image of the revision to the last delivery."""
    record(ledger, *series(1, 2), not_an_image(at=later(30)))
    record(ledger, received(number=3, at=later(10)))
    embed(ledger)
    complete(ledger)
    open_revision(ledger, now=later(20))
    conclude(ledger, now=later(21))
    (line,) = lines(ledger)
    assert line.seconds is None
    first, second = due(ledger, now=later(21))
    with ledger.write() as tx:
        outcomes.delivered(tx, first.delivery, detail="", now=later(22.5))
        outcomes.delivered(tx, second.delivery, detail="", now=later(23.25))
        happen(tx, standing(ledger).key, Event.DELIVERED, detail="", at=later(24))
    (line,) = lines(ledger)
    assert line == StudyLine(
        study_uid=study_uid(),
        state=State.DONE,
        detail="",
        priority=Priority.ROUTINE,
        modalities=("DX", "SR"),
        instances=4,
        revision=1,
        received_at=later(10),
        pack="chest",
        flag=Flag.ABOVE,
        finding="Pneumothorax",
        score=0.913,
        threshold=0.5,
        urgency=0,
        seconds=13.25,
    )


def test_a_study_without_result_has_a_line_too(ledger: Ledger) -> None:
    """It ranks with what is not urgent."""
    record(ledger, received())
    (line,) = lines(ledger)
    assert (line.flag, line.pack, line.urgency, line.seconds) == (
        None,
        "",
        revisions.ROUTINE_RANK,
        None,
    )


def test_a_study_is_found_by_its_uid_or_the_end_of_it(ledger: Ledger) -> None:
    """As long as it is the only one."""
    record(ledger, received(11), received(12), received(112))
    with ledger.read() as tx:
        assert motion.find(tx, study_uid(12)).study_uid == study_uid(12)
        assert motion.find(tx, "….11").study_uid == study_uid(11)
        with pytest.raises(motion.UnknownStudyError, match="several"):
            motion.find(tx, "12")
        with pytest.raises(motion.UnknownStudyError, match="no study"):
            motion.find(tx, "%")


def test_the_journal_keeps_what_belongs_to_no_study(ledger: Ledger) -> None:
    """The newest line first, and each journal its own."""
    record(ledger, not_an_image())
    with ledger.write() as tx:
        for number in range(3):
            note(tx, T0, "refused", f"0xC000 unparsable {number}")
    with ledger.read() as tx:
        lines_of = [line.detail for line in journal(tx, None, limit=2)]
    assert lines_of == ["0xC000 unparsable 2", "0xC000 unparsable 1"]
