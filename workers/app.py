"""A worker put together from the settings: model, decoders, ledger, queue."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import structlog

from dicom_node.auditing import alarmed, audited
from dicom_node.config import Settings
from dicom_node.dispatch import (
    QUEUES,
    BrokerDownError,
    CeleryDispatcher,
    celery_app,
)
from dicom_node.domain import Code, Note
from dicom_node.errors import SettingsError
from dicom_node.ledger import open_ledger
from dicom_node.objects import ObjectStore
from dicom_node.wiring import broker_tls
from sr_writer.codes import FINDINGS_REPORT, IMAGING_MEASUREMENT_REPORT
from workers import tasks
from workers.decoding import DecodePool
from workers.encoder import device_kind
from workers.equipping import equip
from workers.inforce import packs_in_force
from workers.pack import Pack
from workers.pipeline import Bench
from workers.presence import present
from workers.watch import Watch, end_this_process

TITLES = {
    "ai-findings": FINDINGS_REPORT,
    "imaging-measurement": IMAGING_MEASUREMENT_REPORT,
}
MOST_DECODERS = 4
LEDGER_PATIENCE_S = 30.0
"""How long a worker that starts waits for the database to start, too."""

log = structlog.get_logger(__name__)


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT: what is in hand is finished, then it ends.

    One process, one GPU: tasks run in this very process (Celery's solo pool), and
    pixels are decoded in processes of its own.
    """
    if not settings.broker_url:
        raise SettingsError(
            "broker_url is not set: name a broker, or use `pacsight up`,"
            " which starts a private one"
        )
    with alarmed(settings, "worker"):
        packs = packs_in_force(settings)
    app = celery_app(settings.broker_address, broker_tls(settings))
    with (
        audited(settings, "worker") as note,
        bench(settings, packs, note=note) as ready,
        closing(
            CeleryDispatcher(settings.broker_address, broker_tls(settings))
        ) as queue,
    ):
        watch = Watch(partial(_waits, queue), end=end_this_process)
        tasks.register(app, ready, watch)
        held = [equipped.pack for equipped in ready.packs.values()]
        for pack in held:
            log.info("pack_ready", pack=pack.name)
        worker = app.Worker(
            pool="solo",
            queues=list(QUEUES),
            loglevel=settings.log.level.upper(),
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
            optimization="fair",
        )
        device = device_kind(settings.worker.device)
        names = tuple(f"{pack.name} {pack.version}" for pack in held)
        with (
            present(ready.ledger, device=device, packs=names, clock=_now),
            watch.running(),
        ):
            worker.start()


def _waits(queue: CeleryDispatcher) -> bool:
    """Return whether a message waits; of other brokers than Redis that is not known."""
    try:
        return queue.is_redis and queue.holding().waits
    except BrokerDownError:
        return False


@contextmanager
def bench(
    settings: Settings, packs: Sequence[Pack], *, note: Note = lambda _: None
) -> Iterator[Bench]:
    """Yield what a worker needs, and put it away at the end.

    Parameters
    ----------
    note
        Takes what the audit trail is told.
    """
    with ExitStack() as stack:
        ledger = open_ledger(
            settings.ledger_address, migrate=False, retry_s=LEDGER_PATIENCE_S
        )
        stack.callback(ledger.close)
        pool = stack.enter_context(decode_pool(settings))
        yield Bench(
            ledger=ledger,
            spool=settings.spool_dir,
            objects=ObjectStore(settings.outbox_dir),
            packs={
                pack.device_uid: equip(
                    pack,
                    device=settings.worker.device,
                    threads=settings.worker.threads,
                    milvus_token=settings.worker.milvus_secret,
                )
                for pack in packs
            },
            decoders=pool,
            site=settings.site,
            title=TITLES[settings.report.title],
            reject_superseded=settings.report.reject_superseded,
            report_outside_scope=settings.report.outside_scope,
            utc_offset_min=_minutes(settings.report.timezone),
            lease_s=settings.work.lease_s,
            clock=_now,
            software=version("pacsight"),
            purpose=_code(settings.report.purpose),
            note=note,
        )


def _code(parts: Sequence[str]) -> Code:
    value, scheme, meaning = parts
    return Code(value=value, scheme=scheme, meaning=meaning)


def decode_pool(settings: Settings) -> DecodePool:
    """Return the decode processes that the settings ask for, starting."""
    return DecodePool(
        processes=settings.worker.decode_processes or _decoders(),
        memory_bytes=settings.worker.decode_memory_bytes,
        timeout_s=settings.worker.decode_timeout_s,
    )


def _decoders() -> int:
    return min(len(os.sched_getaffinity(0)), MOST_DECODERS)


def _minutes(offset: str) -> int:
    """Return ``+HHMM`` in minutes."""
    hours, minutes = int(offset[1:3]), int(offset[3:5])
    return (60 * hours + minutes) * (-1 if offset[0] == "-" else 1)


def _now() -> datetime:
    return datetime.now(UTC)
