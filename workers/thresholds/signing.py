"""Who signs: this site's Ed25519 key (RFC 8032), and the keys that are believed.

The private key lies in the data folder, readable by its owner alone, and never leaves
it. What is signed begins with what it is, so that no signature serves for another kind.
"""

from collections.abc import Collection
from pathlib import Path
from stat import S_IRWXG, S_IRWXO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dicom_node.errors import Permanent
from dicom_node.files import create_durably
from workers.thresholds.sets import Signature

KEY_FILE = "signing-key.pem"


def own_key(folder: Path) -> Ed25519PrivateKey:
    """Return this site's key; one is made where there is none.

    Raises
    ------
    Permanent
        If the file is no such key, or cannot be read or written.
    """
    path = folder / KEY_FILE
    if not path.exists():
        _make(path)
    return _read(path)


def own_public_key(folder: Path) -> str | None:
    """Return the public part of this site's key, or None where there is no key yet."""
    path = folder / KEY_FILE
    return public(_read(path)) if path.exists() else None


def public(key: Ed25519PrivateKey) -> str:
    """Return the public key, 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def sign(key: Ed25519PrivateKey, kind: str, content: bytes) -> Signature:
    """Return the signature of `content` as a `kind` of thing."""
    signed = key.sign(_framed(kind, content))
    return Signature(key=public(key), value=signed.hex())


def check(
    signature: Signature,
    kind: str,
    content: bytes,
    *,
    trusted: Collection[str],
    where: str,
) -> None:
    """Raise unless somebody who is believed signed `content` as a `kind` of thing.

    Raises
    ------
    Permanent
        If the key is not among `trusted`, or the signature is of something else.
    """
    if signature.key not in trusted:
        raise Permanent(
            f"{where} was signed by the key {signature.key[:16]}..., which is not among "
            "the keys that this site trusts (thresholds.trusted_keys)"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.value), _framed(kind, content))
    except (ValueError, InvalidSignature) as error:
        raise Permanent(
            f"{where} does not verify: its signature is not that of what it says"
        ) from error


def _framed(kind: str, content: bytes) -> bytes:
    return f"pacsight {kind}\n".encode() + content


def _make(path: Path) -> None:
    """Write a new key; where another process was faster, its key stays."""
    text = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    try:
        create_durably(path, text, mode=0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & (S_IRWXG | S_IRWXO):
            raise Permanent(
                f"{path} is open to others than its owner: a key that others may have "
                "read signs nothing any more (chmod 600, if nobody has)"
            )
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise Permanent(f"{path} is not a private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Permanent(f"{path} is not an Ed25519 key")
    return key
