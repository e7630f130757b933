"""What the ledger makes of instances that come in, come again, or contradict."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.domain import ObjectKind, PackCard, Priority, SopInstanceUid, StudyUid
from dicom_node.ledger import Ledger, arrivals, motion, revisions, work
from dicom_node.ledger.arrivals import Known, UnknownInstanceError
from dicom_node.ledger.frames import use_packs
from dicom_node.ledger.leases import JOBS
from dicom_node.ledger.overview import journal, studies
from dicom_node.ledger.tables import embedding, study, version
from dicom_node.lifecycle import ImpossibleError
from tests.arrivals import (
    ENCODER,
    JPEG_LS,
    OTHER_ENCODER,
    PACK,
    digest,
    instance_uid,
    later,
    not_an_image,
    own_object,
    received,
    series,
    study_uid,
)
from tests.ledgers import (
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
    state,
    stored,
)

A: dict[str, Any] = {"patient": digest("A")}
B: dict[str, Any] = {"patient": digest("B")}
OTHER_PACK = PackCard(
    name="head", version="1.0", device_uid="2.25.2002", encoder=OTHER_ENCODER
)


def current(ledger: Ledger, number: int = 1) -> list[tuple[str, str]]:
    """Return UID and digest of the instances of a study that count."""
    query = (
        select(version.c.sop_instance_uid, version.c.sha256)
        .join(study, study.c.id == version.c.study_id)
        .where(study.c.study_uid == study_uid(number), version.c.current)
        .order_by(version.c.sop_instance_uid)
    )
    with ledger.read() as tx:
        return [(row[0], row[1]) for row in tx.execute(query)]


def kinds(ledger: Ledger, number: int | None = 1) -> list[str]:
    """Return the kinds of line that the journal has of a study, the oldest first."""
    uid = None if number is None else study_uid(number)
    with ledger.read() as tx:
        return [line.kind for line in reversed(journal(tx, uid, limit=1000))]


def frames_of(ledger: Ledger, encoder: str) -> int:
    """Return how many embeddings by an encoder there are or are to be."""
    query = select(embedding.c.id).where(embedding.c.encoder == encoder)
    with ledger.read() as tx:
        return len(tx.execute(query).all())


# ── what is new ─────────────────────────────────────────────────────────────


def test_a_first_instance_makes_a_study_that_is_received(ledger: Ledger) -> None:
    """Its frames wait to be embedded at once, while the study still arrives."""
    record(ledger, received(frames=3))
    assert state(ledger) == "receiving"
    assert len(pending(ledger)) == 3


def test_a_group_of_instances_of_several_studies_is_one_commit(ledger: Ledger) -> None:
    """However they are interleaved, each instance lands in its own study."""
    mixed = [received(study=n % 3 + 1, number=n) for n in range(1, 31)]
    record(ledger, *mixed)
    with ledger.read() as tx:
        lines = studies(tx)
    assert {line.study_uid: line.instances for line in lines} == {
        study_uid(1): 10,
        study_uid(2): 10,
        study_uid(3): 10,
    }


def test_a_spooled_file_is_known_once_it_is_recorded(ledger: Ledger) -> None:
    """So the recovery scan tells what it has to take in again."""
    one = received()
    with ledger.read() as tx:
        assert arrivals.known(tx, [one.path]) == {}
    record(ledger, one)
    with ledger.read() as tx:
        assert arrivals.known(tx, [one.path]) == {one.path: Known.KEPT}


def test_a_non_image_is_recorded_with_the_reason(ledger: Ledger) -> None:
    """Nothing of it waits to be embedded."""
    record(ledger, not_an_image())
    assert pending(ledger) == []
    with ledger.read() as tx:
        (line,) = journal(tx, study_uid(), limit=10)
    assert (line.kind, line.detail) == ("not analysed", "a structured report")


def test_own_objects_do_not_move_a_study(ledger: Ledger) -> None:
    """A PACS that sends our report back neither wakes the study nor holds it."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, own_object(at=later(60), patient=digest("somebody else")))
    assert state(ledger) == "done"
    assert pending(ledger) == []


def test_a_non_image_does_not_wake_a_study_that_is_done(ledger: Ledger) -> None:
    """A presentation state saved at the workstation changes no result."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, not_an_image(at=later(60)))
    assert state(ledger) == "done"


def test_whatever_a_header_says_the_ledger_can_hold_it(ledger: Ledger) -> None:
    """Values longer or larger than the Standard allows disturb nothing."""
    odd = received(
        body_part="A BODY PART WITH FAR TOO LONG A NAME" * 9,
        modality="DX\0",
        view="\ud800",
        transfer_syntax_uid="1." * 90,
        instance_number=1 << 70,
    )
    record(ledger, odd, received(number=2))
    with ledger.read() as tx:
        (line,) = studies(tx)
    assert (line.instances, line.modalities) == (2, ("DX",))


def test_no_more_frames_are_expected_than_there_are_bytes(ledger: Ledger) -> None:
    """A damaged NumberOfFrames does not fill the ledger."""
    record(ledger, replace(received(frames=2_000_000_000), size=500))
    assert len(pending(ledger)) == 500


# ── what comes again ────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [True, False])
def test_the_same_bytes_twice_change_nothing(ledger: Ledger, together: bool) -> None:  # noqa: FBT001
    """Neither in one commit nor in two; a study that is done stays done."""
    one = received()
    record(ledger, *([one, one] if together else [one]))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    conclude(ledger)
    deliver(ledger)
    record(ledger, one)
    assert state(ledger) == "done"
    assert current(ledger) == [(instance_uid(), one.sha256)]
    assert kinds(ledger) == ["embedding", "concluding", "delivering", "done"]


@pytest.mark.parametrize("together", [True, False])
def test_other_bytes_under_a_known_uid_count(ledger: Ledger, together: bool) -> None:  # noqa: FBT001
    """Both versions are kept, the newest one counts, the journal says so."""
    old, new = received(), received(content="second", at=later(1))
    if together:
        record(ledger, old, new)
    else:
        record(ledger, old)
        record(ledger, new)
    assert current(ledger) == [(instance_uid(), new.sha256)]
    with ledger.read() as tx:
        assert set(arrivals.known(tx, [old.path, new.path])) == {old.path, new.path}
    assert kinds(ledger) == ["new version"]
    assert len(pending(ledger)) == 1


def test_an_older_version_that_comes_again_counts_again(ledger: Ledger) -> None:
    """The newest arrival counts, not the newest content; nothing is embedded twice."""
    old, new = received(), received(content="second", at=later(1))
    record(ledger, old)
    embed(ledger)
    record(ledger, new)
    embed(ledger)
    record(ledger, received(at=later(2)))
    assert current(ledger) == [(instance_uid(), old.sha256)]
    assert pending(ledger) == []


def test_a_new_version_wakes_a_study_that_is_done(ledger: Ledger) -> None:
    """It is received again, and waits for more from then on."""
    concluded_study(ledger, received())
    deliver(ledger)
    record(ledger, received(content="second", at=later(7200)))
    with ledger.read() as tx:
        (arriving,) = motion.arriving(tx)
    assert arriving.waiting_since == later(7200)
    assert arriving.last_revision_at == later(0)


def test_an_image_replaced_by_something_else_wakes_a_study(ledger: Ledger) -> None:
    """Its last image gone, nothing is left to conclude."""
    record(ledger, received())
    embed(ledger)
    complete(ledger)
    record(ledger, not_an_image(number=1, content="second", at=later(1)))
    assert state(ledger) == "receiving"
    with ledger.read() as tx:
        assert not revisions.has_images(tx, standing(ledger).key)


def test_an_instance_that_comes_again_in_another_study_moves_there(
    ledger: Ledger,
) -> None:
    """The study that it left goes on without it."""
    concluded_study(ledger, *series(1, 2))
    deliver(ledger)
    moved = received(2, 9, sop_instance_uid=instance_uid(1, 2), at=later(5))
    record(ledger, moved)
    assert state(ledger, 1) == "receiving"
    assert [uid for uid, _ in current(ledger, 1)] == [instance_uid(1, 1)]
    assert [uid for uid, _ in current(ledger, 2)] == [instance_uid(1, 2)]


def test_the_newest_of_two_studies_in_one_commit_has_the_instance(
    ledger: Ledger,
) -> None:
    """The order of arrival decides, not the order of the studies' UIDs."""
    uid = instance_uid(1, 1)
    record(
        ledger,
        received(2, 1, sop_instance_uid=uid),
        received(1, 1, sop_instance_uid=uid, at=later(1)),
    )
    assert current(ledger, 1) == [(uid, received(1, 1).sha256)]
    assert current(ledger, 2) == []


# ── urgency and patience ────────────────────────────────────────────────────


def test_an_urgent_instance_makes_its_study_urgent(ledger: Ledger) -> None:
    """Frames of it that wait already go before others; it never becomes less so."""
    record(ledger, *series(1, 2), *series(2, 2))
    record(ledger, received(2, 3, priority=Priority.STAT))
    record(ledger, received(2, 4, priority=Priority.BACKFILL))
    assert standing(ledger, 2).priority == Priority.STAT
    order = [f.priority for f in pending(ledger)]
    assert order == [Priority.STAT] * 4 + [Priority.ROUTINE] * 2


def test_the_longest_wait_counts_from_the_first_instance_not_concluded(
    ledger: Ledger,
) -> None:
    """Instances that come while others are being embedded do not prolong it."""
    record(ledger, received())
    complete(ledger)
    record(ledger, received(number=2, at=later(300)))
    with ledger.read() as tx:
        (arriving,) = motion.arriving(tx)
    assert (arriving.waiting_since, arriving.last_at) == (later(0), later(300))


def test_what_was_known_of_an_arrival_ends_with_the_next_instance(
    ledger: Ledger,
) -> None:
    """The expected count is asked for anew, and a request does not linger."""
    record(ledger, received())
    key = standing(ledger).key
    with ledger.write() as tx:
        motion.expect(tx, key, 1)
        motion.ask(tx, key)
    record(ledger, received(number=2))
    with ledger.read() as tx:
        (arriving,) = motion.arriving(tx)
    assert (arriving.expected, arriving.asked, arriving.received) == (None, False, 2)


# ── encoders ────────────────────────────────────────────────────────────────


def test_every_encoder_looks_at_every_frame(ledger: Ledger) -> None:
    """Packs that share an encoder share its embeddings; others have their own."""
    both = [ENCODER.digest, OTHER_ENCODER.digest]
    record(ledger, *series(1, 3, frames=2), encoders=both)
    assert [frames_of(ledger, e) for e in both] == [6, 6]


def test_a_new_encoder_looks_at_what_is_not_concluded(ledger: Ledger) -> None:
    """Studies on their way get it; one that is done is left as it is."""
    concluded_study(ledger, received())
    record(ledger, *series(2, 3))
    for _ in range(2):
        with ledger.write() as tx:
            use_packs(tx, [PACK, OTHER_PACK], at=later(1))
    assert [frames_of(ledger, e.digest) for e in (ENCODER, OTHER_ENCODER)] == [4, 3]


def test_what_only_a_former_pack_wanted_is_dropped(ledger: Ledger) -> None:
    """No worker does it any more; what it did is kept."""
    record(ledger, received())
    embed(ledger)
    record(ledger, *series(2, 4))
    batch(ledger, pending(ledger)[:2])
    with ledger.write() as tx:
        use_packs(tx, [OTHER_PACK], at=later(1))
    assert [frames_of(ledger, e.digest) for e in (ENCODER, OTHER_ENCODER)] == [1, 5]
    assert {f.encoder for f in pending(ledger)} == {OTHER_ENCODER.digest}
    with ledger.read() as tx:
        assert work.batches_in_flight(tx) == {}


def test_a_study_that_waited_for_a_former_pack_goes_on(ledger: Ledger) -> None:
    """With the new one, in the same revision; the former job writes nothing."""
    record(ledger, received())
    embed(ledger, picture=lambda _path: digest("pixels"))
    complete(ledger)
    open_revision(ledger)
    lease = leased(ledger, JOBS, jobs(ledger)[0].id)
    with ledger.write() as tx:
        use_packs(tx, [OTHER_PACK], at=later(1))
    assert standing(ledger).detail == "the packs are others now"
    assert not settle_job(ledger, lease)
    assert embed(ledger, picture=lambda _path: digest("pixels")) == 1
    complete(ledger)
    assert open_revision(ledger, packs=[OTHER_PACK]) == 1
    assert [(j.pack, j.state) for j in jobs(ledger)] == [
        ("chest", "dropped"),
        ("head", "ready"),
    ]


def test_a_study_that_goes_on_is_seen_whole_by_a_new_encoder(ledger: Ledger) -> None:
    """A late image brings the older ones with it, or a new pack would miss them."""
    concluded_study(ledger, *series(1, 2))
    record(ledger, received(number=3, at=later(60)), encoders=[OTHER_ENCODER.digest])
    assert frames_of(ledger, OTHER_ENCODER.digest) == 3


# ── two patients ────────────────────────────────────────────────────────────


def test_two_patients_in_one_study_hold_it(ledger: Ledger) -> None:
    """Whatever it was doing stops: no job goes on, nothing is sent."""
    concluded_study(ledger, received(**A))
    record(ledger, received(number=2, at=later(1), **B))
    assert state(ledger) == "held"
    assert due(ledger, now=later(9)) == []
    assert kinds(ledger)[-1] == "held"


def test_a_job_of_a_study_that_is_held_writes_nothing(ledger: Ledger) -> None:
    """A worker that was concluding it meanwhile has lost its lease."""
    record(ledger, received(**A))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    lease = leased(ledger, JOBS, jobs(ledger)[0].id)
    record(ledger, received(number=2, **B))
    assert not settle_job(ledger, lease)
    assert [row.state for row in jobs(ledger)] == ["dropped"]


def test_a_study_that_is_held_stays_so_while_more_comes(ledger: Ledger) -> None:
    """The journal has one line of it, however many instances follow."""
    record(ledger, received(**A), received(number=2, **B))
    record(ledger, received(number=3, **A))
    record(ledger, received(number=4, **B))
    assert state(ledger) == "held"
    assert kinds(ledger) == ["held"]


def test_newer_versions_that_agree_let_a_study_go_on(ledger: Ledger) -> None:
    """The wrong instance comes again, corrected; the longest wait begins anew."""
    record(ledger, received(**A), received(number=2, **B))
    record(ledger, received(number=2, content="corrected", at=later(9000), **A))
    with ledger.read() as tx:
        (arriving,) = motion.arriving(tx)
    assert arriving.waiting_since == later(9000)


def test_a_study_agrees_when_the_stranger_goes_to_its_own(ledger: Ledger) -> None:
    """The wrong instance comes again in the study that it belongs to."""
    record(ledger, received(1, 1, **A), received(1, 2, **B))
    record(ledger, received(2, 2, sop_instance_uid=instance_uid(1, 2), **B))
    assert [state(ledger, 1), state(ledger, 2)] == ["receiving", "receiving"]


def test_a_study_that_agrees_again_goes_on_where_it_was(ledger: Ledger) -> None:
    """The same images, the same revision: its report is sent after all."""
    concluded_study(ledger, received(**A))
    wrong = received(number=2, at=later(1), **B)
    record(ledger, wrong)
    with ledger.write() as tx:
        taken_out = arrivals.keep_patient_of(
            tx, study_uid(), instance_uid(), at=later(2)
        )
    complete(ledger)
    assert (taken_out, open_revision(ledger)) == (1, 1)
    assert len(due(ledger, now=later(9))) == 2


def test_a_decision_outlives_a_repeated_sending(ledger: Ledger) -> None:
    """What a person left out stays out when the modality sends everything again."""
    both = [received(number=1, **A), received(number=2, **B)]
    record(ledger, *both)
    with ledger.write() as tx:
        arrivals.keep_patient_of(tx, study_uid(), instance_uid(), at=later(2))
    record(ledger, *both)
    assert state(ledger) == "receiving"
    assert [uid for uid, _ in current(ledger)] == [instance_uid(1, 1)]


def test_only_what_is_in_the_study_can_be_chosen(ledger: Ledger) -> None:
    """An instance that it does not have settles nothing."""
    record(ledger, received(**A), received(number=2, **B))
    for study_of, uid in (
        (study_uid(), SopInstanceUid("1.2.3")),
        (StudyUid("1.2.3"), instance_uid()),
    ):
        with pytest.raises(UnknownInstanceError), ledger.write() as tx:
            arrivals.keep_patient_of(tx, study_of, uid, at=later(2))
    assert state(ledger) == "held"


def test_there_is_nothing_to_settle_where_nobody_disagrees(ledger: Ledger) -> None:
    """Only a study that is held has a conflict."""
    record(ledger, received(**A))
    with pytest.raises(ImpossibleError), ledger.write() as tx:
        arrivals.keep_patient_of(tx, study_uid(), instance_uid(), at=later(2))


def test_own_objects_have_no_part_in_a_conflict(ledger: Ledger) -> None:
    """They are no evidence: neither do they make one, nor are they taken out."""
    record(ledger, received(**A), received(number=2, **B))
    record(ledger, own_object(patient=digest("C")))
    with ledger.write() as tx:
        taken_out = arrivals.keep_patient_of(
            tx, study_uid(), instance_uid(), at=later(2)
        )
    assert taken_out == 1


# ── a corrected patient ─────────────────────────────────────────────────────


def test_nothing_of_the_former_patient_is_sent_after_a_correction(
    ledger: Ledger,
) -> None:
    """The report that waited is withdrawn, and the new one does not refer to it."""
    concluded_study(ledger, received(**A))
    record(ledger, received(content="corrected", at=later(1), **B))
    assert due(ledger, now=later(9)) == []
    embed(ledger)
    complete(ledger)
    assert open_revision(ledger) == 2
    assert job_input(ledger, jobs(ledger)[-1].id).predecessors == ()
    conclude(ledger)
    sent = {d.sop_instance_uid for d in due(ledger, now=later(9))}
    assert len(sent) == 2


def test_a_report_that_was_never_addressed_is_not_after_a_correction(
    ledger: Ledger,
) -> None:
    """Concluded under the former patient, it finds no way into the outbox."""
    record(ledger, received(**A))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    former = leased(ledger, JOBS, jobs(ledger)[0].id)
    assert settle_job(ledger, former)
    record(ledger, received(content="corrected", at=later(1), **B))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    conclude(ledger)
    assert len(due(ledger, now=later(9))) == 2


def test_a_report_under_the_wrong_patient_is_never_named(ledger: Ledger) -> None:
    """It is to be withdrawn; a reference would lead from one chart into another."""
    concluded_study(ledger, received(**A))
    deliver(ledger)
    record(ledger, received(content="corrected", at=later(1), **B))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    assert job_input(ledger, jobs(ledger)[-1].id).predecessors == ()


def test_a_correction_that_is_taken_back_supersedes_the_patient_s_own_report(
    ledger: Ledger,
) -> None:
    """Not the last report of the study, but the last one in this chart."""
    concluded_study(ledger, received(**A))
    deliver(ledger)
    for minute, (content, patient) in enumerate((("wrong", B), ("right", A)), start=1):
        record(ledger, received(content=content, at=later(minute), **patient))
        embed(ledger)
        complete(ledger)
        open_revision(ledger)
        if patient is B:
            conclude(ledger)
            deliver(ledger, now=later(minute))
    (former,) = job_input(ledger, jobs(ledger)[-1].id).predecessors
    first = stored(jobs(ledger)[0].id, ObjectKind.REPORT)
    assert former.sop_instance_uid == first.sop_instance_uid
    assert former.patient == A["patient"]


def test_another_transfer_syntax_is_a_new_version(ledger: Ledger) -> None:
    """Whether it makes a new revision is decided once its pixels are known."""
    record(ledger, received())
    record(ledger, received(content="compressed", transfer_syntax_uid=JPEG_LS))
    assert kinds(ledger) == ["new version"]
