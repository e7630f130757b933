"""Words that name a patient, unlike all others, and every way in which they may be written.

A mark is random, so that nothing else contains it; it is looked for as the bytes of
several character sets, quoted for URLs, JSON and Python, and in base64 and hexadecimal.
"""

import base64
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from pydicom import Dataset
from pydicom.sequence import Sequence

CHARSETS = ("utf-8", "latin-1", "iso2022_jp", "euc_kr", "utf-16-le", "utf-16-be")
PRIVATE = 0x0099
_KANJI = "ideograms"
_CYRILLIC = "бвгджзклмнпрст"
_LATIN = "äöüßéèñçøå"


@dataclass
class Marks:
    """Random marks, made as they are asked for, and remembered."""

    seed: int
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - no secret

    def word(self, letters: str = "bcdfghjklmnpqrstvwxz") -> str:
        """Return a mark of eight letters that no other text has."""
        made = "".join(self._random.choices(letters, k=8))
        self.made.append(made)
        return made

    def number(self, digits: int = 8) -> str:
        """Return a mark of digits."""
        made = "".join(self._random.choices("123456789", k=digits))
        self.made.append(made)
        return made

    def date(self) -> str:
        """Return a date of birth that no other date is equal to."""
        year, month = self._random.randint(1905, 1919), self._random.randint(1, 12)
        made = f"{year}{month:02}{self._random.randint(1, 28):02}"
        self.made.append(made)
        return made

    def put_into(self, instance: Dataset, charset: str) -> Dataset:
        """Return the instance with marks wherever a person is named or described."""
        letters = {
            "ISO_IR 192": _CYRILLIC,
            "ISO_IR 100": _LATIN,
            "\\ISO 2022 IR 87": _KANJI,
        }
        own = letters.get(charset, "bcdfghjklmnpqrstvwxz")
        instance.SpecificCharacterSet = charset.split("\\")
        ideograms = own is _KANJI
        family = self.word() if ideograms else self.word(own)
        groups = f"={self._kanji()}" if ideograms else ""
        instance.PatientName = f"{family}^{self.word()}{groups}"
        instance.PatientID = f"{self.word()}-{self.number()}"
        instance.PatientBirthDate = self.date()
        instance.AccessionNumber = self.number(12)
        instance.StudyID = self.number()
        for keyword in _TEXTS:
            setattr(instance, keyword, self.word(own if not ideograms else _PLAIN))
        for keyword in _NAMES:
            setattr(instance, keyword, f"{self.word()}^{self.word()}")
        self._put_private(instance)
        return instance

    def _kanji(self) -> str:
        made = "山田" + "".join(self._random.choices("太郎次男花子雪月", k=6))
        self.made.append(made)
        return made

    def _put_private(self, instance: Dataset) -> None:
        block = instance.private_block(PRIVATE, self.word(), create=True)
        block.add_new(1, "LO", self.word())
        block.add_new(2, "UN", self.word().encode())
        inner = Dataset()
        inner.PatientID = self.word()
        inner.ScheduledProcedureStepDescription = self.word()
        instance.RequestAttributesSequence = Sequence([inner])


_PLAIN = "bcdfghjklmnpqrstvwxz"
_TEXTS = (
    "StudyDescription",
    "SeriesDescription",
    "PatientComments",
    "ImageComments",
    "OtherPatientIDs",
    "PatientAddress",
    "ProtocolName",
    "AdditionalPatientHistory",
)
_NAMES = (
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "OtherPatientNames",
)


def forms(mark: str) -> Iterator[bytes]:
    """Yield every way in which a mark may stand in a file."""
    for charset in CHARSETS:
        try:
            plain = mark.encode(charset)
        except UnicodeEncodeError:
            continue
        yield plain
        yield plain.hex().encode()
        yield plain.hex().upper().encode()
        yield from _base64(plain)
    yield quote(mark, safe="").encode()
    yield quote_plus(mark).encode()
    yield json.dumps(mark)[1:-1].encode()
    yield ascii(mark)[1:-1].encode()
    yield repr(mark.encode())[2:-1].encode()


def _base64(plain: bytes) -> Iterator[bytes]:
    """Yield what of it is the same wherever it begins: three ways to be cut."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + plain)
        start = (0, 2, 3)[before]
        rest = (before + len(plain)) % 3
        end = len(text) if not rest else -4
        yield text[start:end].rstrip(b"=")


def found_in(marks: Iterable[str], content: bytes) -> set[str]:
    """Return the marks that the content has in any form."""
    return {mark for mark in marks if any(form in content for form in set(forms(mark)))}
