"""What stands for a Patient ID in the trail: HMAC-SHA-256 (RFC 2104) with a site's key.

The same ID has the same pseudonym, so that what happened to a patient can be found by
who knows the ID and has the key. Without the key a list of all IDs tells nothing. The
key lies beside the trail's folder, not in it: a copy of the trail holds none.
"""

import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import Permanent
from dicom_node.files import create_durably

KEY_BYTES = 32
KEY_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes pseudonyms with one key."""

    key: bytes = field(repr=False)

    def of(self, patient_id: str) -> str:
        """Return the pseudonym of a Patient ID: 64 hexadecimal digits.

        Leading and trailing spaces are not significant (PS3.5 6.2, LO).
        """
        known = patient_id.strip().encode(errors="surrogatepass")
        return hmac.digest(self.key, known, "sha256").hex()


def pseudonyms(path: Path) -> Pseudonyms:
    """Return what makes pseudonyms, with the key of that file; it is made once.

    Raises
    ------
    Permanent
        If the file holds no key of ours.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _new_key(path)
    if len(key) != KEY_BYTES:
        raise Permanent(
            f"{path} does not hold the {KEY_BYTES} bytes of the audit trail's key:"
            " restore it, or pseudonyms will not match those of before"
        )
    return Pseudonyms(key)


def _new_key(path: Path) -> bytes:
    with suppress(FileExistsError):  # another process was first
        create_durably(path, secrets.token_bytes(KEY_BYTES), mode=KEY_MODE)
    return path.read_bytes()
