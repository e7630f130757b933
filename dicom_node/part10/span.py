"""The bytes of a data set, read forward: from a file as they lie, or inflated.

PS3.5 A.5 (deflated). Memory is bounded whatever is read or skipped.
"""

import zlib
from io import BufferedReader, RawIOBase
from typing import Any, NoReturn

from dicom_node.errors import CANNOT_UNDERSTAND, Rejected

BUFFER = 1 << 16
"""So much is read ahead: the headers of most images."""
LONGEST_VALUE = 1 << 20
"""Longer values are not given to the caller."""
MOST_INFLATED = 16 << 30
CHUNK = 1 << 16
TRUNCATED = "truncated: it ends within an element"


class Span:
    """A file from where it stands: read forward, never beyond its end."""

    def __init__(self, file: "BufferedReader[Any]", at: int, size: int) -> None:
        self._file = file
        self._size = size
        self._kept: list[bytes] | None = None
        self._room = 0
        self.at = at

    def take(self, count: int) -> bytes:
        """Return the next bytes, all of them."""
        self.at += count
        data = self._file.read(count) if self.at <= self._size else b""
        if len(data) != count:
            reject(TRUNCATED)
        if self._kept is not None:
            self._keep(data)
        return data

    def skip(self, count: int) -> None:
        """Go on without looking at the next bytes; they have to be there."""
        if self._kept is not None and count <= self._room:
            self.take(count)
            return
        self._kept = None
        self.at += count
        if self.at > self._size:
            reject(TRUNCATED)
        self._pass(count)

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end, and stay where we are."""
        data = self._file.read(count)
        self._file.seek(self.at)
        return data

    def ahead(self) -> bytes:
        """Return what is read ahead, however much that is."""
        return self._file.peek()

    def at_end(self) -> bool:
        """Return whether nothing follows."""
        return self.at == self._size

    def rest_is_zero(self) -> bool:
        """Return whether only zeros follow; go to the end."""
        while data := self._file.read(CHUNK):
            if data.strip(b"\0"):
                return False
        self.at = self._size
        return True

    def record(self) -> None:
        """Begin to keep what is passed, as long as it is not too long."""
        self._kept, self._room = [], LONGEST_VALUE

    def recorded(self) -> list[bytes] | None:
        """Return what was passed since, piece by piece, or None if too long."""
        kept, self._kept = self._kept, None
        return kept

    def _pass(self, count: int) -> None:  # noqa: ARG002 - where it cannot be sought
        self._file.seek(self.at)

    def _keep(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(data)


class Inflated(RawIOBase):
    """The inflated bytes of the rest of a file, in bounded memory, read once."""

    def __init__(self, file: "BufferedReader[Any]") -> None:
        self._source = file
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._source.read(CHUNK)
            try:
                inflated = self._inflate.decompress(data, len(buffer))
            except zlib.error:
                reject("the deflated data set is damaged")
            if inflated:
                buffer[: len(inflated)] = inflated
                return len(inflated)
            if not data:
                reject("truncated: the deflated data set has no end")
        return 0


class InflatedSpan(Span):
    """A deflated data set, inflated while it is walked over (PS3.5 A.5)."""

    def __init__(self, file: "BufferedReader[Any]") -> None:
        super().__init__(BufferedReader(Inflated(file), BUFFER), 0, MOST_INFLATED)

    def peek(self, count: int) -> bytes:
        return self._file.peek(count)[:count]

    def at_end(self) -> bool:
        return not self.peek(1)

    def _pass(self, count: int) -> None:
        while count > 0:
            passed = len(self._file.read(min(count, CHUNK)))
            if not passed:
                reject(TRUNCATED)
            count -= passed


def reject(comment: str) -> NoReturn:
    """Raise `Rejected`: the data set cannot be understood, and this is why."""
    raise Rejected(comment, status=CANNOT_UNDERSTAND)
