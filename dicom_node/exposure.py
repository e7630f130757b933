"""Doors that stand open to the network with less protection than they should have.

PS3.15 B.12 wants TLS and both sides identified. A door beyond loopback that has less
stays shut, unless the settings say in so many words that it shall be open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from dicom_node.domain.audited import Alarm, Note, SecurityAlert
from dicom_node.errors import SettingsError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """A door that anybody on the network can come to, and what it lacks.

    Parameters
    ----------
    setting, host
        The setting that opens it, and the address it says.
    lacks
        What is missing, e.g. ``TLS with client certificates``.
    remedy
        What to set instead, as one says it after "set".
    word
        The setting that opens the door all the same, e.g. ``dicom.insecure``.
    insecure
        Whether that setting is true.
    """

    setting: str
    host: str
    lacks: str
    remedy: str
    word: str
    insecure: bool


def check_exposure(doors: Sequence[Exposed], note: Note) -> None:
    """Warn loudly of each door that stands open without what it lacks.

    Raises
    ------
    SettingsError
        If the settings do not say that it shall.
    """
    for door in doors:
        if not door.insecure:
            raise SettingsError(
                f"{door.setting} = {door.host!r} lets the network in without"
                f" {door.lacks}: set {door.remedy}; or, where the network itself is"
                f" protected, {door.word} = true"
            )
    for door in doors:
        reason = f"{door.setting} lets the network in without {door.lacks}: {door.word}"
        log.warning("insecure", host=door.host, reason=reason)
        note(SecurityAlert(alarm=Alarm.SECURITY_CONFIGURATION, reason=reason))
