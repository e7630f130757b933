"""Deliveries in the ledger, on both databases: sent, verified, lost, given up, listed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.commitment import Report
from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger, motion, outbox, outcomes
from dicom_node.ledger.deliveries import dead_letters, deliveries
from dicom_node.ledger.outbox import DueDelivery
from dicom_node.ledger.studies import happen
from dicom_node.lifecycle import Event
from dicom_node.settling import settle_report
from tests.arrivals import T0, received, study_uid
from tests.ledgers import (
    PACS,
    complete,
    concluded_study,
    due,
    embed,
    open_revision,
    record,
    standing,
    state,
)
from tests.outboxes import Outbox
from tests.peers import StorePeer
from workers.cli import app


@pytest.fixture
def sent(ledger: Ledger) -> list[DueDelivery]:
    """Return the report and the capture of a study, sent to the PACS."""
    concluded_study(ledger, received(1))
    objects = due(ledger)
    with ledger.write() as tx:
        for one in objects:
            outcomes.sent(tx, one.delivery, detail="stored", now=T0)
    return objects


def unverified(ledger: Ledger, after_s: float = 0) -> list[DueDelivery]:
    """Return what is to be asked for by then."""
    now = T0 + timedelta(seconds=after_s)
    with ledger.read() as tx:
        return outbox.unverified(tx, PACS.destination, now=now, limit=99)


def test_what_was_sent_is_in_motion(ledger: Ledger, sent: list[DueDelivery]) -> None:
    """It is not sent again, is asked for at once, and the study is not done."""
    assert due(ledger) == []
    asked = unverified(ledger)
    assert [one.delivery for one in asked] == [one.delivery for one in sent]
    assert {(one.sent_at, one.attempts, one.asked) for one in asked} == {(T0, 1, False)}
    with ledger.read() as tx:
        assert motion.delivered(tx) == []
    with ledger.write() as tx:
        for one in sent:
            outcomes.confirmed(tx, one.delivery, detail="", now=T0, verified="query")
    with ledger.read() as tx:
        assert motion.delivered(tx) == [standing(ledger).key]


def test_a_transaction_is_known_before_its_report(
    ledger: Ledger, sent: list[DueDelivery]
) -> None:
    """Who asks writes it down; whoever hears the report finds it there."""
    until = T0 + timedelta(seconds=60)
    with ledger.write() as tx:
        for one in sent:
            outcomes.ask_again(
                tx, one.delivery, detail="asked", until=until, transaction_uid="2.25.7"
            )
    assert unverified(ledger, 59) == []
    assert all(one.asked for one in unverified(ledger, 60))
    with ledger.read() as tx:
        assert outbox.in_transaction(tx, "2.25.8") is None
        found = outbox.in_transaction(tx, "2.25.7")
    assert found is not None
    assert {one.delivery for one in found} == {one.delivery for one in sent}


def test_a_report_settles_what_it_names(ledger: Ledger, tmp_path: Path) -> None:
    """Through the ledger alone: no object of the process that asked is needed."""
    box = Outbox(ledger=ledger, folder=tmp_path)
    box.fill("pacs")
    peer = StorePeer(port=104).peer()
    drain = box.drain(peer)
    with ledger.write() as tx:
        for one in outbox.due(tx, "pacs", now=T0, limit=9):
            key = one.delivery
            outcomes.sent(tx, key, detail="stored", now=T0)
            outcomes.ask_again(tx, key, detail="", until=T0, transaction_uid="2.25.7")
    report, capture = (str(line.sop_instance_uid) for line in box.lines())
    said = Report(
        transaction_uid="2.25.7",
        committed=frozenset({capture}),
        failed={report: 0x0119},
    )
    assert settle_report(ledger, {"pacs": drain.settling}, said)
    states = {str(line.sop_instance_uid): line.state for line in box.lines()}
    assert states == {report: "dead", capture: "delivered"}
    assert not settle_report(
        ledger,
        {},
        Report(transaction_uid="2.25.9", committed=frozenset(), failed={}),
    )


def test_a_late_answer_changes_nothing(ledger: Ledger, sent: list[DueDelivery]) -> None:
    """What somebody sent again meanwhile is settled by its own answers."""
    key = sent[0].delivery
    with ledger.write() as tx:
        outbox.resend(tx, standing(ledger).key, now=T0, delivered_too=True)
        outcomes.confirmed(tx, key, detail="late", now=T0, verified="query")
        outcomes.lost(tx, key, detail="late", now=T0, until=T0)
        outcomes.ask_again(tx, key, detail="late", until=T0)
        outcomes.disprove(tx, key, detail="late", now=T0)
    assert {one.delivery for one in due(ledger)} == {one.delivery for one in sent}


def test_a_refusal_does_not_undo_what_another_node_sent(
    ledger: Ledger, sent: list[DueDelivery]
) -> None:
    """Two nodes on one outbox may both try: whoever succeeds counts."""
    with ledger.write() as tx:
        outcomes.give_up(tx, sent[0].delivery, detail="0x0111", now=T0)
        outcomes.postpone(tx, sent[0].delivery, detail="no connection", until=T0)
    with ledger.read() as tx:
        assert {line.state for line in deliveries(tx)} == {"sent"}


def test_what_is_lost_of_another_patient_is_not_sent_again(
    ledger: Ledger, sent: list[DueDelivery]
) -> None:
    """The study was corrected meanwhile: its former report has to stay away."""
    record(ledger, received(1, 1, content="corrected", patient="f" * 64))
    embed(ledger)
    complete(ledger)
    open_revision(ledger)
    with ledger.write() as tx:
        outcomes.lost(tx, sent[0].delivery, detail="lost", now=T0, until=T0)
    with ledger.read() as tx:
        states = {line.sop_instance_uid: line.state for line in deliveries(tx)}
    assert states[sent[0].sop_instance_uid] == "cancelled"


def test_a_dead_letter_says_since_when(ledger: Ledger, sent: list[DueDelivery]) -> None:
    """And how often it was tried; a question is no attempt."""
    at = T0 + timedelta(hours=3)
    with ledger.write() as tx:
        outcomes.disprove(tx, sent[0].delivery, detail="other content", now=at)
    with ledger.read() as tx:
        (letter,) = dead_letters(tx)
    assert (letter.since, letter.attempts) == (at, 1)
    assert (letter.destination, letter.kind) == (PACS.destination, ObjectKind.REPORT)
    with ledger.write() as tx:
        assert outbox.resend(tx, standing(ledger).key, now=at) == 1
    with ledger.read() as tx:
        assert dead_letters(tx) == []


# ── the commands ────────────────────────────────────────────────────────────


@pytest.fixture
def config(ledger: Ledger, tmp_path: Path) -> Path:
    """Return settings that name this ledger."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    path = tmp_path / "pacsight.toml"
    path.write_text(f'ledger_url = "{url}"\n')
    return path


def pacsight(config: Path, *words: str) -> str:
    """Return what a command prints on 80 columns; it has to succeed."""
    env = {"COLUMNS": "80", "TERM": "dumb"}
    done = CliRunner().invoke(app, [*words, "--config", str(config)], env=env)
    assert done.exit_code == 0, done.output
    return done.output


def test_dead_letters_are_listed_and_sent_again(
    ledger: Ledger, config: Path, sent: list[DueDelivery]
) -> None:
    """``pacsight retry`` lists them, with a study or ``--all`` it sends them again."""
    assert pacsight(config, "retry") == "nothing was given up\n"
    why = "PACS accepts no Comprehensive 3D SR Storage in Explicit VR Little Endian"
    with ledger.write() as tx:
        outcomes.disprove(tx, sent[0].delivery, detail=why, now=T0)
    shown = pacsight(config, "retry")
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "Mend what the last column says" in shown
    assert "dead" in shown
    (letter,) = json.loads(pacsight(config, "retry", "--json"))
    assert letter["detail"] == why
    assert letter["next"] == f"pacsight retry {study_uid(1)}"
    assert state(ledger) == "delivering"
    pacsight(config, "retry", study_uid(1))
    assert len(due(ledger, now=datetime.now(UTC))) == 1


def test_everything_is_sent_again_at_once(
    ledger: Ledger, config: Path, sent: list[DueDelivery]
) -> None:
    """``--all`` takes every study of which something was given up, whatever its state."""
    with ledger.write() as tx:
        for one in sent:
            outcomes.disprove(tx, one.delivery, detail="no", now=T0)
    said = json.loads(pacsight(config, "retry", "--all", "--json"))
    assert said == [{"study_uid": study_uid(1), "state": "delivering"}]
    assert len(due(ledger, now=datetime.now(UTC))) == 2
    assert pacsight(config, "retry", "--all") == ""


def test_deliveries_are_shown(
    ledger: Ledger, config: Path, sent: list[DueDelivery]
) -> None:
    """Where each object stands, and how it was seen; on 80 columns, or as JSON."""
    with ledger.write() as tx:
        outcomes.confirmed(
            tx, sent[0].delivery, detail="there", now=T0, verified="commitment"
        )
    shown = pacsight(config, "deliveries", study_uid(1))
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "by commitment" in shown
    rows = json.loads(pacsight(config, "deliveries", "--json"))
    assert {(row["state"], row["verified"]) for row in rows} == {
        ("delivered", "commitment"),
        ("sent", ""),
    }


def test_what_a_restored_pacs_lost_is_sent_again(
    ledger: Ledger, config: Path, sent: list[DueDelivery]
) -> None:
    """``pacsight retry`` of a study that is done sends what was delivered, too."""
    box_key = standing(ledger).key
    with ledger.write() as tx:
        for one in sent:
            outcomes.confirmed(tx, one.delivery, detail="", now=T0, verified="query")
        happen(tx, box_key, Event.DELIVERED, detail="", at=T0)
    pacsight(config, "retry", study_uid(1))
    assert len(due(ledger, now=datetime.now(UTC))) == 2


def test_what_was_not_there_is_remembered_until_it_is_sent_again(
    ledger: Ledger, sent: list[DueDelivery]
) -> None:
    """A destination that cannot say any more is not taken at its word then."""
    key = sent[0].delivery
    with ledger.write() as tx:
        outcomes.ask_again(tx, key, detail="not there", until=T0, missed=True)
        outcomes.ask_again(tx, key, detail="HTTP 503", until=T0)
    assert [one.missed for one in unverified(ledger)] == [True, False]
    with ledger.write() as tx:
        outcomes.lost(tx, key, detail="not there", now=T0, until=T0)
        outcomes.sent(tx, key, detail="stored", now=T0)
    assert [one.missed for one in unverified(ledger)] == [False, False]


def test_studies_are_concluded_again_when_an_operator_asks(
    ledger: Ledger, config: Path
) -> None:
    """``pacsight conclude``: one study or all of them, and never one on its way."""
    concluded_study(ledger, received(1))
    record(ledger, received(2))
    assert pacsight(config, "conclude", study_uid(2)) == (
        "the node concludes 0 of 1 again\n"
    )
    assert pacsight(config, "conclude", "--all") == (
        "the node concludes 1 of 1 again\n"
    )
    assert (state(ledger, 1), state(ledger, 2)) == ("embedding", "receiving")
    neither = CliRunner().invoke(app, ["conclude", "--config", str(config)])
    assert neither.exit_code == 2
