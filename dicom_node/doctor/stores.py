"""The ledger, the broker and the workers: what the node leans on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from dicom_node.dispatch import BrokerDownError, BrokerFiles, ask_broker
from dicom_node.doctor.finding import Ailment, Finding, Hop
from dicom_node.errors import PacsightError
from dicom_node.ledger import Ledger, LedgerBusyError, LedgerOutdatedError
from dicom_node.ledger.health import file_of, looked_at, try_to_write
from dicom_node.ledger.workers import WorkerLine, workers

PATIENCE_S = 2.0
SILENT_S = 20.0
"""A worker says every 5 s that it is there; so long after the last word it is gone."""


def look_at_ledger(url: str) -> list[Finding]:
    """Return whether the ledger can be read and written."""
    try:
        file = file_of(url)
        if file is not None and not file.exists():
            return [_ledger(f"there is none at {file}", Ailment.LEDGER_MISSING)]
        with looked_at(url, patience_s=PATIENCE_S) as ledger:
            return [_written(ledger, file)]
    except LedgerOutdatedError as error:
        return [_ledger(str(error), Ailment.LEDGER_OUTDATED)]
    except PacsightError as error:
        locked = "locked" in str(error)
        ailment = Ailment.LEDGER_LOCKED if locked else Ailment.LEDGER_GONE
        return [_ledger(str(error), ailment)]


def look_at_broker(url: str, tls: BrokerFiles | None) -> list[Finding]:
    """Return whether the broker answers."""
    try:
        place = ask_broker(url, tls, timeout_s=PATIENCE_S)
    except BrokerDownError as error:
        said, ailment = str(error), Ailment.BROKER_GONE
        return [Finding(hop=Hop.BROKER, said=said, ailment=ailment)]
    return [Finding(hop=Hop.BROKER, said=f"it answers at {place}")]


def look_at_workers(url: str, *, device: str, now: datetime) -> list[Finding]:
    """Return which workers live, and whether they compute where they should.

    Parameters
    ----------
    device
        Where the settings want models to run: ``auto``, ``cpu`` or ``cuda``.
    """
    try:
        file = file_of(url)
        if file is not None and not file.exists():
            return [_unasked("the ledger, which knows them, is not there")]
        with looked_at(url, patience_s=PATIENCE_S) as ledger, ledger.read() as tx:
            known = workers(tx)
    except PacsightError:
        return [_unasked("the ledger, which knows them, cannot be read")]
    since = now - timedelta(seconds=SILENT_S)
    living = [one for one in known if one.seen_at >= since]
    if not living:
        return [_none_living(known, now)]
    return [_living(one, device) for one in living]


def _written(ledger: Ledger, file: Path | None) -> Finding:
    try:
        try_to_write(ledger, patience_s=PATIENCE_S)
    except LedgerBusyError:
        said = f"somebody kept it locked for longer than {PATIENCE_S:.0f} s"
        return _ledger(said, Ailment.LEDGER_LOCKED)
    return _ledger(f"it can be read and written{f': {file}' if file else ''}")


def _ledger(said: str, ailment: Ailment | None = None) -> Finding:
    return Finding(hop=Hop.LEDGER, said=said, ailment=ailment)


def _unasked(said: str) -> Finding:
    return Finding(hop=Hop.WORKERS, said=said, ailment=Ailment.UNASKED)


def _none_living(known: Sequence[WorkerLine], now: datetime) -> Finding:
    said = "no worker lives: studies are received, and not concluded"
    if known:
        last = max(one.seen_at for one in known)
        said += f"; the last one was seen {_ago(now - last)} ago"
    return Finding(hop=Hop.WORKERS, said=said, ailment=Ailment.NO_WORKER)


def _living(one: WorkerLine, device: str) -> Finding:
    host = one.name.partition(":")[0]
    if device == "cuda" and one.device != "cuda":
        said = f'it computes on {one.device}, worker.device = "cuda" wants a GPU'
        return Finding(hop=Hop.WORKERS, who=host, said=said, ailment=Ailment.NO_GPU)
    said = f"it lives, on {one.device}, with {', '.join(one.packs) or 'no pack'}"
    return Finding(hop=Hop.WORKERS, who=host, said=said)


def _ago(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    minutes = seconds // 60
    return f"{minutes} min" if minutes else f"{seconds} s"
