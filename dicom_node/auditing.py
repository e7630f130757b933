"""The audit trail that the settings ask for, put together, started and stopped."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import structlog

from dicom_node.audit.collector import Collector, CollectorSender
from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.messages import Teller
from dicom_node.audit.pseudonym import Pseudonyms, pseudonyms
from dicom_node.audit.syslog import Sender
from dicom_node.audit.trail import AuditTrail
from dicom_node.config import Settings
from dicom_node.domain import Alarm, AuditEvent, Note, SecurityAlert, TrailRead
from dicom_node.errors import Permanent, SettingsError
from dicom_node.peers import Tls
from dicom_node.tls import client_context

log = structlog.get_logger(__name__)


@contextmanager
def audited(settings: Settings, application: str) -> Iterator[Note]:
    """Yield what takes events into the trail, as long as the application runs.

    That it started and stopped is told by the trail itself. Where the settings want no
    trail, what is told is dropped.

    Raises
    ------
    SettingsError
        If the collector's TLS cannot be used.
    Permanent
        If the key of the pseudonyms is damaged.
    """
    if not settings.audit.enabled:
        yield _dropped
        return
    with ExitStack() as stack:
        yield _start(stack, settings, application).note


@contextmanager
def alarmed(settings: Settings, application: str) -> Iterator[None]:
    """Let the trail know where what the block opens is not what it should be."""
    try:
        yield
    except SettingsError:
        raise
    except Permanent as error:
        with audited(settings, application) as note:
            alarm = Alarm.SOFTWARE_CONFIGURATION
            note(SecurityAlert(alarm=alarm, reason=f"it does not start: {error}"))
        raise


def at_once(settings: Settings, application: str) -> Note:
    """Return what writes events of a command, which is over soon: each before it returns.

    The node that runs beside it, or the next one, sends them to the collector. What
    cannot be written is logged.
    """
    if not settings.audit.enabled:
        return _dropped
    folder, teller = audit_folder(settings), _teller(settings, application)

    def note(event: AuditEvent) -> None:
        try:
            folder.open()
            folder.append([teller.message(event, _now()).to_xml()], _now())
        except OSError as error:
            log.error("audit_lost", count=1, reason=error.strerror)  # noqa: TRY400 - it says it all

    return note


def tell_read(settings: Settings) -> None:
    """Tell the trail that somebody reads it, if there is one."""
    folder = audit_folder(settings)
    if folder.files():
        at_once(settings, "audit")(TrailRead(by=_user(), where=folder.path.as_uri()))


def audit_folder(settings: Settings) -> AuditFolder:
    """Return where the trail lies."""
    audit = settings.audit
    return AuditFolder(path=settings.audit_dir, most_bytes=audit.max_file_bytes)


def patient_pseudonyms(settings: Settings) -> Pseudonyms:
    """Return what makes pseudonyms of Patient IDs at this site."""
    return pseudonyms(settings.data_dir / "audit.key")


def _start(stack: ExitStack, settings: Settings, application: str) -> AuditTrail:
    folder = audit_folder(settings)
    sender = _sender(settings, folder)
    trail = AuditTrail(
        folder,
        _teller(settings, application),
        clock=_now,
        keep_days=settings.audit.keep_days,
        collected=sender is not None,
        written=_nothing if sender is None else sender.wake,
    )
    if sender is not None:
        stack.callback(sender.stop)
    stack.callback(trail.stop)
    trail.start()
    if sender is not None:
        sender.start()
    return trail


def _sender(settings: Settings, folder: AuditFolder) -> CollectorSender | None:
    audit = settings.audit
    if not audit.syslog_host:
        return None
    collector = Collector(
        host=audit.syslog_host,
        port=audit.syslog_port,
        context=client_context(audit.tls or Tls()),
    )
    return CollectorSender(collector, folder, Sender(host=socket.gethostname()))


def _teller(settings: Settings, application: str) -> Teller:
    plain = settings.audit.patient_id == "plain"
    return Teller(
        application=application,
        source_id=settings.audit.source_id,
        site=settings.site,
        aets=(settings.dicom.aet,),
        host=socket.gethostname(),
        process=os.getpid(),
        pseudonym=None if plain else patient_pseudonyms(settings).of,
    )


def _user() -> str:
    """Return who runs this process, by name where the system has one."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _now() -> datetime:
    return datetime.now(UTC)


def _dropped(_event: AuditEvent) -> None:
    """Drop an event."""


def _nothing() -> None:
    """Do nothing."""
