"""Which questions the doctor asks, by the settings: in the order of the flow."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial

from dicom_node.broker import broker_url
from dicom_node.config import Settings
from dicom_node.doctor import Ailment, Check, Finding, Hop
from dicom_node.doctor.doors import look_at_dicom, look_at_dicom_tls, look_at_http
from dicom_node.doctor.keeping import look_at_debts, look_by_storing
from dicom_node.doctor.neighbours import is_called, look_at_neighbour
from dicom_node.doctor.places import look_at_folder
from dicom_node.doctor.services import (
    look_at_destination_folder,
    look_at_services,
    services_of,
)
from dicom_node.doctor.stores import (
    look_at_broker,
    look_at_ledger,
    look_at_workers,
)
from dicom_node.errors import PacsightError, SettingsError
from dicom_node.peers import Peer, Via
from dicom_node.wiring import broker_tls
from workers.inforce import threshold_store
from workers.pack import locate, open_pack

PACK_LIMIT_S = 60.0
"""A pack is read to its last byte."""
STORE_LIMIT_S = 20.0


def checks(
    settings: Settings,
    *,
    peers: Sequence[str],
    store_test: bool,
    now: Callable[[], datetime],
) -> list[Check]:
    """Return what is to be asked.

    Parameters
    ----------
    peers
        Names of those that alone are asked; empty for everything.

    Raises
    ------
    SettingsError
        If there is no peer of such a name.
    """
    unknown = set(peers) - {peer.name for peer in settings.peers}
    if unknown:
        raise SettingsError(f"there is no peer {min(unknown)!r}")
    asked = [peer for peer in settings.peers if not peers or peer.name in peers]
    own = [] if peers else list(_own(settings, now))
    return [*own, *_neighbours(settings, asked, store_test=store_test)]


def _own(settings: Settings, now: Callable[[], datetime]) -> Iterator[Check]:
    room = settings.spool.min_free_bytes
    folders = {"data": settings.data_dir, "spool": settings.spool_dir}
    for who, folder in folders.items():
        ask = partial(look_at_folder, who, folder, min_free_bytes=room)
        yield Check(hop=Hop.FOLDERS, who=who, ask=ask)
    ledger = settings.ledger_address
    yield Check(hop=Hop.LEDGER, ask=partial(look_at_ledger, ledger))
    broker = settings.broker_address or broker_url(settings.data_dir / "redis.sock")
    tls = broker_tls(settings)
    yield Check(hop=Hop.BROKER, ask=partial(look_at_broker, broker, tls))
    device = settings.worker.device
    yield Check(
        hop=Hop.WORKERS,
        ask=lambda: look_at_workers(ledger, device=device, now=now()),
    )
    if device == "cuda":
        yield Check(hop=Hop.WORKERS, who="GPU", ask=_gpu, limit_s=PACK_LIMIT_S)
    for name in settings.packs:
        ask = partial(_pack, name, settings)
        yield Check(hop=Hop.PACKS, who=name, ask=ask, limit_s=PACK_LIMIT_S)
    yield from _doors(settings)


def _doors(settings: Settings) -> Iterator[Check]:
    dicom, http = settings.dicom, settings.http
    if dicom.plain:
        ask = partial(look_at_dicom, dicom.host, dicom.port, dicom.aet)
        yield Check(hop=Hop.DOORS, who="DICOM", ask=ask)
    if dicom.tls.server is not None:
        ask = partial(look_at_dicom_tls, dicom.tls_host, dicom.tls.port)
        yield Check(hop=Hop.DOORS, who="DICOM over TLS", ask=ask)
    over_tls = http.tls.server is not None
    ask = partial(look_at_http, http.host, http.port, tls=over_tls)
    yield Check(hop=Hop.DOORS, who="HTTP", ask=ask)


def _neighbours(
    settings: Settings, peers: Sequence[Peer], *, store_test: bool
) -> Iterator[Check]:
    caller = settings.caller
    for peer in peers:
        for ask in _questions(peer, settings):
            yield Check(hop=Hop.PEERS, who=peer.name, ask=ask)
        if store_test and peer.is_destination:
            ask = partial(look_by_storing, peer, caller)
            yield Check(hop=Hop.PEERS, who=peer.name, ask=ask, limit_s=STORE_LIMIT_S)


def _questions(
    peer: Peer, settings: Settings
) -> Iterator[Callable[[], Sequence[Finding]]]:
    """Yield what a peer is asked, by what the node does with it."""
    if is_called(peer):
        yield partial(look_at_neighbour, peer, settings.caller)
    if services_of(peer):
        yield partial(look_at_services, peer)
    if peer.is_destination and peer.via is Via.FOLDER:
        yield partial(look_at_destination_folder, peer)
    if peer.is_destination:
        yield partial(look_at_debts, settings.ledger_address, peer)
    elif not is_called(peer) and not services_of(peer):
        said = "it only calls us: there is nothing to ask"
        yield lambda: [Finding(hop=Hop.PEERS, who=peer.name, said=said)]


def _pack(name: str, settings: Settings) -> list[Finding]:
    """Return whether a pack is what its manifest says, to its last byte."""
    try:
        pack = open_pack(locate(name))
        threshold_store(settings).in_force(pack.name, pack.version, pack.digest)
    except PacsightError as error:
        said, ailment = str(error), Ailment.PACK
        return [Finding(hop=Hop.PACKS, who=name, said=said, ailment=ailment)]
    return [Finding(hop=Hop.PACKS, who=name, said=f"{pack.version} verifies")]


def _gpu() -> list[Finding]:
    """Return whether this machine has a GPU; where no model runs, nobody asks."""
    try:
        from workers.encoder import device_kind
    except ImportError:
        said = "no worker can run on this machine: torch is not installed"
        return [Finding(hop=Hop.WORKERS, who="GPU", said=said)]
    try:
        device_kind("cuda")
    except PacsightError as error:
        said, ailment = str(error), Ailment.NO_GPU
        return [Finding(hop=Hop.WORKERS, who="GPU", said=said, ailment=ailment)]
    return [Finding(hop=Hop.WORKERS, who="GPU", said="torch can use it")]
