"""A run from its first study to the account: sends, strikes, waits until all is done."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from sqlalchemy import func, select

from dicom_node.ledger import Ledger, LedgerBusyError
from dicom_node.ledger.tables import study
from dicom_node.lifecycle import State
from tests.bars import Show
from tests.chaos import studies
from tests.chaos.account import Account, account, times
from tests.chaos.plan import Chaos
from tests.chaos.scene import Scene, scene
from tests.chaos.senders import Sender, Ward, by_cstore, by_stow
from tests.chaos.siege import Siege

SENDERS = 4
AHEAD = 64
"""Studies under way, so that there is always something to be lost."""
POLL_S = 0.03
COUNT_S = 0.25
PATIENCE_S = 300.0
"""So long nothing at all may be finished before a run is given up."""
EXAMPLES = 3


def run(
    chaos: Chaos,
    folder: Path,
    *,
    show: Show = lambda *_: None,
    senders: int = SENDERS,
    ahead: int = AHEAD,
) -> Account:
    """Return what came of a run; everything in the folder is its own."""
    of = studies.patterns()
    ward = Ward(
        make=partial(studies.study, chaos.seed, of=of), count=chaos.studies, ahead=ahead
    )
    with scene(chaos, folder) as running:
        threads = _senders(chaos, ward, running, senders)
        siege = Siege(running, lambda: ward.last_at)
        began = time.monotonic()
        try:
            for thread in threads:
                thread.start()
            _go_through(running, ward, siege, show)
        finally:
            ward.stopping = True
        lasted_s = time.monotonic() - began
        for process in (*running.nodes, running.worker):
            process.held = True
            process.end()
        counts, wrong = account(
            ward.acknowledged,
            ward.of_study,
            running.ledger,
            running.outbox,
            running.pacs,
            show,
        )
        return Account(
            seed=chaos.seed,
            counts=_counts(ward) | counts,
            wrong=_wrong(chaos, ward, siege, wrong),
            examples={what: found[:EXAMPLES] for what, found in wrong.items() if found},
            faults=siege.faults(),
            recoveries=times(siege.recoveries),
            full_by=running.disk.way,
            lasted_s=lasted_s,
        )


def _senders(chaos: Chaos, ward: Ward, running: Scene, count: int) -> list[Sender]:
    return [
        Sender(
            ward,
            running.doors,
            by_stow if number % 2 else by_cstore,
            Random(f"sender {chaos.seed} {number}"),  # noqa: S311 - a test's own dice
        )
        for number in range(count)
    ]


def _go_through(running: Scene, ward: Ward, siege: Siege, show: Show) -> None:
    """Strike while studies come in; then wait until all of them are done."""
    since = counted = time.monotonic()
    while ward.more or ward.done < ward.begun:
        siege.go_on(ward.share)
        ward.pressing = siege.is_unanswered
        ward.more = siege.left > 0 or ward.begun < ward.count
        now = time.monotonic()
        if now >= counted + COUNT_S:
            counted = now
            done = _done(running.ledger, ward.done)
            if done != ward.done:
                since, ward.done = now, done
            show("acknowledged", ward.studies, max(ward.begun, ward.count))
            show("done", done, max(ward.begun, ward.count))
        if now > since + PATIENCE_S:
            break
        time.sleep(POLL_S)


def _done(ledger: Ledger, former: int) -> int:
    query = select(func.count()).select_from(study).where(study.c.state == State.DONE)
    try:
        with ledger.read() as tx:
            return int(tx.execute(query).scalar_one())
    except LedgerBusyError:
        return former


def _counts(ward: Ward) -> dict[str, int]:
    return {
        "studies acknowledged": ward.studies,
        "instances acknowledged": len(ward.acknowledged),
        "instances sent again until acknowledged": ward.resent,
        "instances sent again although acknowledged": ward.twice,
    }


def _wrong(
    chaos: Chaos, ward: Ward, siege: Siege, wrong: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    return {
        "studies never acknowledged": max(ward.begun, chaos.studies) - ward.studies,
        "recoveries not seen to their end": sum(
            r.working_s is None and r.found is not None for r in siege.recoveries
        ),
        **{what: len(found) for what, found in wrong.items()},
    }
