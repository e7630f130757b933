"""An audit message as syslog carries it: PS3.15 A.6, RFC 5424 and RFC 5425, purely.

Facility 10 (security/authorization) and, for what went well, severity 5; MSGID
``DICOM+RFC3881``; the message is the XML behind a byte order mark. On a stream each
syslog message has its length in front.
"""

import re
from dataclasses import dataclass
from typing import Final

FACILITY: Final = 10
MSGID: Final = "DICOM+RFC3881"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
SEVERITIES: Final = {b"0": 5, b"4": 4, b"8": 3, b"12": 2}
"""By EventOutcomeIndicator: notice, warning, error, critical."""
NOTICE: Final = SEVERITIES[b"0"]
HOST_LENGTH, NAME_LENGTH = 255, 48
NIL: Final = "-"

_AT = re.compile(rb'EventDateTime="([0-9T:.Z+-]+)"')
_OUTCOME = re.compile(rb'EventOutcomeIndicator="(\d+)"')
_PROCESS = re.compile(rb'<ActiveParticipant UserID="(\d{1,10})"[^>]*UserName="pacsight')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who a syslog message says it is from."""

    host: str
    application: str = "pacsight"

    def frame(self, message: bytes) -> bytes:
        """Return an audit message of ours as a frame of RFC 5425."""
        at, outcome = _AT.search(message), _OUTCOME.search(message)
        severity = SEVERITIES.get(outcome[1], NOTICE) if outcome else NOTICE
        when = at[1].decode() if at else NIL
        process = _PROCESS.search(message)
        fields = (
            f"<{FACILITY * 8 + severity}>1",
            when,
            _printable(self.host, HOST_LENGTH),
            _printable(self.application, NAME_LENGTH),
            process[1].decode() if process else NIL,
            MSGID,
            NIL,  # no structured data
        )
        content = " ".join(fields).encode() + b" " + BYTE_ORDER_MARK + message
        return b"%d %b" % (len(content), content)


def is_whole(line: bytes) -> bool:
    """Return whether a line of the trail is a message, and not half of one."""
    return line.startswith(b"<AuditMessage>") and line.endswith(b"</AuditMessage>")


def _printable(text: str, longest: int) -> str:
    """Return the text as RFC 5424 wants names: printable ASCII without spaces."""
    shown = "".join(c if "!" <= c <= "~" else "_" for c in text)
    return shown[:longest] or NIL
