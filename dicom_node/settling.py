"""What a destination said of an object becomes a state of its delivery in the ledger.

One place decides what follows an attempt, a question and a report on storage
commitment, whoever hears of it: the thread that sends, the one that asks, or the
listener that the destination calls, perhaps in another process. Nothing is kept here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random

import structlog

from dicom_node.commitment import Report, findings
from dicom_node.ledger import Ledger, Tx, outbox, outcomes
from dicom_node.ledger.outbox import DueDelivery
from dicom_node.outgoing import DOUBTFUL_AGE_S, Outcome, Verdict, next_attempt
from dicom_node.peers import Peer, Verify
from dicom_node.verification import Finding, Found, How, Patience, Step, ruled

log = structlog.get_logger(__name__)

Jitter = Callable[[], float]
"""Returns a number in [-1, 1]."""


def random_jitter() -> Jitter:
    """Return what spreads retries; it guards nothing."""
    random = Random()  # noqa: S311 - no secret depends on it
    return lambda: random.uniform(-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Settles the deliveries of one destination.

    Parameters
    ----------
    patience
        How long to wait for it to have what it says it stored.
    """

    peer: Peer
    patience: Patience
    clock: Callable[[], datetime]
    jitter: Jitter

    def attempted(self, tx: Tx, due: DueDelivery, outcome: Outcome) -> None:
        """Note what became of an attempt to send."""
        now = self.clock()
        key, detail = due.delivery, outcome.detail
        match outcome.verdict:
            case Verdict.SENT if self.peer.verify is not Verify.NONE:
                outcomes.sent(tx, key, detail=detail, now=now)
            case Verdict.SENT:
                detail = f"{detail}; not verified: switched off"
                outcomes.delivered(tx, key, detail=detail, now=now)
            case Verdict.DELIVERED:
                how = outcome.how
                outcomes.delivered(tx, key, detail=detail, now=now, verified=how)
            case Verdict.DEAD:
                self._give_up(tx, key, detail)
            case Verdict.RETRY:
                self._retry(tx, due, outcome)

    def asked(self, tx: Tx, due: DueDelivery, finding: Finding) -> None:
        """Note what a question about an object that was sent led to."""
        now = self.clock()
        ruling = ruled(
            finding,
            sent_at=due.sent_at or now,
            now=now,
            patience=self.patience,
            missed=due.missed,
        )
        key, detail = due.delivery, ruling.detail
        match ruling.step:
            case Step.DELIVERED:
                how = finding.how
                outcomes.confirmed(tx, key, detail=detail, now=now, verified=how)
                if how is How.NOT:
                    log.warning("not_verified", peer=self.peer.name, detail=detail)
            case Step.ASK:
                outcomes.ask_again(
                    tx,
                    key,
                    detail=detail,
                    until=ruling.at or now,
                    missed=finding.found is Found.MISSING,
                    transaction_uid=finding.transaction_uid,
                )
            case Step.RESEND:
                self._resend(tx, due, detail)
            case Step.DEAD:
                self._disprove(tx, key, detail)

    def _retry(self, tx: Tx, due: DueDelivery, outcome: Outcome) -> None:
        attempts = due.attempts + 1
        until = self._next(attempts, outcome)
        if until is None:
            detail = f"given up after {attempts} attempts: {outcome.detail}"
            self._give_up(tx, due.delivery, detail)
            return
        outcomes.postpone(tx, due.delivery, detail=outcome.detail, until=until)
        log.warning("delivery_failed", peer=self.peer.name, detail=outcome.detail)

    def _resend(self, tx: Tx, due: DueDelivery, detail: str) -> None:
        doubtful = Outcome(
            delivery=due.delivery,
            verdict=Verdict.RETRY,
            detail=detail,
            max_age_s=DOUBTFUL_AGE_S,
        )
        until = self._next(max(due.attempts, 1), doubtful)
        if until is None:
            detail = f"sent {due.attempts} times, never kept: {detail}"
            self._disprove(tx, due.delivery, detail)
            return
        now = self.clock()
        outcomes.lost(tx, due.delivery, detail=detail, now=now, until=until)
        log.warning("delivery_lost", peer=self.peer.name, detail=detail)

    def _next(self, attempts: int, outcome: Outcome) -> datetime | None:
        return next_attempt(
            self.peer.retry,
            attempts,
            self.clock(),
            jitter=self.jitter(),
            outcome=outcome,
        )

    def _give_up(self, tx: Tx, key: int, detail: str) -> None:
        outcomes.give_up(tx, key, detail=detail, now=self.clock())
        log.warning("delivery_given_up", peer=self.peer.name, detail=detail)

    def _disprove(self, tx: Tx, key: int, detail: str) -> None:
        outcomes.disprove(tx, key, detail=detail, now=self.clock())
        log.warning("delivery_given_up", peer=self.peer.name, detail=detail)


def settle_report(
    ledger: Ledger, settlings: Mapping[str, Settling], report: Report
) -> bool:
    """Note what a destination reports on storage commitment.

    Parameters
    ----------
    settlings
        By the destination's name.

    Returns
    -------
    bool
        False if the ledger knows no such transaction.
    """
    with ledger.write() as tx:
        sent = outbox.in_transaction(tx, report.transaction_uid)
        if sent is None:
            return False
        deliveries = {str(one.sop_instance_uid): one.delivery for one in sent}
        by_key = {one.delivery: one for one in sent}
        for finding in findings(report, deliveries):
            one = by_key[finding.delivery]
            if one.destination in settlings:
                settlings[one.destination].asked(tx, one, finding)
    return True
