"""multipart/related, bytes to parts: RFC 2046 5.1 and RFC 2387, as PS3.18 8.7.1 uses it.

A push parser without I/O: bytes in, events out, nothing kept but a partial
delimiter. python-multipart finds the delimiters; it is made for form-data, which
has the same grammar, and asks for no field names at this level.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from dicom_node.errors import Permanent

BOUNDARY_LENGTH = 70
MOST_HEADERS = 16
LONGEST_HEADER = 4096
MOST_PARTS = 20_000
"""In one message; a study of more instances comes in several."""


class MultipartError(Permanent):
    """Bytes that are no multipart message."""


@dataclass(frozen=True, slots=True)
class PartBegins:
    """The next part, with its headers by lower-case name."""

    headers: Mapping[str, str]

    @property
    def media_type(self) -> str:
        """Return the media type without its parameters, empty where none is stated."""
        return media_type(self.headers.get("content-type", ""))[0]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some more bytes of the part."""

    content: bytes


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete."""


Event = PartBegins | PartData | PartEnds


def media_type(value: str) -> tuple[str, Mapping[str, str]]:
    """Return the media type in lower case, and its parameters."""
    name, options = parse_options_header(value)
    return name.decode("latin-1").lower(), {
        key.decode("latin-1").lower(): text.decode("latin-1")
        for key, text in options.items()
    }


class PartsParser:
    """Turns the chunks of one message into events, however it was cut.

    Parameters
    ----------
    boundary
        As stated in the message's Content-Type.

    Raises
    ------
    MultipartError
        If the boundary is none (RFC 2046 5.1.1).
    """

    def __init__(self, boundary: str) -> None:
        if not 0 < len(boundary) <= BOUNDARY_LENGTH or not boundary.isascii():
            raise MultipartError("the boundary has to be 1 to 70 ASCII characters")
        self._events: list[Event] = []
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._ended = False
        self._parts = 0
        self._parser = MultipartParser(
            boundary.encode("ascii"),
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
            max_header_count=MOST_HEADERS,
            max_header_size=LONGEST_HEADER,
        )

    def feed(self, chunk: bytes) -> list[Event]:
        """Return what the chunk completes.

        Raises
        ------
        MultipartError
            If the bytes are no multipart message with this boundary.
        """
        if self._ended:  # RFC 2046 5.1.1: an epilogue is ignored
            return []
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise MultipartError("the body is no multipart message") from error
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Raise `MultipartError` unless the message came to its end."""
        if not self._ended:
            raise MultipartError("the multipart message has no closing delimiter")

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise MultipartError(f"the message has more than {MOST_PARTS} parts")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        name = self._name.decode("latin-1").strip().lower()
        self._headers[name] = self._value.decode("latin-1").strip()
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self._events.append(PartBegins(self._headers))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _part_end(self) -> None:
        self._events.append(PartEnds())

    def _end(self) -> None:
        self._ended = True
