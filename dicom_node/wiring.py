"""The settings as the parts want them: each its own small value, or itself put together."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from dicom_node import stow, verification
from dicom_node.access import is_loopback
from dicom_node.batching import BatchLimits
from dicom_node.callers import identities
from dicom_node.config import Settings, masked
from dicom_node.crowd import Crowd
from dicom_node.dispatch import BrokerFiles
from dicom_node.domain import FrontDoor, Note, Origin, PackCard
from dicom_node.errors import SettingsError
from dicom_node.exposure import Exposed
from dicom_node.handover import Pace
from dicom_node.hearing import Listener
from dicom_node.intake import Intake
from dicom_node.ledger import Ledger
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.purging import Shelf
from dicom_node.lifecycle import Patience
from dicom_node.matching import PackRule, PriorityRule, is_urgent
from dicom_node.objects import ObjectStore
from dicom_node.peers import Peer, Right, Verify, destinations
from dicom_node.purge import Files, Purger, Shelved
from dicom_node.slowness import Slowness
from dicom_node.spool import Capacity, Spool
from dicom_node.tls import server_context
from dicom_node.web.doorman import Doorman, Limits
from dicom_node.web.issuer import SignedTokens
from dicom_node.web.server import HttpServer
from dicom_node.web.site import site


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def priority_rules(settings: Settings) -> tuple[PriorityRule, ...]:
    """Return which instances are urgent: the site's rules, then the peers' own."""
    rules = [rule.rule for rule in settings.priority_rules]
    by_peer = [
        PriorityRule(priority=peer.priority, calling_aet=peer.aet)
        for peer in settings.peers
        if peer.priority is not None and Right.SEND in peer.rights
    ]
    return (*rules, *by_peer)


def callers_urgency(settings: Settings) -> Callable[[str, str], bool]:
    """Return what tells of a calling and a called title whether all of it is urgent."""
    rules = priority_rules(settings)

    def is_caller_urgent(calling: str, called: str) -> bool:
        origin = Origin(door=FrontDoor.DIMSE, calling_aet=calling, called_aet=called)
        return is_urgent(rules, origin)

    return is_caller_urgent


def pack_rules(settings: Settings, packs: Sequence[PackCard]) -> tuple[PackRule, ...]:
    """Return which packs look at which instances.

    Raises
    ------
    SettingsError
        If a rule names a pack that the settings do not.
    """
    names = [pack.name for pack in packs]
    for rule in settings.pack_rules:
        if rule.pack not in names:
            raise SettingsError(
                f"pack rule: there is no pack {rule.pack!r} among those in use"
                f" ({', '.join(names)})"
            )
    return tuple(rule.rule for rule in settings.pack_rules)


def open_spool(settings: Settings) -> Spool:
    """Return the spool, ready to take files in."""
    spool = Spool(
        settings.spool_dir,
        Capacity(
            min_free_bytes=settings.spool.min_free_bytes,
            min_free_inodes=settings.spool.min_free_inodes,
            max_bytes=settings.spool.max_bytes,
            max_incoming_bytes=settings.spool.max_incoming_bytes,
            beside=(settings.data_dir,),
        ),
    )
    spool.open()
    return spool


def new_purger(settings: Settings, ledger: Ledger) -> Purger:
    """Return what removes the files that the settings want to be removed.

    Parameters
    ----------
    ledger
        One that has on the disk what it has committed.
    """
    keep: dict[Shelf, tuple[Files, float | None]] = {
        Shelf.SPOOL: (Spool(settings.spool_dir), settings.retention.spool_s),
        Shelf.OUTBOX: (ObjectStore(settings.outbox_dir), settings.retention.objects_s),
    }
    return Purger(
        ledger,
        {
            shelf: Shelved(files=files, keep_s=keep_s)
            for shelf, (files, keep_s) in keep.items()
            if keep_s is not None
        },
        unasked={p.name for p in settings.peers if p.verify is Verify.NONE},
        clock=now,
    )


def listener(settings: Settings) -> Listener:
    """Return where the node listens for associations, and whom it hears."""
    dicom = settings.dicom
    senders = [peer for peer in settings.peers if Right.SEND in peer.rights]
    known = {peer.aet: peer.called_aets for peer in senders}
    asking = [p for p in settings.peers if Right.QUERY in p.rights and p.aet]
    committing = [p for p in destinations(settings.peers) if p.may_commit]
    return Listener(
        host=dicom.host,
        port=dicom.port if dicom.plain else None,
        tls=dicom.tls.server,
        tls_host=dicom.tls_host,
        tls_port=dicom.tls.port,
        aet=dicom.aet,
        called_aets=settings.called_aets,
        callers=None if dicom.accept_unknown_peers else known,
        reporters={p.aet: frozenset({p.calling_aet or dicom.aet}) for p in committing},
        askers={peer.aet: peer.called_aets for peer in asking},
        identities=identities((p.aet, p.identity) for p in settings.peers if p.aet),
        max_associations=dicom.max_associations,
        stat_associations=dicom.stat_associations,
        is_urgent=callers_urgency(settings),
        min_bytes_per_s=dicom.min_bytes_per_s,
        max_pdu_bytes=dicom.max_pdu_bytes,
        acse_timeout_s=dicom.acse_timeout_s,
        network_timeout_s=dicom.network_timeout_s,
    )


def addresses(peers: Sequence[Peer]) -> tuple[Address, ...]:
    """Return the destinations among the peers, and what each of them wants."""
    return tuple(
        Address(destination=peer.name, objects=peer.objects)
        for peer in destinations(peers)
    )


def pace(settings: Settings) -> Pace:
    """Return how patient the settings want the handover to be."""
    return Pace(
        patience=Patience(
            quiet_s=settings.study.quiet_period_s,
            expected_quiet_s=settings.study.expected_quiet_period_s,
            cap_s=settings.study.complete_cap_s,
        ),
        limits=BatchLimits(
            frames=settings.work.batch_size,
            in_flight=settings.work.max_batches_in_flight,
        ),
        revision_interval_s=settings.study.minimum_revision_interval_s,
    )


def patience(settings: Settings, peer: Peer) -> verification.Patience:
    """Return how long to wait for a destination to have what it says it stored."""
    return verification.Patience(
        commitment_s=settings.delivery.commitment_patience_s,
        missing_s=settings.delivery.verify_age_s,
        silence_s=peer.retry.max_age_s or verification.WEEK_S,
        demanded=peer.verify in {Verify.COMMITMENT, Verify.QUERY},
        longest_wait_s=min(verification.WAITS_S[-1], peer.retry.cap_s),
    )


def broker_tls(settings: Settings) -> BrokerFiles | None:
    """Return the files of TLS towards the broker, None where its URL asks for none."""
    if not settings.broker_address.startswith("rediss"):
        return None
    tls = settings.broker_tls
    return BrokerFiles(ca=tls.ca, certificate=tls.certificate, key=tls.key)


def crowd(settings: Settings) -> Crowd:
    """Return how many HTTP clients are served at once, and how slow they may be."""
    http = settings.http
    return Crowd(
        max_connections=http.max_connections,
        max_requests=http.max_requests,
        slowness=Slowness(patience_s=http.patience_s, bytes_per_s=http.min_bytes_per_s),
    )


def exposed(settings: Settings) -> list[Exposed]:
    """Return the doors for DICOM that the network can come to without a certificate."""
    dicom = settings.dicom
    open_to_all = "TLS and client certificates"
    tls = "dicom.tls.certificate, dicom.tls.key and dicom.tls.ca"
    doors = []
    if dicom.plain and not is_loopback(dicom.host):
        remedy = f"{tls} and dicom.plain = false"
        doors.append(("dicom.host", dicom.host, open_to_all, remedy))
    if dicom.tls.server and not dicom.tls.is_mutual and not is_loopback(dicom.tls_host):
        remedy = 'dicom.tls.ca and dicom.tls.client = "required"'
        doors.append(("dicom.tls.host", dicom.tls_host, "client certificates", remedy))
    return [
        Exposed(
            setting=setting,
            host=host,
            lacks=lacks,
            remedy=remedy,
            word="dicom.insecure",
            insecure=dicom.insecure,
        )
        for setting, host, lacks, remedy in doors
    ]


def http_server(
    settings: Settings, intake: Intake, ledger: Ledger, note: Note
) -> HttpServer:
    """Return what serves STOW-RS, the node's own interface and its page.

    Raises
    ------
    SettingsError
        If a file that TLS needs cannot be used.
    """
    http = settings.http
    context = (
        None if http.tls.server is None else server_context(http.tls.server, "http")
    )
    app = site(
        stow.routes(intake, max_body_bytes=http.max_body_bytes),
        ledger,
        doorman(settings, note),
        settings=lambda: masked(settings),
        clock=now,
        any_host=http.insecure,
    )
    return HttpServer(
        app,
        host=http.host,
        port=http.port,
        context=context,
        trusted_proxies=http.trusted_proxies,
        crowd=crowd(settings),
    )


def doorman(settings: Settings, note: Note) -> Doorman:
    """Return who lets requests in, and whom."""
    http = settings.http
    issuer = http.oidc.trusted
    return Doorman(
        service_tokens=http.tokens,
        issuer=None if issuer is None else SignedTokens(issuer),
        limits=Limits(
            requests_per_minute=http.requests_per_minute,
            failures_per_minute=http.failures_per_minute,
        ),
        note=note,
    )


def exposed_http(settings: Settings) -> list[Exposed]:
    """Return the door for HTTP, if the network can come to it as it should not."""
    http = settings.http
    lacking = {
        "TLS": ("http.tls.certificate and http.tls.key", http.tls.server is None),
        "authentication": ("http.tokens or http.oidc", not http.asks),
    }
    missing = {what: how for what, (how, lacks) in lacking.items() if lacks}
    if is_loopback(http.host) or not missing:
        return []
    return [
        Exposed(
            setting="http.host",
            host=http.host,
            lacks=" and ".join(missing),
            remedy=", and ".join(missing.values()),
            word="http.insecure",
            insecure=http.insecure,
        )
    ]
