"""The running node: its parts put together, its threads started and stopped.

::

    scp, stow ──► intake ──► spool
     │              │
     │              └──► recorder ──► ledger ◄── handover ──► queue
     │                                  ▲
     └── reports on commitment ─────────┴── drains ──► destinations
"""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from dicom_node.auditing import audited
from dicom_node.config import Settings
from dicom_node.deliver import destination
from dicom_node.dispatch import CeleryDispatcher
from dicom_node.domain import Note, PackCard, Sha256, StudyUid
from dicom_node.drain import Drain
from dicom_node.errors import SettingsError
from dicom_node.expected import expected_instances, queried
from dicom_node.exposure import check_exposure
from dicom_node.files import make_folder
from dicom_node.find_scp import FindScp
from dicom_node.handover import Handover
from dicom_node.inquire import Inquirer, Source
from dicom_node.intake import Intake
from dicom_node.ledger import (
    Ledger,
    LedgerBusyError,
    LedgerDamagedError,
    arrivals,
    frames,
    open_ledger,
    purging,
    rebuilding,
    setback,
)
from dicom_node.ledger.arrivals import Known
from dicom_node.objects import ObjectStore
from dicom_node.peers import Peer, destinations
from dicom_node.recorder import LedgerRecorder
from dicom_node.recovery import recover
from dicom_node.scp import Reported, StorageScp
from dicom_node.settling import settle_report
from dicom_node.spool import Spool
from dicom_node.wiring import (
    addresses,
    broker_tls,
    exposed,
    exposed_http,
    http_server,
    listener,
    new_purger,
    now,
    open_spool,
    pace,
    pack_rules,
    patience,
    priority_rules,
)

SET_BACK_S = 1.0
"""What the wall clock may lose against the monotonic one between two ticks."""
LEDGER_PATIENCE_S = 30.0
"""How long a node that starts waits for its database to start, too."""

log = structlog.get_logger(__name__)


class Node:
    """A node that was put together from settings; `start` it, then `stop` it.

    Parameters
    ----------
    packs
        What concludes studies. The node only needs to know of them; the workers
        hold them.
    """

    def __init__(self, settings: Settings, packs: Sequence[PackCard]) -> None:
        if not settings.broker_url:
            raise SettingsError(
                "broker_url is not set: name a broker, or use `pacsight up`,"
                " which starts a private one"
            )
        self._settings = settings
        self._packs = tuple(packs)
        self._broker_url = settings.broker_address
        self._stack = ExitStack()
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._note: Note = lambda _: None
        self.dicom_port = 0
        self.dicom_tls_port = 0
        self.http_port = 0

    def start(self) -> None:
        """Open the front doors, recover what a former run left, begin to work."""
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Close the front doors, finish what is in hand, close the rest."""
        self._stopping.set()
        self._awake.set()
        self._stack.close()

    def wake(self) -> None:
        """Do the next tick now."""
        self._awake.set()

    def _start(self, stack: ExitStack) -> None:
        settings = self._settings
        self._note = stack.enter_context(audited(settings, "node"))
        check_exposure([*exposed(settings), *exposed_http(settings)], self._note)
        make_folder(settings.data_dir)
        ledger = open_ledger(
            settings.ledger_address, migrate=True, retry_s=LEDGER_PATIENCE_S
        )
        stack.callback(ledger.close)
        refuse_lost_ledger(ledger, settings.outbox_dir)
        spool = open_spool(settings)
        stack.callback(spool.close)
        recorder = LedgerRecorder(
            ledger, encoders=self._encoders(ledger), wake=self.wake
        )
        stack.callback(recorder.stop)
        recorder.start()
        intake = Intake(
            spool=spool,
            recorder=recorder,
            rules=priority_rules(settings),
            pack_rules=pack_rules(settings, self._packs),
            clock=now,
            note=self._note,
        )
        stack.callback(intake.tally.tell_all)
        drains = self._start_drains(stack, ledger)
        self._open_doors(stack, intake, ledger, reported(ledger, drains))
        self._open_http(stack, intake, ledger)
        self._recover(ledger, spool, intake, recorder)
        self._start_purger(stack)
        self._start_inquirer(stack, ledger)
        self._start_handover(stack, ledger, recorder, intake, drains)

    def _encoders(self, ledger: Ledger) -> tuple[Sha256, ...]:
        with ledger.write() as tx:
            frames.use_packs(tx, self._packs, at=now())
        return tuple(dict.fromkeys(p.encoder.digest for p in self._packs))

    def _recover(
        self, ledger: Ledger, spool: Spool, intake: Intake, recorder: LedgerRecorder
    ) -> None:
        def known(paths: Sequence[str]) -> set[str]:
            with ledger.read() as tx:
                found = arrivals.known(tx, paths)
            for path in (p for p, how in found.items() if how is Known.PURGED):
                with ledger.write() as tx:
                    purging.found_again(tx, path)
            return set(found)

        count = recover(spool, known, intake, catch_up=recorder.flush)
        if count:
            log.info("recovered", instances=count)

    def _start_purger(self, stack: ExitStack) -> None:
        """Purge what is older than the settings want, by a ledger that is durable."""
        settings = self._settings
        durable = open_ledger(settings.ledger_address, migrate=False)
        stack.callback(durable.close)
        purger = new_purger(settings, durable)
        stack.callback(purger.stop)
        purger.start()

    def _start_drains(self, stack: ExitStack, ledger: Ledger) -> tuple[Drain, ...]:
        settings = self._settings
        objects = ObjectStore(settings.outbox_dir)
        drains = tuple(
            Drain(
                peer,
                destination(peer, settings.caller),
                ledger=ledger,
                objects=objects,
                batch_size=settings.delivery.batch_size,
                clock=now,
                patience=patience(settings, peer),
                note=self._note,
            )
            for peer in destinations(settings.peers)
        )
        for drain in drains:
            stack.callback(drain.stop)
            drain.start()
        return drains

    def _start_inquirer(self, stack: ExitStack, ledger: Ledger) -> None:
        settings = self._settings
        inquirer = Inquirer(
            [self._source(p) for p in settings.peers if p.expected is not None],
            ledger=ledger,
            quiet_s=settings.study.expected_quiet_period_s / 2,
            clock=now,
        )
        stack.callback(inquirer.stop)
        inquirer.start()

    def _source(self, peer: Peer) -> Source:
        caller = self._settings.caller

        def ask(study_uid: StudyUid) -> int | None:
            self._note(queried(peer, study_uid))
            return expected_instances(peer, study_uid, caller=caller)

        return ask

    def _start_handover(
        self,
        stack: ExitStack,
        ledger: Ledger,
        recorder: LedgerRecorder,
        intake: Intake,
        drains: Sequence[Drain],
    ) -> None:
        dispatcher = CeleryDispatcher(self._broker_url, broker_tls(self._settings))
        stack.callback(dispatcher.close)
        handover = Handover(
            ledger=ledger,
            dispatcher=dispatcher,
            packs=self._packs,
            addresses=addresses(self._settings.peers),
            pace=pace(self._settings),
            open_studies=lambda: intake.open_studies() | recorder.pending_studies(),
            clock=now,
        )
        thread = threading.Thread(
            target=self._tick,
            args=(handover, drains, intake),
            name="handover",
            daemon=True,
        )
        stack.callback(thread.join)
        stack.callback(self._awake.set)
        thread.start()

    def _tick(
        self, handover: Handover, drains: Sequence[Drain], intake: Intake
    ) -> None:
        steady = _Steady()
        while not self._stopping.is_set():
            try:
                if steady.was_set_back():
                    self._pull_back(handover.ledger)
                    steady.accept()
                intake.tally.tell_old()
                if handover.tick():
                    for drain in drains:
                        drain.wake()
            except LedgerBusyError as error:
                log.warning("ledger_busy", error=str(error))
            except Exception:
                log.exception("tick_failed")
            self._awake.wait(self._settings.work.tick_s)
            self._awake.clear()

    def _pull_back(self, ledger: Ledger) -> None:
        lease_s = self._settings.work.lease_s
        with ledger.write() as tx:
            rows = setback.pull_back(tx, now=now(), lease_s=lease_s)
        if rows:
            log.warning("clock_was_set_back", count=rows)

    def _open_doors(
        self, stack: ExitStack, intake: Intake, ledger: Ledger, told: Reported
    ) -> None:
        settings = self._settings
        doors = listener(settings)
        asked = FindScp(ledger=ledger, askers=frozenset(doors.askers), note=self._note)
        scp = StorageScp(
            doors,
            intake,
            told,
            responds=asked.respond if doors.askers else None,
            note=self._note,
        )
        stack.callback(scp.stop)
        scp.start()
        self.dicom_port, self.dicom_tls_port = scp.port, scp.tls_port
        for door, port in (("dimse", scp.port), ("dimse over tls", scp.tls_port)):
            if port:
                log.info("listening", door=door, aet=settings.dicom.aet, port=port)

    def _open_http(self, stack: ExitStack, intake: Intake, ledger: Ledger) -> None:
        server = http_server(self._settings, intake, ledger, self._note)
        stack.callback(server.stop)
        server.start()
        self.http_port = server.port
        log.info("listening", door="stow", port=server.port)


def refuse_lost_ledger(ledger: Ledger, outbox: Path) -> None:
    """Raise where the ledger is empty and the outbox is not: it would do all again.

    The same results would be composed a second time, under the same UIDs.
    """
    with ledger.read() as tx:
        lost = not rebuilding.has_studies(tx) and any(outbox.glob("??/*.dcm"))
    if lost:
        raise LedgerDamagedError(
            "the ledger is empty, and the outbox has reports: run `pacsight rebuild`,"
            " see docs/operate/lost-ledger.md"
        )


class _Steady:
    """Notices that the wall clock was set back; at the start it may have been."""

    def __init__(self) -> None:
        self._ahead_s = float("inf")

    def was_set_back(self) -> bool:
        """Return whether it was, since the last call of `accept`."""
        ahead_s = time.time() - time.monotonic()
        if ahead_s < self._ahead_s - SET_BACK_S:
            return True
        self._ahead_s = ahead_s
        return False

    def accept(self) -> None:
        """Take the clock as it is now."""
        self._ahead_s = time.time() - time.monotonic()


def reported(ledger: Ledger, drains: Sequence[Drain]) -> Reported:
    """Return what takes reports on storage commitment into the ledger."""
    settlings = {drain.peer.name: drain.settling for drain in drains}
    return lambda report: settle_report(ledger, settlings, report)
